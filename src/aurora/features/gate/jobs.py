"""Background work of the gate: folding away changes that every process has read."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate import store
from aurora.features.gate.model import KEEP_CHANGES
from aurora.integrations.jobs import Cron


async def fold_changes(pool: Pool) -> int:
    """Delete changes that have been there for `KEEP_CHANGES`."""
    async with transaction(pool, PLATFORM) as conn:
        return await store.fold_changes(conn, KEEP_CHANGES)


CRONS = (Cron("gate_fold_changes", "* * * * *", fold_changes),)
