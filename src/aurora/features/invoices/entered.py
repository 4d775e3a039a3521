"""What the operator enters: rates by day, how whom is invoiced, and lines of an invoice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


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


class EnteredLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line that somebody wrote; its price is for `base_quantity` units, without VAT.

    Attributes:
        unit: month, year, day, hour, thousand, package, each, or a word of one's own, as printed.
        tax_code: What is sold: standard, reduced_15, reduced_12, or zero.
        period_start: When it was delivered; the day of the invoice where neither end is named.
        period_end: The last day, included.
    """

    description: str
    quantity: Decimal = Decimal(1)
    unit_price: Decimal
    unit: str | None = None
    base_quantity: Decimal | None = None
    tax_code: str | None = None
    period_start: date | None = None
    period_end: date | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is named of it as JSON holds it; figures are text, so none is a float."""
        named: dict[str, Any] = {}
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, Decimal):
                value = format(value, "f")
            elif isinstance(value, date):
                value = value.isoformat()
            if value is not None:
                named[field] = value
        return named


class DraftChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a draft; what is not named stays.

    Attributes:
        invoice_date: None: the day on which it is issued.
        notes: Printed below the lines; replaces those that stand there.
    """

    lines: list[EnteredLine] | msgspec.UnsetType = msgspec.UNSET
    currency: str | msgspec.UnsetType = msgspec.UNSET
    invoice_date: date | msgspec.UnsetType | None = msgspec.UNSET
    notes: list[str] | msgspec.UnsetType = msgspec.UNSET

    def as_json(self) -> dict[str, Any]:
        """Return what is named as `app.change_draft()` takes it."""
        changes: dict[str, Any] = {}
        if self.lines is not msgspec.UNSET:
            changes["lines"] = [line.as_json() for line in self.lines]
        if self.currency is not msgspec.UNSET:
            changes["currency"] = self.currency
        if self.notes is not msgspec.UNSET:
            changes["notes"] = self.notes
        if self.invoice_date is not msgspec.UNSET:
            on = self.invoice_date
            changes["on"] = None if on is None else on.isoformat()
        return changes
