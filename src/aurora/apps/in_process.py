"""The gate inside another application's process, for the middleware: no call between the two."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, cast

import msgspec
import psycopg

from aurora.client.backend import UNAVAILABLE, Asked, Away, BatchRefused, Plan
from aurora.client.model import Question, Receipt, Verdict
from aurora.core.errors import AuroraError
from aurora.db.pool import open_pool
from aurora.features.gate.model import LEASE_MS, VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.limits.taking import Limits
from aurora.features.usage.decoding import decode_batch
from aurora.features.usage.group_commit import GroupCommit, group_commit
from aurora.features.usage.staging import Sender

POOL_SIZE: Final = 4
_NEVER: Final = frozenset({400, 413, 422})


class InProcess:
    """How the middleware reaches Aurora without a network but PostgreSQL's.

    Keys are remembered under the same lease as in Aurora's own processes, and their limits are
    leased from the same windows, so that what is revoked or used up is so here too. Events are
    committed by a child process, `aurora.client.sending`.

    Args:
        dsn: The application's login (AURORA_DATABASE_URL); not the schema's owner.
        lease_ms: As AURORA_KEY_LEASE_MS.
        pool_size: Connections for verifying, beside those of the recorder.
    """

    def __init__(self, dsn: str, *, lease_ms: int = LEASE_MS, pool_size: int = POOL_SIZE) -> None:
        self._dsn, self._lease_ms, self._pool_size = dsn, lease_ms, pool_size

    def __repr__(self) -> str:
        """Show nothing of the login."""
        return "InProcess(…)"

    def plan(self) -> Plan | None:
        """Return how events are committed beside the application, and not in its turns."""
        return Plan("aurora.apps.in_process:InProcessRecorder", {"dsn": self._dsn})

    def verifier(self) -> InProcessVerifier:
        """Return a gate."""
        return InProcessVerifier(self._dsn, self._lease_ms, self._pool_size)

    def recorder(self) -> InProcessRecorder:
        """Return what commits events."""
        return InProcessRecorder(self._dsn)


class InProcessVerifier:
    """A gate of this process, in the event loop that asks it.

    Attributes:
        verify_at_once: Returns the verdict on a key that is remembered; see `Verifier`.
    """

    def __init__(self, dsn: str, lease_ms: int, pool_size: int) -> None:
        self._dsn, self._lease_ms, self._pool_size = dsn, lease_ms, pool_size
        self._open = AsyncExitStack()
        self._gate: Gate | None = None
        self.verify_at_once: Callable[[Asked], Verdict | None] = _unavailable

    async def open(self) -> None:
        """Connect, and begin to watch for changes.

        Raises:
            ConnectionError: PostgreSQL does not answer.
        """
        try:
            pool = await open_pool(self._dsn, max_size=self._pool_size, name="aurora-middleware")
        except (AuroraError, psycopg.Error) as error:
            raise ConnectionError(type(error).__name__) from None
        self._open.push_async_callback(pool.close)
        limits = Limits(pool)
        self._open.push_async_callback(limits.close)
        gate = Gate(pool, limiter=limits, lease_ms=self._lease_ms)
        gate.start(self._dsn)
        self._open.push_async_callback(gate.stop)
        self._gate = gate
        # Questions and verdicts have the same members here and there; what it would take to copy
        # them, or to call this by way of another function, is a part of the whole decision's price.
        self.verify_at_once = cast("Callable[[Asked], Verdict | None]", gate.verify_at_once)

    async def verify(self, question: Question) -> Verdict:
        """Return the verdict, which may take PostgreSQL."""
        if self._gate is None:
            return UNAVAILABLE
        return cast("Verdict", await self._gate.verify(cast("VerifyRequest", question)))

    async def close(self) -> None:
        """Return what is leased and not used, and disconnect."""
        self._gate, self.verify_at_once = None, _unavailable
        await self._open.aclose()


def _unavailable(_question: Asked, /) -> Verdict | None:
    return UNAVAILABLE


class InProcessRecorder:
    """Commits events as `POST /v1/usage/events` does."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._open = AsyncExitStack()
        self._commit: GroupCommit | None = None

    async def open(self) -> None:
        """Nothing yet: PostgreSQL may be away, and events wait for it."""

    async def record(self, body: bytes) -> Receipt:
        """Commit a JSON array of events.

        Raises:
            Away: PostgreSQL did not say that it has them.
            BatchRefused: They cannot be read.
        """
        try:
            commit = await self._committing()
            batch = decode_batch(body)
            stored = await commit.record(batch.events, Sender())
        except AuroraError as error:
            if error.status in _NEVER:
                raise BatchRefused(error.code, error.detail) from None
            raise Away(f"{error.detail} [{error.code}]") from None
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise Away(type(error).__name__) from None
        rejected = sorted([*batch.rejected, *stored.rejected], key=lambda each: each.index)
        settled = msgspec.structs.replace(stored, rejected=rejected)
        return msgspec.convert(settled, Receipt, from_attributes=True)

    async def _committing(self) -> GroupCommit:
        if self._commit is None:
            pool = await open_pool(self._dsn, max_size=2, name="aurora-recorder")
            self._open.push_async_callback(pool.close)
            self._commit = await self._open.enter_async_context(
                group_commit(pool, self._dsn, lanes=1)
            )
        return self._commit

    async def close(self) -> None:
        """Disconnect."""
        await self._open.aclose()
