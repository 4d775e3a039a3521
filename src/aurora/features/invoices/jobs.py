"""Background work of the invoices room: the billing run, delivery, and what is overdue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID
from zoneinfo import ZoneInfo

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices import overdue, service
from aurora.features.invoices.billing_run import DELIVER_JOB, run_billing
from aurora.integrations.jobs import Cron, Job

MAX_ROUNDS = 1_000


async def bill_today(pool: Pool) -> int:
    """Bill what is due today; return how many invoices were issued."""
    today = clock.now().astimezone(ZoneInfo(clock.SELLER_ZONE_DEFAULT)).date()
    return len((await run_billing(pool, as_of=today)).issued)


async def deliver(pool: Pool, payload: bytes) -> None:
    """Tell the organization that its invoice was issued."""
    async with transaction(pool, PLATFORM) as conn:
        await service.deliver_invoice(conn, UUID(payload.decode()))


async def deliver_credit_notes(pool: Pool) -> int:
    """Tell of all credit notes that nobody was told of."""
    return await _repeat(pool, service.deliver_credit_notes)


async def mark_overdue(pool: Pool) -> int:
    """Mark all invoices whose due date has passed."""
    return await _repeat(pool, service.mark_overdue)


async def chase_overdue(pool: Pool) -> int:
    """Remind of what is overdue, suspend who owes it, reactivate who paid; return how many."""
    return await _repeat(pool, overdue.chase)


async def _repeat(pool: Pool, step: Callable[[Connection], Awaitable[int]]) -> int:
    done = 0
    for _ in range(MAX_ROUNDS):
        async with transaction(pool, PLATFORM) as conn:
            count = await step(conn)
        if not count:
            break
        done += count
    return done


# Every hour: midnights differ by zone, and what waited for its usage is billed an hour later.
CRONS = (
    Cron("invoices_bill_today", "20 * * * *", bill_today),
    Cron("invoices_deliver_credit_notes", "*/5 * * * *", deliver_credit_notes),
    Cron("invoices_mark_overdue", "5 * * * *", mark_overdue),
    Cron("invoices_chase_overdue", "*/5 * * * *", chase_overdue),
)
JOBS = (Job(DELIVER_JOB, deliver),)
