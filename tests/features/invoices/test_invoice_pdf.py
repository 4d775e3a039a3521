"""The invoice on paper has everything the law asks for, in both languages."""

# ruff: noqa: RUF001 - the en dashes are those of the printed page

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from pypdf import PdfReader
from tests.features.invoices.printed import (
    BUYER,
    GERMAN_BUYER,
    LANGUAGES,
    SELLER,
    a_credit_note,
    a_line,
    an_invoice,
    missing_from,
    pages_of,
    text_of,
)

from aurora.core.money import Language
from aurora.features.invoices.document import InvoiceIncomplete, invoice_document, invoice_pdf

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


def test_who_pays_in_another_currency_is_told_the_iban_first() -> None:
    kroner = invoice_document(an_invoice(), "nb")["payment"]
    euros = invoice_document(an_invoice(currency="EUR", tax_amount_nok=Decimal(1)), "nb")["payment"]
    assert [each["label"] for each in kroner["main"]][:2] == ["Kontonummer", "KID"]
    assert [each["label"] for each in euros["main"]][:2] == ["IBAN", "KID"]
    assert [each["label"] for each in euros["abroad"]] == ["Kontonummer", "BIC/SWIFT"]
    without = an_invoice(currency="EUR", tax_amount_nok=Decimal(1), seller=SELLER | {"iban": None})
    assert invoice_document(without, "nb")["payment"]["main"][0]["label"] == "Kontonummer"
