"""What a billing run did, as a whole and subscription by subscription."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvoice:
    """One line of what a billing run did."""

    invoice_number: str
    organization_id: UUID
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    period_start: date
    period_end: date
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingStep:
    """What became of one subscription that was due; of the invoice only where one was issued.

    `state`, `message`, `detail`, `violated`, and `context` are the database's words where it
    failed.
    """

    subscription_id: UUID
    outcome: Literal["issued", "nothing_owed", "waits", "failed"]
    id: UUID
    organization_id: UUID
    invoice_number: str
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    period_start: date
    period_end: date
    state: str
    message: str
    detail: str | None
    violated: str
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBill:
    """A subscription that could not be billed, and why; its period did not move."""

    subscription_id: UUID
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRun:
    """What a billing run did."""

    as_of: date
    dry_run: bool
    issued: list[IssuedInvoice]
    nothing_owed: int
    failed: list[FailedBill]
    waiting: int = 0
