"""What the gate has to write down, later and in batches: uses of keys, and keys that leaked."""

from __future__ import annotations

import asyncio
from datetime import datetime

import psycopg
import structlog

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate import store
from aurora.features.gate.model import FLUSH_S, MAX_ERRANDS
from aurora.features.keys.service import touch_api_keys

log = structlog.get_logger(__name__)


class Errands:
    """Collects in memory and writes every few seconds; nobody's request waits for it.

    What a process that dies had not written is lost: last_used_at is to the minute at best, and a
    key in a web page is sent again.

    Args:
        pool: Where it is written.

    Attributes:
        round: How often it was written. Within one, noting the first use of a key is enough.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.used: dict[bytes, datetime] = {}
        self.exposed: dict[bytes, str] = {}
        self.round = 0

    def note_use(self, digest: bytes, at: datetime) -> None:
        """Remember that a key was used."""
        if digest in self.used or len(self.used) < MAX_ERRANDS:
            self.used[digest] = at

    def note_exposed(self, digest: bytes, origin: str) -> None:
        """Remember that a secret key came out of a browser."""
        if len(self.exposed) < MAX_ERRANDS:
            self.exposed.setdefault(digest, origin)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected; where PostgreSQL is away it is let go."""
        self.round += 1
        used, self.used = self.used, {}
        exposed, self.exposed = self.exposed, {}
        if not used and not exposed:
            return
        try:
            async with transaction(self._pool, PLATFORM) as conn:
                await touch_api_keys(conn, {digest.hex(): at for digest, at in used.items()})
                for digest, origin in exposed.items():
                    await store.tell_of_exposed_key(conn, digest.hex(), origin)
        except (psycopg.Error, AuroraError, OSError) as error:
            log.warning("gate_errands_lost", error=type(error).__name__, uses=len(used))
