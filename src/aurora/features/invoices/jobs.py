"""Background work of the invoices room: the daily billing run and delivery."""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import service
from aurora.features.invoices.billing_run import DELIVER_JOB, run_billing
from aurora.integrations.jobs import Cron, Job


async def bill_today(pool: Pool) -> int:
    """Bill what is due today; return how many invoices were issued."""
    today = clock.now().astimezone(ZoneInfo(clock.SELLER_ZONE_DEFAULT)).date()
    return len((await run_billing(pool, as_of=today)).issued)


async def deliver(pool: Pool, payload: bytes) -> None:
    """Tell the organization that its invoice was issued."""
    async with transaction(pool, PLATFORM) as conn:
        await service.deliver_invoice(conn, UUID(payload.decode()))


# 02:20 UTC is after midnight in Oslo in winter and in summer.
CRONS = (Cron("invoices_bill_today", "20 2 * * *", bill_today),)
JOBS = (Job(DELIVER_JOB, deliver),)
