"""The lines of a sales document, and its VAT by category and rate."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line; amounts in major units, `period_end` is the last day, included."""

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
    impressions: int | None = None
    included: int | None = None
    base_quantity: Decimal = Decimal(1)
    facts: dict[str, Any] = {}


class TaxLine(msgspec.Struct, frozen=True, kw_only=True):
    """VAT of one category and rate (percent), in major units."""

    category: str
    rate: Decimal
    taxable: Decimal
    tax: Decimal
    reason: str | None = None
    reason_en: str | None = None
    saft_code: str | None = None
