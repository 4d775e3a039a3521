"""The billing run: every subscription that is due, each in a transaction of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import structlog

from aurora.core import clock
from aurora.db.errors import translate
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices import store
from aurora.features.invoices.model import (
    AsOfInFuture,
    BillFailed,
    BillingRun,
    FailedBill,
    InvoiceNotFound,
    IssuedInvoice,
)
from aurora.features.usage.service import fold_usage
from aurora.integrations.jobs import enqueue

DELIVER_JOB = "invoice_deliver"
MAX_BILLS_PER_RUN = 1_000_000
BILL_TIMEOUT_MS = 60_000
MAX_FOLDS = 1_000
MAX_WAITS = 3
WAIT_S = 1

log = structlog.get_logger(__name__)


class _DryRunEnds(Exception):
    pass


@dataclass(slots=True)
class _Progress:
    as_of: date
    organization_id: UUID | None
    on_billed: Callable[[], None]
    dry_run: bool
    issued: list[IssuedInvoice] = field(default_factory=list)
    failed: dict[UUID, FailedBill] = field(default_factory=dict)
    waiting: set[UUID] = field(default_factory=set)
    nothing_owed: int = 0

    @property
    def passed_by(self) -> list[UUID]:
        return [*self.failed, *self.waiting]


async def run_billing(
    pool: Pool,
    *,
    as_of: date,
    organization_id: UUID | None = None,
    dry_run: bool = False,
    on_billed: Callable[[], None] = lambda: None,
) -> BillingRun:
    """Bill every subscription whose billing moment is on or before a day.

    One subscription a transaction is what makes a run safe to kill at any point, to start twice,
    and to run beside another. A subscription that fails is reported and keeps none of the others.
    One whose usage of the month that ended is not folded yet waits for the next run.

    Args:
        pool: Where transactions come from.
        as_of: The day; also the invoices' date.
        organization_id: Only this organization.
        dry_run: Do the same in one transaction and roll it back.
        on_billed: Called after each subscription, for a progress bar.

    Raises:
        AsOfInFuture: Nothing is invoiced before its day.
    """
    today = clock.now().astimezone(ZoneInfo(clock.SELLER_ZONE_DEFAULT)).date()
    if as_of > today:
        raise AsOfInFuture(f"{as_of} is after today, {today}.")
    progress = _Progress(as_of, organization_id, on_billed, dry_run)
    if dry_run:
        try:
            async with transaction(pool, PLATFORM, statement_timeout_ms=BILL_TIMEOUT_MS) as conn:
                for _ in range(MAX_BILLS_PER_RUN):
                    if not await _bill_next(conn, progress):
                        break
                raise _DryRunEnds  # noqa: TRY301 - caught below, outside the transaction
        except _DryRunEnds:
            pass
    else:
        for wait in range(MAX_WAITS):
            await _fold(pool)
            await _bill_all(pool, progress)
            if not progress.waiting or wait + 1 == MAX_WAITS:
                break
            # Another folds them right now: a moment later they are.
            await asyncio.sleep(WAIT_S)
            progress.waiting.clear()
    return BillingRun(
        as_of=as_of,
        dry_run=dry_run,
        issued=progress.issued,
        nothing_owed=progress.nothing_owed,
        waiting=len(progress.waiting),
        failed=list(progress.failed.values()),
    )


async def _bill_all(pool: Pool, progress: _Progress) -> None:
    for _ in range(MAX_BILLS_PER_RUN):
        async with transaction(pool, PLATFORM, statement_timeout_ms=BILL_TIMEOUT_MS) as conn:
            found = await _bill_next(conn, progress)
        if not found:
            break


async def _fold(pool: Pool) -> None:
    """Fold what usage was written until now, a bounded number of times."""
    for _ in range(MAX_FOLDS):
        async with transaction(pool, PLATFORM, statement_timeout_ms=BILL_TIMEOUT_MS) as conn:
            if not await fold_usage(conn):
                break


async def _bill_next(conn: Connection, progress: _Progress) -> bool:
    """Bill one subscription that is due; return False when none is left."""
    subscription_id = await store.claim_due(
        conn,
        as_of=progress.as_of,
        organization_id=progress.organization_id,
        except_ids=progress.passed_by,
    )
    if subscription_id is None:
        return False
    # A rehearsal counts what is not folded too, for it can fold nothing that stays.
    if not progress.dry_run and not await store.is_folded(conn, subscription_id):
        progress.waiting.add(subscription_id)
        return True
    try:
        async with conn.transaction():
            issued = await _bill(conn, subscription_id, progress.as_of)
    except psycopg.Error as error:
        refused = translate(error)
        if refused is None:
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                raise
            # One subscription with figures that nothing can hold must not keep everybody's bills.
            log.exception("bill_failed", subscription_id=str(subscription_id))
            refused = BillFailed()
        progress.failed[subscription_id] = FailedBill(
            subscription_id=subscription_id, code=refused.code, detail=refused.detail
        )
    else:
        if issued is None:
            progress.nothing_owed += 1
        else:
            progress.issued.append(issued)
    progress.on_billed()
    return True


async def _bill(conn: Connection, subscription_id: UUID, as_of: date) -> IssuedInvoice | None:
    invoice_id = await store.draft_invoice(conn, subscription_id, as_of=as_of)
    if invoice_id is None:
        return None
    await enqueue(conn, DELIVER_JOB, str(invoice_id).encode())
    # The number comes last: the counter's row stays locked until the commit.
    number = await store.issue_invoice(conn, invoice_id)
    invoice = await store.find_invoice(conn, invoice_id)
    if invoice is None:
        raise InvoiceNotFound
    return IssuedInvoice(
        invoice_number=number,
        organization_id=invoice.organization_id,
        subtotal=invoice.subtotal,
        tax_amount=invoice.tax_amount,
        total=invoice.total,
        currency=invoice.currency,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
        id=invoice.id,
    )


async def count_due(conn: Connection, *, as_of: date, organization_id: UUID | None = None) -> int:
    """Return how many subscriptions are due on a day, for a progress bar."""
    return await store.count_due(conn, as_of=as_of, organization_id=organization_id)
