"""What is printed and sent: an invoice or a credit note, in one shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from aurora.core.money import Language
from aurora.features.invoices.lines import LineItem, TaxLine, with_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class SalesDocument:
    """An invoice or credit note as it is printed and sent; amounts in major units of `currency`.

    Attributes:
        credited_number: Of a credit note, the number of the invoice that it corrects.
        tax_amount_nok: VAT in NOK, whatever the currency; None where none is owed.
        notes: Text, or mappings of a language to it.
        language: In which it was issued: nb or en.
        seller_logo: The PNG whose digest the snapshot of the seller names.
        buyer_logo: The PNG whose digest the snapshot of the buyer names.
    """

    id: UUID
    organization_id: UUID
    kind: Literal["invoice", "credit_note"]
    number: str | None
    status: str
    issued_on: date
    due_on: date | None
    issued_at: datetime | None
    kid: str | None
    credited_number: str | None
    credited_on: date | None
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    tax_amount_nok: Decimal | None
    line_items: list[LineItem]
    tax_lines: list[TaxLine]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    notes: list[str | dict[str, str]]
    language: Language
    seller_logo: bytes | None
    buyer_logo: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow(SalesDocument):
    """A document as its row gives it: lines and VAT are JSON text, so that no figure is a float."""

    line_items: str  # type: ignore[assignment]
    tax_lines: str  # type: ignore[assignment]

    def parsed(self) -> SalesDocument:
        """Return the document with its lines as structures."""
        return with_lines(self, SalesDocument)
