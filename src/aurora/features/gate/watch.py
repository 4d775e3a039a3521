"""Proves again and again that nothing a cached decision stands on has changed unseen.

NOTIFY alone proves nothing: a notification can be lost, and a connection can be dead without
knowing it. So the log of changes is read several times a lease, from the snapshot of the last
reading on. What was cached may be used only while the last reading began less than one lease ago;
a notification merely makes the next reading come at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Coroutine
from typing import Any, Final

import psycopg
import structlog

from aurora.core.errors import AuroraError
from aurora.db.pool import Connection, Pool, open_connection
from aurora.db.transaction import PLATFORM, transaction, transaction_on
from aurora.features.gate import store
from aurora.features.gate.cache import Cache
from aurora.features.gate.model import HEARTBEATS_PER_LEASE, LEASE_MS, MAX_CHANGES, MAX_SILENCE_S

CHANNEL: Final = "aurora_gate"
CONNECT_TIMEOUT_S: Final = 5.0
RECONNECT_S: Final = 0.25
FAREWELL_S: Final = 1.0
# CLOCK_BOOTTIME goes on while a machine sleeps, and the lease must too.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

log = structlog.get_logger(__name__)


def seconds() -> float:
    """Return the seconds of a clock that never goes back and does not stop in suspension."""
    return time.clock_gettime(_CLOCK)


class Watch:
    """Reads the gate's change log for one process and says until when its cache may be used.

    Args:
        cache: What is told to forget.
        lease_ms: How old the proof may be, in milliseconds.

    Attributes:
        fresh_until: On the clock of `seconds()`; past it the cache must not be used.
    """

    def __init__(self, cache: Cache, *, lease_ms: int = LEASE_MS) -> None:
        self.cache = cache
        self.lease_s = lease_ms / 1000
        self.fresh_until = 0.0
        self._seen: str | None = None
        self._read_at = 0.0
        self._is_connected = True

    async def run(self, dsn: str) -> None:
        """Watch until cancelled; a connection that breaks is made anew."""
        while True:
            try:
                await self._watch(dsn)
            except (psycopg.Error, AuroraError, OSError, TimeoutError) as error:
                if self._is_connected:
                    self._is_connected = False
                    log.warning("gate_watch_lost", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)

    async def catch_up(self, pool: Pool) -> None:
        """Forget, before this returns, whatever was changed by transactions that have ended.

        Where the log cannot be read everything is forgotten, so this never fails.
        """
        if self._seen is None:
            return
        try:
            reading = asyncio.create_task(self._read_on(pool, self._seen))
            done, _ = await asyncio.wait({reading}, timeout=self.lease_s)
            if done and reading.exception() is None:
                return
            reading.cancel()
        except asyncio.CancelledError:
            self.forget_all()
            raise
        self.forget_all()

    def forget_all(self) -> None:
        """Use nothing that was remembered until now."""
        self.cache.clear()
        self.fresh_until = 0.0

    async def _read_on(self, pool: Pool, seen: str) -> None:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            changes = await store.read_changes(conn, seen)
        self._apply(changes.changed)

    async def _watch(self, dsn: str) -> None:
        connection = await asyncio.wait_for(
            open_connection(dsn, name="aurora-gate"), CONNECT_TIMEOUT_S
        )
        try:
            await _bounded(connection, connection.execute(f"listen {CHANNEL}"), self.lease_s)
            # What was read on another connection may have been another server's, or from before
            # a crash that gave transaction ids out twice.
            self._seen = None
            while True:
                await _bounded(connection, self._beat(connection), self.lease_s)
                if not self._is_connected:
                    self._is_connected = True
                    log.info("gate_watch_back")
                pause_s = self.lease_s / HEARTBEATS_PER_LEASE
                async for _ in connection.notifies(timeout=pause_s, stop_after=1):
                    pass
        finally:
            connection.pgconn.finish()

    async def _beat(self, connection: Connection) -> None:
        began = seconds()
        if began - self._read_at > MAX_SILENCE_S:
            self._seen = None
        is_first = self._seen is None
        async with transaction_on(connection, PLATFORM, read_only=True):
            changes = await store.read_changes(connection, self._seen)
        if is_first:
            # Only now: whatever is read from here on is at least as new as the snapshot.
            self.cache.clear()
        self._apply(changes.changed)
        self._seen, self._read_at = changes.seen, began
        self.fresh_until = began + self.lease_s

    def _apply(self, changed: list[tuple[str | None, str | None]]) -> None:
        if len(changed) > MAX_CHANGES:
            self.cache.clear()
        else:
            self.cache.forget(changed)


async def _bounded(connection: Connection, work: Coroutine[Any, Any, Any], limit_s: float) -> None:
    """Do something on a connection for so long at most; the connection is given up otherwise.

    Not asyncio.timeout: psycopg answers a cancellation by asking the server to cancel and waiting
    for it, which takes seconds where the network swallows everything.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=limit_s)
        if task.done():
            task.result()
            return
        raise TimeoutError
    finally:
        if not task.done():
            _hang_up(connection)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=FAREWELL_S)
            task.cancel()
            task.add_done_callback(_hear)
            connection.pgconn.finish()


def _hang_up(connection: Connection) -> None:
    """End the talk, so that whoever waits for the other side hears that there is nobody.

    The descriptor stays open until nobody waits for it: libuv, under uvloop, aborts the whole
    process where it finds one closed that it was told to watch.
    """
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as talk,
    ):
        talk.shutdown(socket.SHUT_RDWR)


def _hear(task: asyncio.Future[Any]) -> None:
    # What a talk that was ended says at last is nobody's to hear.
    if not task.cancelled():
        task.exception()
