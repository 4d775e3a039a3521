"""What the operator enters for documents to stand on: rates by day, and how whom is invoiced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class EnteredRate:
    """A rate of a day: NOK for one unit of a currency, or percent of late interest a year."""

    what: str
    valid_on: date
    rate: Decimal
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingProfile:
    """How an organization is invoiced where the usual does not fit; None is the usual."""

    organization_id: UUID
    vat_area: str | None
    vat_treatment: str
    exemption_reason: str | None
    einvoice: str
    order_reference: str | None
    payment_days: int | None
