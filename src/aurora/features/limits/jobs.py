"""Background work of the limits room: quota warnings, and forgetting idle keys."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.limits import service
from aurora.integrations.jobs import Cron


async def warn_of_quotas(pool: Pool) -> int:
    """Warn of every quota that has passed a threshold."""
    async with transaction(pool, PLATFORM, statement_timeout_ms=60_000) as conn:
        return await service.warn_of_quotas(conn)


async def forget_rate_limits(pool: Pool) -> int:
    """Forget the windows of keys that nobody used for a day."""
    forgotten = 0
    for _ in range(service.MAX_FORGET_ROUNDS):
        async with transaction(pool, PLATFORM, statement_timeout_ms=60_000) as conn:
            count = await service.forget_rate_limits(conn)
        forgotten += count
        if count < service.FORGET_BATCH:
            break
    return forgotten


CRONS = (
    Cron("limits_warn_of_quotas", "* * * * *", warn_of_quotas),
    Cron("limits_forget", "47 * * * *", forget_rate_limits),
)
