"""The billing run: every subscription that is due, each in a transaction of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from aurora.core import clock
from aurora.db.errors import refused
from aurora.db.pool import Pool
from aurora.db.transaction import (
    PLATFORM,
    Connection,
    transaction,
    transactions_in_turn,
)
from aurora.features.invoices import store
from aurora.features.invoices.model import (
    AsOfInFuture,
    BillFailed,
    BillingRun,
    BillingStep,
    FailedBill,
    IssuedInvoice,
)
from aurora.features.usage.service import fold_usage

DELIVER_JOB = "invoice_deliver"
MAX_BILLS_PER_RUN = 1_000_000
MAX_BILLS_A_MESSAGE = 8
"""Transactions that travel together: enough that PostgreSQL hardly waits for the next message."""

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
    def asked(self) -> dict[str, Any]:
        """What each step is asked for."""
        return {
            "as_of": self.as_of,
            "organization_id": self.organization_id,
            "except_ids": [*self.failed, *self.waiting],
            # A rehearsal counts what is not folded too, for it can fold nothing that stays.
            "unfolded": self.dry_run,
        }

    def note(self, step: BillingStep) -> None:
        """Remember what became of one subscription."""
        is_told = step.subscription_id in self.failed or step.subscription_id in self.waiting
        if step.outcome != "waits" and not is_told:
            self.on_billed()
        if step.outcome == "issued":
            self.issued.append(
                IssuedInvoice(**{f: getattr(step, f) for f in IssuedInvoice.__slots__})
            )
        elif step.outcome == "nothing_owed":
            self.nothing_owed += 1
        elif step.outcome == "waits":
            self.waiting.add(step.subscription_id)
        else:
            self.failed[step.subscription_id] = _failed(step)


def _failed(step: BillingStep) -> FailedBill:
    error = refused(step.state, step.message, step.detail, step.violated or "")
    if error is None:
        # One subscription with figures that nothing can hold must not keep everybody's bills.
        log.error(
            "bill_failed",
            subscription_id=str(step.subscription_id),
            state=step.state,
            message=step.message,
            context=step.context,
        )
        error = BillFailed()
    return FailedBill(subscription_id=step.subscription_id, code=error.code, detail=error.detail)


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
                    if (step := await store.bill_next(conn, **progress.asked)) is None:
                        break
                    progress.note(step)
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
    async with transactions_in_turn(pool, PLATFORM, statement_timeout_ms=BILL_TIMEOUT_MS) as turns:
        times = 1
        for _ in range(MAX_BILLS_PER_RUN):
            steps = await store.bill_in_turn(turns, times=times, **progress.asked)
            for step in steps:
                progress.note(step)
            if len(steps) < times:
                break
            # Who is passed by is told with the next message; until then he comes up every time.
            is_smooth = all(step.outcome in {"issued", "nothing_owed"} for step in steps)
            times = min(2 * times, MAX_BILLS_A_MESSAGE) if is_smooth else 1


async def _fold(pool: Pool) -> None:
    """Fold what usage was written until now, a bounded number of times."""
    for _ in range(MAX_FOLDS):
        async with transaction(pool, PLATFORM, statement_timeout_ms=BILL_TIMEOUT_MS) as conn:
            if not await fold_usage(conn):
                break


async def count_due(conn: Connection, *, as_of: date, organization_id: UUID | None = None) -> int:
    """Return how many subscriptions are due on a day, for a progress bar."""
    return await store.count_due(conn, as_of=as_of, organization_id=organization_id)
