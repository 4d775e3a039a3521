"""Background work of the keys room: writing down which keys have expired."""

from __future__ import annotations

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys import service
from aurora.integrations.jobs import Cron


async def expire_api_keys(pool: Pool) -> int:
    """Write status expired where the time has come; the gate refuses such keys without it."""
    async with transaction(pool, PLATFORM) as conn:
        return await service.expire_api_keys(conn)


CRONS = (Cron("keys_expire", "* * * * *", expire_api_keys),)
