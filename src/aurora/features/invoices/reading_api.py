"""What every HTTP door to documents shares: their lines, and who may read them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

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
