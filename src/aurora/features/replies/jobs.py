"""Background work of the replies room: forgetting old answers."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.replies import service
from aurora.integrations.jobs import Cron


async def forget_replies(pool: Pool) -> int:
    """Forget answers that are older than a day."""
    forgotten = 0
    for _ in range(service.MAX_FORGET_ROUNDS):
        async with transaction(pool, PLATFORM, statement_timeout_ms=60_000) as conn:
            count = await service.forget(conn)
        forgotten += count
        if count < service.FORGET_BATCH:
            break
    return forgotten


CRONS = (Cron("replies_forget", "23 * * * *", forget_replies),)
