"""Whatever stands in an invoice, its pages stay whole, and the same invoice looks the same."""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader
from tests.features.invoices import printed
from tests.features.invoices.printed import BUYER, SELLER, a_line, an_invoice, pages_of, text_of

from aurora.core.money import Language
from aurora.features.invoices import document
from aurora.features.invoices.document import (
    MAX_LINES,
    InvoiceTooLong,
    invoice_document,
    invoice_pdf,
    invoice_pdf_async,
)


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
        [sys.executable, "-c", script, printed.__file__],
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


def height_of(document: bytes, page: int, word: str) -> float:
    """How far above the foot of its page a word is, in points."""
    found: list[float] = []

    def look(text: str, ctm: list[float], tm: list[float], *_: object) -> None:
        if word in text:
            found.append(tm[4] * ctm[1] + tm[5] * ctm[3] + ctm[5])

    PdfReader(io.BytesIO(document)).pages[page].extract_text(visitor_text=look)
    return found[0]


def test_what_is_to_be_paid_is_at_the_foot_and_alone_on_a_page_at_its_top() -> None:
    lines = [a_line(f"Widget {number:02}") for number in range(13)]
    one, two = an_invoice(), an_invoice(line_items=lines)
    page_height = 842
    assert height_of(invoice_pdf(one, "nb"), 0, "Betaling") < page_height / 4
    document = invoice_pdf(two, "nb")
    assert ["Betaling" in page for page in pages_of(document)] == [False, True]
    assert height_of(document, 1, "Betaling") > page_height * 3 / 4


def lines_beside_the_totals(count: int, language: Language = "nb") -> int:
    """How many lines stand on the page of the totals; it repeats the header above them."""
    pages = pages_of(invoice_pdf(an_invoice(line_items=[a_line()] * count), language))
    total = {"nb": "Sum med MVA", "en": "Total incl. VAT"}[language]
    (page,) = (page for page in pages if total in page)
    return page.count("Aurora Premium") if NAMES[language] in page else 0


NAMES: dict[Language, str] = {"nb": "Beskrivelse", "en": "Description"}


@pytest.mark.parametrize("count", [*range(5, 24), 40, 200])
@pytest.mark.parametrize("language", NAMES)
def test_the_totals_never_stand_on_a_page_without_lines(count: int, language: Language) -> None:
    assert lines_beside_the_totals(count, language) >= 2


def test_totals_that_may_leave_their_lines_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pdf"
    shutil.copytree(document.TEMPLATE.parent, folder)
    parts = (folder / "parts.typ").read_text()
    # The mutant: no rows are kept together.
    assert "let keeps = (" in parts
    (folder / "parts.typ").write_text(parts.replace("let keeps = (", "let keeps = false and ("))
    monkeypatch.setattr(document, "TEMPLATE", folder / document.TEMPLATE.name)
    assert min(map(lines_beside_the_totals, range(12, 24))) == 0
