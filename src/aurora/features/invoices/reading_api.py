"""What every HTTP door to documents shares: their lines, and who may read them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from aurora.db.transaction import Actor
from aurora.integrations.http import Caller, ScopeMissing

BILLING_SCOPE = "billing:read"


class LineOut(BaseModel):
    """One line; amounts are decimal strings in major units, periods include their last day."""

    model_config = ConfigDict(from_attributes=True)
    description: str
    kind: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal
    tax_category: str
    tax_rate: Decimal
    period_start: date
    period_end: date
    impressions: int | None
    included: int | None


class TaxOut(BaseModel):
    """VAT of one category and rate."""

    model_config = ConfigDict(from_attributes=True)
    category: str
    rate: Decimal
    taxable: Decimal
    tax: Decimal
    reason: str | None


class InvoiceOut(BaseModel):
    """An invoice; amounts are decimal strings in major units of `currency`."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    subscription_id: UUID | None
    kind: str
    invoice_number: str | None
    invoice_date: date
    due_date: date
    issued_at: datetime | None
    kid: str | None
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    line_items: list[LineOut]
    tax_lines: list[TaxOut]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    status: str
    paid_at: datetime | None
    sent_at: datetime | None
    amount_credited: Decimal
    amount_settled: Decimal
    amount_due: Decimal


def actor_of(who: Caller) -> Actor:
    """Return who reads documents: a key needs the scope for it, and sees its own.

    Raises:
        ScopeMissing: A key without it.
    """
    if who.organization_id is None:
        return who.everywhere()
    if BILLING_SCOPE not in who.scopes:
        raise ScopeMissing(f"This call needs the scope {BILLING_SCOPE}.", scope=BILLING_SCOPE)
    return who.actor(who.organization_id)
