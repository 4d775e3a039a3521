"""Background work of the subscriptions room: trials that are over."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.subscriptions import service
from aurora.integrations.jobs import Cron


async def end_trials(pool: Pool) -> int:
    """Turn trials that are over into what was agreed; return how many."""
    async with transaction(pool, PLATFORM) as conn:
        return await service.end_trials(conn)


# Before the daily billing run, and soon after midnight in every zone.
CRONS = (Cron("subscriptions_end_trials", "10 * * * *", end_trials),)
