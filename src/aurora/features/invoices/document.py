"""Turns an invoice snapshot into what a person reads: every amount and date already written out.

The template receives text only. Whoever reads it sees layout; whoever reads this file sees what
the law asks for (bokføringsforskriften § 5-1-1) and where each element comes from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

from aurora.core.errors import Invalid, TooLarge
from aurora.core.money import NO_BREAK_SPACE, Language, currency_digits, format_money
from aurora.features.invoices.writing import (
    Writer,
    digits,
    grouped_account_number,
    grouped_org_number,
    in_groups,
    line_of_text,
)
from aurora.integrations.pdf import render_pdf, render_pdf_async
from aurora.integrations.pictures import png_size

TEMPLATE: Final = Path(__file__).parent / "pdf" / "invoice.typ"

MAX_LINES: Final = 1_000
"""Lines on one document; 1,000 long ones take 100 pages, 3 s, and 250 MB."""

LOGO_BOX_MM: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"seller_logo": (60, 16), "buyer_logo": (44, 11)}
)
"""Width and height that a logo is fitted into."""

MAX_LOGO_UM_PER_PIXEL: Final = 169
"""A logo of few pixels is printed small rather than coarse: at 150 to the inch (micrometres)."""

_UNISSUED: Final = ("draft", "void")

_NO_ATTACHMENTS: Final[Mapping[str, bytes]] = MappingProxyType({})


class InvoiceIncomplete(Invalid):
    """Something that the law wants on the document is missing, so there is no document."""

    code: ClassVar[str] = "invoice_incomplete"
    title: ClassVar[str] = "The invoice lacks something that the law requires"


class InvoiceTooLong(TooLarge):
    """The invoice has more lines than one document takes."""

    code: ClassVar[str] = "invoice_too_long"
    title: ClassVar[str] = "The invoice has too many lines"


def invoice_pdf(
    invoice: Mapping[str, Any],
    language: Language,
    *,
    attachments: Mapping[str, bytes] = _NO_ATTACHMENTS,
) -> bytes:
    """Return an invoice or credit note as PDF/A-3b; the same snapshot gives the same bytes.

    Args:
        invoice: The snapshot that `invoice_document` describes.
        language: Of the words and figures; descriptions stay as they were sold.
        attachments: File name to content, such as the EHF document that says the same.

    Raises:
        InvoiceIncomplete, InvoiceTooLong: As `invoice_document`.
        PdfNotRendered, PdfTooLarge: As `aurora.integrations.pdf.render_pdf`.
    """
    return render_pdf(
        TEMPLATE,
        invoice_document(invoice, language),
        created_at=_created_at(invoice),
        attachments=attachments,
        pictures=_logos(invoice),
    )


async def invoice_pdf_async(
    invoice: Mapping[str, Any],
    language: Language,
    *,
    attachments: Mapping[str, bytes] = _NO_ATTACHMENTS,
) -> bytes:
    """Do what `invoice_pdf` does without holding the event loop.

    Raises:
        PdfQueueFull: Too many documents wait in this process.
    """
    return await render_pdf_async(
        TEMPLATE,
        invoice_document(invoice, language),
        created_at=_created_at(invoice),
        attachments=attachments,
        pictures=_logos(invoice),
    )


def invoice_document(invoice: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """Write out everything the page shows, in reading order and in one language.

    The payment status is left out on purpose: an issued document never changes, whatever happens
    to it afterwards. Only a draft is marked as one, or as put aside.

    Args:
        invoice: Snapshot with Decimal amounts and date objects; tax rates in percent;
            `period_end` is the last day itself. Optional keys beyond the snapshot's own:
            `delivery_place` (str), `tax_amount_nok` (Decimal, when the currency is another),
            `seller_logo` and `buyer_logo` (PNG).
        language: nb or en.

    Returns:
        Text, lists, and mappings for `pdf/invoice.typ`.

    Raises:
        InvoiceIncomplete: A statutory element is missing (bokføringsforskriften § 5-1-1), or the
            tax is not known in NOK (§ 5-1-1 asks for it whatever the currency).
        InvoiceTooLong: More than MAX_LINES lines.
    """
    _require_statutory_elements(invoice)
    words = _words()[language]
    write = Writer(language, str(invoice["currency"]))
    kind = str(invoice["kind"])
    unissued = invoice["status"] if invoice["status"] in _UNISSUED else None
    number = words[unissued] if unissued else str(invoice["invoice_number"])
    abroad = invoice["buyer"].get("country") != invoice["seller"].get("country")
    mark = "specimen" if invoice["is_specimen"] and unissued is None else unissued
    return {
        "language": language,
        "words": words,
        "title": words[kind],
        "number": number,
        "currency": write.currency,
        "mark": None if mark is None else words[f"{mark}_mark"],
        "mark_word": None if mark is None else words[f"{mark}_word"],
        "logos": {
            name: _logo(content, name, invoice[name.removesuffix("_logo")]["name"])
            for name, content in _logos(invoice).items()
        },
        "seller": _seller(invoice["seller"], words, write, abroad=abroad),
        "buyer": _buyer(invoice, words, write, abroad=abroad),
        "facts": _facts(invoice, number, words, write),
        "headline": _headline(invoice, words, write),
        "lines": [_line(line, invoice, words, write) for line in invoice["line_items"]],
        "tax_lines": [_tax_line(line, words, write) for line in invoice["tax_lines"]],
        "totals": _totals(invoice, words, write),
        "notes": [str(note) for note in invoice["notes"]],
        "payment": _payment(invoice, words, write),
    }


def _logos(invoice: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: invoice[name] for name in LOGO_BOX_MM if invoice.get(name)}


def _logo(content: bytes, name: str, owner: object) -> dict[str, Any]:
    """Return how large a logo is printed, in micrometres, and what is read aloud."""
    width, height = png_size(content)
    box_width, box_height = LOGO_BOX_MM[name]
    scale = min(1000 * box_width / width, 1000 * box_height / height, MAX_LOGO_UM_PER_PIXEL)
    return {
        "width": round(width * scale),
        "height": round(height * scale),
        "alt": line_of_text(owner),
    }


def _seller(
    seller: Mapping[str, Any], words: Mapping[str, str], write: Writer, *, abroad: bool
) -> dict[str, Any]:
    suffix = f"{NO_BREAK_SPACE}{words['vat_suffix']}" if seller["vat_registered"] else ""
    organization = f"{words['org_number']} {grouped_org_number(seller['org_number'])}{suffix}"
    register = words["business_register"] if seller["in_business_register"] else None
    return {
        "name": line_of_text(seller["name"]),
        "identity": _present(organization, register),
        "address": ", ".join(_address(seller, write, with_country=abroad)),
        "contact": _present(seller.get("email"), seller.get("phone"), seller.get("website")),
    }


def _buyer(
    invoice: Mapping[str, Any], words: Mapping[str, str], write: Writer, *, abroad: bool
) -> dict[str, Any]:
    buyer = invoice["buyer"]
    org_number, vat_number = buyer.get("org_number"), buyer.get("vat_number")
    # A Norwegian VAT number is the organization number dressed up; once is enough.
    says_more = bool(vat_number) and digits(vat_number) != digits(org_number or "")
    return {
        "label": words["credited_to" if invoice["kind"] == "credit_note" else "billed_to"],
        "name": line_of_text(buyer["name"]),
        "address": _address(buyer, write, with_country=abroad),
        "identity": _present(
            f"{words['org_number']} {grouped_org_number(org_number)}" if org_number else None,
            f"{words['vat_number']} {vat_number}" if says_more else None,
        ),
    }


def _facts(
    invoice: Mapping[str, Any], number: str, words: Mapping[str, str], write: Writer
) -> list[dict[str, str]]:
    is_credit = invoice["kind"] == "credit_note"
    reference = invoice["invoice_reference"]
    period = write.period(invoice["period_start"], invoice["period_end"])
    return _labelled(
        (words["credit_note_number" if is_credit else "invoice_number"], number),
        (
            words["credit_note_date" if is_credit else "invoice_date"],
            write.day(invoice["invoice_date"]),
        ),
        (words["due_date"], None if is_credit else write.day(invoice["due_date"])),
        (words["credits_invoice" if is_credit else "reference"], reference),
        (words["period"], period),
        (words["delivery"], invoice.get("delivery_place") or words["delivery_place"]),
    )


def _headline(
    invoice: Mapping[str, Any], words: Mapping[str, str], write: Writer
) -> dict[str, str]:
    total = write.money(invoice["total"])
    if invoice["kind"] == "credit_note":
        by = words["credits"].format(number=line_of_text(invoice["invoice_reference"]))
        return {"label": words["credited"], "amount": total, "by": by}
    by = words["falls_due"].format(date=write.day(invoice["due_date"]))
    return {"label": words["to_pay"], "amount": total, "by": by}


def _line(
    line: Mapping[str, Any], invoice: Mapping[str, Any], words: Mapping[str, str], write: Writer
) -> dict[str, Any]:
    unit = str(line["unit"])
    singular, _, plural = words.get(f"unit_{unit}", f"{unit}|{unit}").partition("|")
    period = (line["period_start"], line["period_end"])
    # The document's own period stands at the top; a line only says where it differs.
    is_usual = period == (invoice["period_start"], invoice["period_end"])
    return {
        "description": str(line["description"]),
        "detail": line["detail"],
        "period": None if is_usual else write.period(*period),
        "quantity": write.figure(line["quantity"]),
        "unit": singular if abs(line["quantity"]) == 1 else plural,
        "unit_price": write.figure(line["unit_price"], currency_digits(write.currency)),
        "tax": write.percent(line["tax_rate"]),
        "amount": write.amount(line["amount"]),
    }


def _tax_line(line: Mapping[str, Any], words: Mapping[str, str], write: Writer) -> dict[str, Any]:
    standard_reason = words["reverse_charge"] if line["category"] == "AE" else None
    return {
        "rate": write.percent(line["rate"]),
        "taxable": write.amount(line["taxable"]),
        "tax": write.amount(line["tax"]),
        "reason": line["reason"] or standard_reason,
    }


def _totals(
    invoice: Mapping[str, Any], words: Mapping[str, str], write: Writer
) -> list[dict[str, Any]]:
    rows = [(words["subtotal"], write.money(invoice["subtotal"]), False)]
    rows += [
        (words["tax_on"].format(rate=write.percent(line["rate"])), write.money(line["tax"]), False)
        for line in invoice["tax_lines"]
    ]
    rows.append((words["total"], write.money(invoice["total"]), True))
    if _owes_tax_in_nok(invoice):
        in_nok = format_money(invoice["tax_amount_nok"], "NOK", write.language)
        rows.append((words["tax_in_nok"], in_nok, False))
    return [
        {"label": label, "value": value, "emphasis": emphasis} for label, value, emphasis in rows
    ]


def _payment(
    invoice: Mapping[str, Any], words: Mapping[str, str], write: Writer
) -> dict[str, Any] | None:
    """Return the payment box, or None where nothing is to be paid: of a draft nothing is yet."""
    if invoice["kind"] == "credit_note" or invoice["total"] <= 0 or invoice["status"] in _UNISSUED:
        return None
    seller = invoice["seller"]
    account, iban = seller.get("bank_account"), seller.get("iban")
    numbers = [
        (words["account"], grouped_account_number(account) if account else None),
        (words["iban"], in_groups(iban, 4) if iban else None),
    ]
    # Who pays in another currency pays from abroad, where nobody knows Norwegian account numbers.
    if invoice["currency"] != "NOK" and iban:
        numbers.reverse()
    return {
        "main": _labelled(
            numbers[0],
            (words["kid"], invoice["kid"]),
            (words["due_date"], write.day(invoice["due_date"])),
            (words["to_pay"], write.money(invoice["total"])),
        ),
        "abroad": _labelled(numbers[1], (words["bic"], seller.get("bic"))),
    }


def _require_statutory_elements(invoice: Mapping[str, Any]) -> None:
    seller, buyer = invoice["seller"], invoice["buyer"]
    required = {
        "invoice_number": invoice["invoice_number"] or invoice["status"] in _UNISSUED,
        "invoice_reference": invoice["invoice_reference"] or invoice["kind"] != "credit_note",
        "seller.name": seller["name"],
        "seller.org_number": seller["org_number"],
        "buyer.name": buyer["name"],
        # A draft may be looked at before the buyer is entered in full; its issue asks for that.
        "buyer.address": buyer.get("address")
        or buyer.get("org_number")
        or invoice["is_specimen"]
        or invoice["status"] in _UNISSUED,
        "line_items": invoice["line_items"],
        "tax_amount_nok": not _owes_tax_in_nok(invoice)
        or invoice.get("tax_amount_nok") is not None,
    }
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise InvoiceIncomplete(f"The invoice lacks {', '.join(missing)}.", missing=missing)
    if len(invoice["line_items"]) > MAX_LINES:
        raise InvoiceTooLong(f"One document takes at most {MAX_LINES} lines.")


def _owes_tax_in_nok(invoice: Mapping[str, Any]) -> bool:
    return invoice["currency"] != "NOK" and bool(invoice["tax_amount"])


def _address(party: Mapping[str, Any], write: Writer, *, with_country: bool) -> list[str]:
    place = " ".join(_present(party.get("postal_code"), party.get("city")))
    code = party.get("country")
    street = str(party.get("address") or "").splitlines()
    country = write.country(str(code)) if with_country and code else None
    return _present(*street, place, country)


def _present(*texts: object) -> list[str]:
    """Return the texts that say something, each on one line."""
    lines = [line_of_text(text) for text in texts if text]
    return [line for line in lines if line]


def _labelled(*pairs: tuple[str, object]) -> list[dict[str, str]]:
    return [{"label": label, "value": line_of_text(value)} for label, value in pairs if value]


def _created_at(invoice: Mapping[str, Any]) -> datetime:
    # The clock would give other bytes at every rendering; the document's own date does not.
    return datetime.combine(invoice["invoice_date"], time(), UTC)


@functools.cache
def _words() -> dict[str, dict[str, str]]:
    words: dict[str, dict[str, str]] = json.loads(
        TEMPLATE.with_name("words.json").read_text(encoding="utf-8")
    )
    return words
