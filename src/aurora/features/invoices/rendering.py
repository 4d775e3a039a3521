"""What the page and the EHF file of a document are made from: the same snapshot, twice."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from aurora.core.money import NO_BREAK_SPACE, Language
from aurora.features.einvoices.model import EInvoiceBlocked, Sale, SoldLine, SoldTax
from aurora.features.einvoices.service import ehf_document
from aurora.features.invoices.model import LineItem, SalesDocument, TaxLine
from aurora.features.invoices.refusals import InvoiceNotIssued

SPECIMEN_NOTE: Final = "EKSEMPEL - ikke et gyldig salgsdokument. SPECIMEN - not a valid invoice."


def printed(document: SalesDocument, language: Language) -> dict[str, Any]:
    """Return a document as the page wants it: plain mappings, Decimals, and dates."""
    snapshot: dict[str, Any] = {
        field: getattr(document, field)
        for field in (
            "kind",
            "status",
            "period_start",
            "period_end",
            "currency",
            "kid",
            "subtotal",
            "tax_amount",
            "total",
            "tax_amount_nok",
            "seller",
            "buyer",
            "seller_logo",
            "buyer_logo",
        )
    }
    snapshot["invoice_number"] = document.number
    snapshot["invoice_date"] = document.issued_on
    snapshot["due_date"] = document.due_on
    snapshot["is_specimen"] = bool(document.seller.get("is_specimen"))
    snapshot["invoice_reference"] = document.credited_number or document.buyer.get("reference")
    snapshot["line_items"] = [
        {**msgspec.structs.asdict(line), "detail": detail_of(line)} for line in document.line_items
    ]
    snapshot["tax_lines"] = [
        {**msgspec.structs.asdict(tax), "reason": reason_of(tax, language)}
        for tax in document.tax_lines
    ]
    snapshot["notes"] = notes_of(document, language)
    return snapshot


def ehf_of(document: SalesDocument) -> bytes:
    """Return a document as EHF, in the language in which it was issued.

    Raises:
        InvoiceNotIssued: It is a draft, or void.
        EInvoiceBlocked: Seller or buyer has no address in the Peppol network.
    """
    if document.number is None:
        raise InvoiceNotIssued("An e-invoice is made of what has a number; this is a draft.")
    language = document.language
    # The format takes one note, so they stand in it together.
    notes = notes_of(document, language)
    if document.seller.get("is_specimen"):
        notes = [SPECIMEN_NOTE, *notes]
    return ehf_document(
        Sale(
            kind=document.kind,
            number=document.number,
            issued_on=document.issued_on,
            due_on=document.due_on,
            kid=document.kid,
            credited_number=document.credited_number,
            credited_on=document.credited_on,
            currency=document.currency,
            lines=[_sold_line(line) for line in document.line_items],
            taxes=[_sold_tax(tax, language) for tax in document.tax_lines],
            subtotal=document.subtotal,
            tax_amount=document.tax_amount,
            total=document.total,
            tax_amount_nok=document.tax_amount_nok,
            seller=document.seller,
            buyer=document.buyer,
            note="\n".join(notes) or None,
        )
    )


def attachments_of(document: SalesDocument) -> dict[str, bytes]:
    """Return what is embedded in the page: its EHF file, where one can be made."""
    if document.number is None:
        return {}
    try:
        return {f"{document.number}.xml": ehf_of(document)}
    except EInvoiceBlocked:
        # A buyer outside the network gets the page alone; asking for the file itself says why.
        return {}


def notes_of(document: SalesDocument, language: Language) -> list[str]:
    """Return the notes in one language; a note that lacks it is given in the one it has."""
    found = []
    for note in document.notes:
        if isinstance(note, str):
            found.append(note)
        elif note:
            found.append(note.get(language) or next(iter(note.values())))
    return found


def reason_of(tax: TaxLine, language: Language) -> str | None:
    """Return why a tax line has no VAT, in one language where it is known in it."""
    return (tax.reason_en if language == "en" else None) or tax.reason


def detail_of(line: LineItem) -> str | None:
    """Return how a line of usage came to be: used less included is what is billed."""
    if line.impressions is None or line.included is None:
        return None
    over = line.impressions - line.included
    # \u2212 is the minus sign; the space groups digits as Norwegian and ISO 31-0 do.
    return f"{line.impressions:,} \u2212 {line.included:,} = {over:,}".replace(",", NO_BREAK_SPACE)


def _sold_line(line: LineItem) -> SoldLine:
    return SoldLine(
        description=line.description,
        detail=detail_of(line),
        quantity=line.quantity,
        unit=line.unit,
        unit_price=line.unit_price,
        base_quantity=line.base_quantity,
        amount=line.amount,
        tax_category=line.tax_category,
        tax_rate=line.tax_rate,
        period_start=line.period_start,
        period_end=line.period_end,
    )


def _sold_tax(tax: TaxLine, language: Language) -> SoldTax:
    return SoldTax(
        category=tax.category,
        rate=tax.rate,
        taxable=tax.taxable,
        tax=tax.tax,
        reason=reason_of(tax, language),
    )
