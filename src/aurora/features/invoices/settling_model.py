"""Credit notes, payments, and what both settle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from aurora.core.errors import NotFound
from aurora.features.invoices.model import LineItem, TaxLine

PaymentMethod = Literal["bank_transfer", "card", "invoice"]
MAX_CREDITED_LINES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """What corrects an invoice; amounts are positive, in major units of `currency`.

    `amount_open` waits for the customer's next invoice; the rest is set off.
    """

    id: UUID
    created_at: datetime
    organization_id: UUID
    invoice_id: UUID
    invoice_number: str
    credit_note_number: str | None
    credit_note_date: date
    issued_at: datetime | None
    reason: str
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    line_items: list[LineItem]
    tax_lines: list[TaxLine]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    status: Literal["draft", "issued", "sent"]
    amount_allocated: Decimal
    amount_open: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteRow(CreditNote):
    """A credit note as its row gives it: lines and VAT are JSON text, so no figure is a float."""

    line_items: str  # type: ignore[assignment]
    tax_lines: str  # type: ignore[assignment]

    def parsed(self) -> CreditNote:
        """Return the credit note with its lines as structures."""
        fields = {name: getattr(self, name) for name in CreditNote.__dataclass_fields__}
        fields["line_items"] = msgspec.json.decode(self.line_items, type=list[LineItem])
        fields["tax_lines"] = msgspec.json.decode(self.tax_lines, type=list[TaxLine])
        return CreditNote(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money that arrived; `amount_open` waits for the customer's next invoice."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    received_on: date
    amount: Decimal
    currency: str
    method: PaymentMethod
    reference: str
    amount_allocated: Decimal
    amount_open: Decimal
    reversed_at: datetime | None
    reversal_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How much of an invoice a payment or a credit note settled; negative: taken back."""

    id: int
    created_at: datetime
    organization_id: UUID
    invoice_id: UUID
    invoice_number: str
    payment_id: UUID | None
    credit_note_id: UUID | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LineToCredit:
    """A line of an invoice (from 1), and how much of it without VAT; None: all that is left."""

    line: int
    amount: Decimal | None = None


class CreditNoteNotFound(NotFound):
    """No such credit note, or not one that the caller may see."""

    code, title = "credit_note_not_found", "There is no such credit note"


class PaymentNotFound(NotFound):
    """No such payment, or not one that the caller may see."""

    code, title = "payment_not_found", "There is no such payment"
