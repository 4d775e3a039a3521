"""The invoice on paper has everything the law asks for, in both languages, and looks the same."""

# ruff: noqa: RUF001 - the en dashes are those of the printed page

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from aurora.core.money import Language
from aurora.features.invoices.document import (
    MAX_LINES,
    TEMPLATE,
    InvoiceIncomplete,
    InvoiceTooLong,
    invoice_document,
    invoice_pdf,
    invoice_pdf_async,
)
from aurora.features.invoices.writing import Writer

LANGUAGES: tuple[Language, ...] = ("nb", "en")

SELLER = {
    "name": "Nordlys Data AS",
    "org_number": "923609016",
    "vat_registered": True,
    "in_business_register": True,
    "address": "Storgata 12",
    "postal_code": "9008",
    "city": "Tromsø",
    "country": "NO",
    "email": "faktura@nordlysdata.example",
    "phone": "+47 77 00 00 00",
    "website": "nordlysdata.example",
    "bank_account": "15034012345",
    "iban": "NO9315034012345",
    "bic": "DNBANOKK",
}
BUYER = {
    "name": "Lyngen Fjordhotell AS",
    "org_number": "987654325",
    "vat_number": "NO987654325MVA",
    "address": "Fjordveien 4",
    "postal_code": "9060",
    "city": "Lyngseidet",
    "country": "NO",
    "email": "post@lyngenfjord.example",
}
GERMAN_BUYER = {
    **BUYER,
    "name": "Arctic Journeys GmbH",
    "org_number": None,
    "vat_number": "DE123456788",
    "address": "Hafenstraße 9",
    "postal_code": "20457",
    "city": "Hamburg",
    "country": "DE",
}


def a_line(description: str = "Aurora Premium", **changes: Any) -> dict[str, Any]:
    line = {
        "description": description,
        "quantity": Decimal(1),
        "unit": "month",
        "unit_price": Decimal("7000.00"),
        "amount": Decimal("7000.00"),
        "tax_rate": Decimal(25),
        "tax_category": "S",
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "detail": None,
    }
    return line | changes


def an_invoice(**changes: Any) -> dict[str, Any]:
    overage = a_line(
        "Visninger utover abonnementet",
        quantity=Decimal(11),
        unit="thousand",
        unit_price=Decimal("50.00"),
        amount=Decimal("550.00"),
        detail="Påbegynte tusen",
        period_start=date(2025, 12, 1),
        period_end=date(2025, 12, 31),
    )
    invoice = {
        "invoice_number": "INV-2026-000001",
        "kind": "invoice",
        "status": "sent",
        "is_specimen": False,
        "invoice_date": date(2026, 1, 31),
        "due_date": date(2026, 2, 14),
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "currency": "NOK",
        "kid": "0000420000015",
        "invoice_reference": None,
        "seller": SELLER,
        "buyer": BUYER,
        "line_items": [a_line(), overage],
        "tax_lines": [
            {
                "category": "S",
                "rate": Decimal(25),
                "taxable": Decimal("7550.00"),
                "tax": Decimal("1887.50"),
                "reason": None,
            }
        ],
        "subtotal": Decimal("7550.00"),
        "tax_amount": Decimal("1887.50"),
        "total": Decimal("9437.50"),
        "notes": [],
    }
    return invoice | changes


def a_credit_note(**changes: Any) -> dict[str, Any]:
    return an_invoice(
        kind="credit_note",
        invoice_number="CN-2026-000003",
        invoice_reference="INV-2026-000001",
        **changes,
    )


def pages_of(document: bytes) -> list[str]:
    pages = PdfReader(io.BytesIO(document)).pages
    return [page.extract_text().replace("\u00a0", " ") for page in pages]


def text_of(invoice: Mapping[str, Any], language: Language = "nb") -> str:
    return "\n".join(pages_of(invoice_pdf(invoice, language)))


def missing_from(text: str, expected: list[str]) -> list[str]:
    return [element for element in expected if element not in text]


STATUTORY: dict[Language, list[str]] = {
    "nb": [
        "Faktura",
        "Fakturanummer INV-2026-000001",
        "Fakturadato 31. januar 2026",
        "Forfallsdato 14. februar 2026",
        "Leveringsperiode 1.–31. januar 2026",
        "Leveringssted Elektronisk levering",
        "Nordlys Data AS",
        "Storgata 12, 9008 Tromsø",
        "Org.nr. 923 609 016 MVA",
        "Foretaksregisteret",
        "Lyngen Fjordhotell AS",
        "Fjordveien 4",
        "9060 Lyngseidet",
        "Org.nr. 987 654 325",
        "Aurora Premium",
        "1 måned 7 000,00 25 % 7 000,00",
        "Visninger utover abonnementet",
        "Påbegynte tusen",
        "1.–31. desember 2025",
        "11 tusen 50,00 25 % 550,00",
        "25 % 7 550,00 1 887,50",
        "Sum uten MVA 7 550,00 kr",
        "MVA 25 % 1 887,50 kr",
        "Sum med MVA 9 437,50 kr",
        "Kontonummer",
        "1503 40 12345",
        "KID",
        "0000420000015",
        "Side 1 av 1",
    ],
    "en": [
        "Invoice",
        "Invoice number INV-2026-000001",
        "Invoice date 31 January 2026",
        "Due date 14 February 2026",
        "Delivery period 1–31 January 2026",
        "Place of delivery Electronic delivery",
        "Nordlys Data AS",
        "Storgata 12, 9008 Tromsø",
        "Org. no. 923 609 016 MVA",
        "Foretaksregisteret",
        "Lyngen Fjordhotell AS",
        "Org. no. 987 654 325",
        "1 month 7,000.00 25% 7,000.00",
        "1–31 December 2025",
        "11 thousand 50.00 25% 550.00",
        "25% 7,550.00 1,887.50",
        "Total excl. VAT NOK 7,550.00",
        "VAT 25% NOK 1,887.50",
        "Total incl. VAT NOK 9,437.50",
        "1503 40 12345",
        "0000420000015",
        "IBAN NO93 1503 4012 345",
        "BIC/SWIFT DNBANOKK",
        "Page 1 of 1",
    ],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_invoice_shows_every_statutory_element(language: Language) -> None:
    assert missing_from(text_of(an_invoice(), language), STATUTORY[language]) == []


def test_a_seller_outside_the_registers_claims_neither() -> None:
    seller = SELLER | {"vat_registered": False, "in_business_register": False}
    text = text_of(an_invoice(seller=seller))
    assert "923 609 016\n" in text
    assert "923 609 016 MVA" not in text
    assert "Foretaksregisteret" not in text


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("nb", ["Kreditnota", "CN-2026-000003", "Gjelder faktura INV-2026-000001"]),
        ("en", ["Credit note", "CN-2026-000003", "Credits invoice INV-2026-000001"]),
    ],
)
def test_a_credit_note_names_its_invoice_and_asks_for_nothing(
    language: Language, expected: list[str]
) -> None:
    text = text_of(a_credit_note(), language)
    assert missing_from(text, expected) == []
    assert "Kontonummer" not in text
    assert "Account number" not in text
    assert "0000420000015" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_export_says_why_there_is_no_tax(language: Language) -> None:
    reason = "Fritatt, mval. § 6-22 andre ledd; Art. 196"
    invoice = an_invoice(
        buyer=GERMAN_BUYER,
        line_items=[a_line(tax_rate=Decimal(0), tax_category="G")],
        tax_lines=[
            {
                "category": "G",
                "rate": Decimal(0),
                "taxable": Decimal(7000),
                "tax": Decimal(0),
                "reason": reason,
            }
        ],
        subtotal=Decimal(7000),
        tax_amount=Decimal(0),
        total=Decimal(7000),
    )
    text = text_of(invoice, language)
    assert reason in text
    assert "DE123456788" in text
    assert {"nb": "Tyskland", "en": "Germany"}[language] in text
    assert {"nb": "0 % 7 000,00 0,00", "en": "0% 7,000.00 0.00"}[language] in text


def test_each_rate_has_its_own_basis_and_tax() -> None:
    rates = [(Decimal(25), "100.00", "25.00"), (Decimal(15), "200.00", "30.00")]
    lines = [
        {"category": "S", "rate": rate, "taxable": Decimal(basis), "tax": Decimal(tax)}
        | {"reason": None}
        for rate, basis, tax in rates
    ]
    text = text_of(an_invoice(tax_lines=lines))
    assert missing_from(text, ["25 % 100,00 25,00", "15 % 200,00 30,00", "MVA 15 % 30,00 kr"]) == []


def test_domestic_reverse_charge_is_said_without_being_asked() -> None:
    line = {"category": "AE", "rate": Decimal(0), "taxable": Decimal(1), "tax": Decimal(0)}
    assert "Omvendt avgiftsplikt" in text_of(an_invoice(tax_lines=[line | {"reason": None}]))


def test_foreign_currency_shows_the_tax_in_nok_or_there_is_no_invoice() -> None:
    # Bokføringsforskriften § 5-1-1: the tax is stated in NOK whatever the currency.
    with pytest.raises(InvoiceIncomplete, match="tax_amount_nok"):
        invoice_pdf(an_invoice(currency="EUR"), "nb")
    text = text_of(an_invoice(currency="EUR", tax_amount_nok=Decimal("22101.13")))
    assert "MVA i norske kroner 22 101,13 kr" in text
    assert "Sum med MVA 9 437,50 EUR" in text


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"invoice_number": None}, "invoice_number"),
        ({"kind": "credit_note"}, "invoice_reference"),
        ({"seller": SELLER | {"org_number": ""}}, "seller.org_number"),
        ({"seller": SELLER | {"name": None}}, "seller.name"),
        ({"buyer": BUYER | {"name": ""}}, "buyer.name"),
        ({"buyer": BUYER | {"address": None, "org_number": None}}, "buyer.address"),
        ({"line_items": []}, "line_items"),
    ],
)
def test_an_invoice_lacking_a_statutory_element_is_not_made(
    changes: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvoiceIncomplete) as caught:
        invoice_document(an_invoice(**changes), "nb")
    assert caught.value.facts["missing"] == [name]


def test_empty_optional_fields_leave_no_trace() -> None:
    nothing: dict[str, None] = dict.fromkeys(("email", "phone", "website", "iban", "bic"))
    seller = SELLER | nothing | {"bank_account": None, "address": None}
    buyer = BUYER | dict.fromkeys(("org_number", "vat_number", "email", "postal_code", "city"))
    text = text_of(an_invoice(seller=seller, buyer=buyer, kid=""))
    assert "None" not in text
    assert "IBAN" not in text
    assert "KID" not in text


@pytest.mark.parametrize(
    ("language", "mark"),
    [
        ("nb", "EKSEMPEL – ikke et gyldig salgsdokument"),
        ("en", "SPECIMEN – not a valid invoice"),
    ],
)
def test_a_specimen_is_marked_on_every_page_and_in_the_title(language: Language, mark: str) -> None:
    lines = [a_line(f"Linje {number}") for number in range(60)]
    document = invoice_pdf(an_invoice(is_specimen=True, line_items=lines), language)
    assert all(mark in page for page in pages_of(document))
    metadata = PdfReader(io.BytesIO(document)).metadata
    assert metadata is not None
    assert metadata.title is not None
    assert metadata.title.startswith(mark)
    assert mark not in text_of(an_invoice(), language)


def test_a_draft_has_no_number_and_says_so() -> None:
    text = text_of(an_invoice(status="draft", invoice_number=None))
    assert "UTKAST – ikke et gyldig salgsdokument" in text
    assert "Fakturanummer Utkast" in text


def test_payment_status_never_changes_an_issued_document() -> None:
    statuses = ("sent", "paid", "overdue")
    documents = {invoice_pdf(an_invoice(status=status), "nb") for status in statuses}
    assert len(documents) == 1


def test_sixty_lines_take_three_pages_with_the_header_on_each() -> None:
    lines = [a_line(f"Widget {number:02}") for number in range(1, 61)]
    pages = pages_of(invoice_pdf(an_invoice(line_items=lines), "nb"))
    assert len(pages) == 3
    for number, page in enumerate(pages, start=1):
        assert "Beskrivelse Antall Enhet Pris MVA Beløp NOK" in page
        assert f"Side {number} av 3" in page
        assert "INV-2026-000001" in page
    text = "\n".join(pages)
    assert [text.count(f"Widget {number:02}") for number in range(1, 61)] == [1] * 60


def test_a_line_stays_whole_on_its_page() -> None:
    lines = [a_line(f"Widget {number:02}", detail=f"Detalj {number:02}") for number in range(50)]
    for length in range(1, 9):  # a longer address moves the place where the page ends
        buyer = BUYER | {"address": "\n".join(f"Etasje {floor}" for floor in range(length))}
        for page in pages_of(invoice_pdf(an_invoice(buyer=buyer, line_items=lines), "nb")):
            assert page.count("Widget ") == page.count("Detalj ")


HOSTILE = [
    '#panic("x") #eval("1") #sys.inputs',
    "*bold* _emphasis_ = heading",
    "$ x^2 $ \\ \\u{41} `code` ``` raw ```",
    "@ref <label> // comment /* more */ ~ -- --- ... <= -> https://example.com",
    "'quoted' \"twice\" [content] {code} #{1 + 1}",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markup_in_any_field_is_shown_and_never_evaluated(hostile: str) -> None:
    invoice = an_invoice(
        seller=SELLER | {"name": hostile, "address": hostile},
        buyer=BUYER | {"name": hostile, "address": hostile},
        line_items=[a_line(hostile, detail=hostile)],
        invoice_reference=hostile,
        notes=[hostile],
    )
    fields = 8
    # Lines break where the column ends; the characters are all there and in order.
    text = "".join(text_of(invoice).split())
    assert text.count("".join(hostile.split())) == fields


def test_emoji_and_right_to_left_text_do_not_stop_an_invoice() -> None:
    lines = [a_line("Hotell 🌌 Polaris"), a_line("فندق 12"), a_line("מלון \u202e12")]
    text = text_of(an_invoice(line_items=lines))
    assert "Hotell \ufffd Polaris" in text
    assert "\u202e" not in text
    assert set("فندق") <= set(text)
    assert set("מלון") <= set(text)


@pytest.mark.parametrize("description", ["A" * 5_000, "ord " * 1_250])
def test_five_thousand_characters_flow_over_pages_inside_their_column(description: str) -> None:
    document = invoice_pdf(an_invoice(line_items=[a_line(description)]), "nb")
    letters = "".join(itertools.chain.from_iterable(pages_of(document)))
    assert letters.count(description[0]) >= description.count(description[0])
    lines = [line for page in pages_of(document) for line in page.splitlines()]
    assert max(len(line) for line in lines if line.startswith(description[:3])) < 90


def test_an_invoice_may_not_have_more_lines_than_the_limit() -> None:
    with pytest.raises(InvoiceTooLong):
        invoice_document(an_invoice(line_items=[a_line()] * (MAX_LINES + 1)), "nb")


def test_the_same_invoice_gives_the_same_bytes_in_a_fresh_process() -> None:
    script = (
        "import runpy, sys, hashlib; names = runpy.run_path(sys.argv[1]);"
        "print(hashlib.sha256(names['invoice_pdf'](names['an_invoice'](), 'nb')).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    here = invoice_pdf(an_invoice(), "nb")
    assert here == invoice_pdf(an_invoice(), "nb")
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


async def test_the_async_door_gives_the_same_bytes_and_carries_the_electronic_invoice() -> None:
    files = {"INV-2026-000001.xml": b"<Invoice/>"}
    document = await invoice_pdf_async(an_invoice(), "nb", attachments=files)
    assert document == invoice_pdf(an_invoice(), "nb", attachments=files)
    attached = PdfReader(io.BytesIO(document)).attachments
    assert {name: content[0] for name, content in attached.items()} == files


@pytest.mark.parametrize(
    ("first", "last", "nb", "en"),
    [
        ((2026, 1, 1), (2026, 1, 1), "1. januar 2026", "1 January 2026"),
        ((2026, 1, 1), (2026, 1, 31), "1.–31. januar 2026", "1–31 January 2026"),
        (
            *((2026, 1, 15), (2026, 2, 14)),
            *("15. januar – 14. februar 2026", "15 January – 14 February 2026"),
        ),
        (
            *((2025, 12, 15), (2026, 1, 14)),
            *("15. desember 2025 – 14. januar 2026", "15 December 2025 – 14 January 2026"),
        ),
    ],
)
def test_a_period_says_nothing_twice(
    first: tuple[int, int, int], last: tuple[int, int, int], nb: str, en: str
) -> None:
    written = {
        language: Writer(language, "NOK").period(date(*first), date(*last)).replace("\u00a0", " ")
        for language in LANGUAGES
    }
    assert written == {"nb": nb, "en": en}


@given(st.decimals(-(10**9), 10**9, places=4, allow_nan=False, allow_infinity=False))
def test_a_written_figure_reads_back_as_the_same_number(value: Decimal) -> None:
    nb = Writer("nb", "NOK").figure(value, 2)
    assert Decimal(nb.replace("\u00a0", "").replace(",", ".").replace("\u2212", "-")) == value
    en = Writer("en", "NOK").figure(value, 2)
    assert Decimal(en.replace(",", "")) == value
    assert len(en.partition(".")[2]) >= 2


def test_both_languages_have_the_same_words_with_the_same_places_to_fill() -> None:
    words = json.loads(TEMPLATE.with_name("words.json").read_text(encoding="utf-8"))
    places = {
        language: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in entries.items()}
        for language, entries in words.items()
    }
    assert places["nb"] == places["en"]
