"""PostgreSQL as the place where leases come from."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction, transactions_in_turn
from aurora.features.limits import store
from aurora.features.limits.budget import Asked, Unused
from aurora.features.limits.model import LEASE_TIMEOUT_S, Lease

_TIMEOUT_MS = int(LEASE_TIMEOUT_S * 1000)


class PooledWindows:
    """Each lease is a transaction of its own: what was granted is on disk before it is used.

    Args:
        pool: Shared with whatever else this process asks PostgreSQL.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lease(self, organization_id: UUID, key_id: UUID, asked: Asked) -> Lease:
        """Ask for a lease and return what was granted.

        Raises:
            AuroraError: PostgreSQL cannot be reached, or refuses.
            psycopg.Error: A database error that no Aurora error stands for.
        """
        # In one message: between three of them other processes would wait for the key's window.
        async with transactions_in_turn(
            self._pool, PLATFORM, statement_timeout_ms=_TIMEOUT_MS
        ) as turns:
            return await store.lease(turns, organization_id, key_id, asked)

    async def give_back(self, unused: Sequence[Unused]) -> None:
        """Return what nobody used; where this fails it is lost for the window.

        Raises:
            AuroraError: PostgreSQL cannot be reached, or refuses.
            psycopg.Error: A database error that no Aurora error stands for.
        """
        async with transaction(self._pool, PLATFORM, statement_timeout_ms=_TIMEOUT_MS) as conn:
            await store.give_back(conn, unused)
