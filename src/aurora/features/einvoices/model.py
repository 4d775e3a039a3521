"""What an e-invoice is written from, and why one cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from aurora.core.errors import Conflict


class EInvoiceBlocked(Conflict):
    """A number that an e-invoice stands on is missing or wrong."""

    code, title = "einvoice_blocked", "No e-invoice could be made of this document"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldLine:
    """One line; amounts in major units without VAT, the tax rate in percent, both days included."""

    description: str
    detail: str | None
    quantity: Decimal
    unit: str
    unit_price: Decimal
    base_quantity: Decimal
    amount: Decimal
    tax_category: str
    tax_rate: Decimal
    period_start: date
    period_end: date


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldTax:
    """VAT of one category (UNCL5305) and rate in percent; amounts in major units."""

    category: str
    rate: Decimal
    taxable: Decimal
    tax: Decimal
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """An issued document as its snapshot says it; amounts in major units of `currency`.

    Attributes:
        credited_number: Of a credit note, the number of the invoice that it corrects.
        credited_on: The day of that invoice.
        tax_amount_nok: VAT in NOK where the currency is another.
        seller: As `app.seller_snapshot()` makes it.
        buyer: As `app.buyer_snapshot()` makes it.
        note: Free text, the only one that the format takes.
    """

    kind: Literal["invoice", "credit_note"]
    number: str
    issued_on: date
    due_on: date | None
    kid: str | None
    credited_number: str | None
    credited_on: date | None
    currency: str
    lines: Sequence[SoldLine]
    taxes: Sequence[SoldTax]
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    tax_amount_nok: Decimal | None
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    note: str | None
