"""Background work of the limits room: quota warnings."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.limits import service
from aurora.integrations.jobs import Cron


async def warn_of_quotas(pool: Pool) -> int:
    """Warn of every quota that has passed a threshold."""
    async with transaction(pool, PLATFORM, statement_timeout_ms=60_000) as conn:
        return await service.warn_of_quotas(conn)


CRONS = (Cron("limits_warn_of_quotas", "* * * * *", warn_of_quotas),)
