"""Sends what waits in the spool, in a thread of its own, until Aurora has said that it has it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import threading
from typing import Final

from aurora.client.backend import Away, BatchRefused, Recorder
from aurora.client.model import MAX_EVENTS_PER_CALL, Receipt
from aurora.client.spool import Spool, events_of

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: several senders then cost traffic, not truth
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
LINGER_S: Final = 0.25
"""Between two calls that were not full, so that a call carries many events."""
POLL_S: Final = 1.0
"""How often the file is looked into for what other processes wrote."""
MAX_BACKOFF_S: Final = 30.0
FIRST_BACKOFF_S: Final = 0.25
JOIN_S: Final = 1.0


class Sender:
    """One a process; of all processes that share a file, one sends at a time.

    Args:
        spool: What it takes from.
        recorder: What it gives to.
    """

    def __init__(self, spool: Spool, recorder: Recorder) -> None:
        self._spool, self._recorder = spool, recorder
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._stop = asyncio.Event(), asyncio.Event()
        self._is_stopping = False
        self._until_s = 0.0
        self._lock: int | None = None
        self._thread = threading.Thread(target=self._run, name="aurora-sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something waits."""
        self._tell(self._wake)

    def stop(self, timeout_s: float) -> None:
        """Send what waits for at most so many seconds, then end; the rest stays in the file."""
        self._until_s, self._is_stopping = timeout_s, True
        self._tell(self._stop)
        self._thread.join(timeout_s + JOIN_S)

    def _tell(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            # A loop that has ended has nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(event.set)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._send_until_stopped())
            except Exception:
                log.exception("the sender of usage events ended; what waits stays in the file")

    async def _send_until_stopped(self) -> None:
        if self._is_stopping:
            self._stop.set()
        sending = asyncio.create_task(self._send_forever())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._wake.set()
            await asyncio.wait_for(sending, self._until_s)
        except TimeoutError:
            log.info("usage events wait in %s for the next start", self._spool.path)
        finally:
            stopping.cancel()
            await self._recorder.close()
            if self._lock is not None:
                os.close(self._lock)

    async def _send_forever(self) -> None:
        await self._recorder.open()
        failures = 0
        while True:
            # Cleared first: what is written while the file is read is another look.
            self._wake.clear()
            try:
                sent = await self._send_some() if self._may_send() else 0
            except (Away, sqlite3.Error) as error:
                if self._is_stopping:
                    return
                failures += 1
                if failures == 1:
                    log.warning("usage events wait in %s: %s", self._spool.path, error)
                await _first(self._stop, self._backoff_s(failures, error))
                continue
            failures = 0
            if self._is_stopping:
                if not sent:
                    return
            elif not sent:
                await _first(self._wake, POLL_S)
            elif sent < MAX_EVENTS_PER_CALL // 2:
                await _first(self._stop, LINGER_S)

    @staticmethod
    def _backoff_s(failures: int, error: Exception) -> float:
        bound = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
        jittered = random.uniform(bound / 2, bound)  # noqa: S311 - nobody gains by guessing it
        asked_s = error.retry_after_s if isinstance(error, Away) else None
        return jittered if asked_s is None else min(MAX_BACKOFF_S, asked_s) + jittered / 2

    def _may_send(self) -> bool:
        """Return whether this process is the one that sends."""
        if self._lock is not None or fcntl is None:
            return True
        name = self._spool.path.with_name(self._spool.path.name + ".sender")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The kernel lets go of it when the process dies, however that happens.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    async def _send_some(self) -> int:
        """Send the oldest batches and delete them once they are acknowledged; return how many."""
        waiting = self._spool.next(MAX_EVENTS_PER_CALL, MAX_BODY_BYTES)
        if waiting is None:
            return 0
        dead = await self._record(waiting.body, waiting.events)
        self._spool.settle(waiting.ids, dead)
        return waiting.events

    async def _record(self, body: bytes, count: int) -> list[tuple[str, str, bytes]]:
        """Record events; return those that Aurora will never take, with code and reason."""
        try:
            receipt = await self._recorder.record(body)
        except BatchRefused as refused:
            events = events_of(body)
            if len(events) == 1:
                return [(refused.code, refused.detail, events[0])]
            # One event spoils the batch; halves find it in as many calls as its place has bits.
            middle = len(events) // 2
            return [
                dead
                for half in (events[:middle], events[middle:])
                for dead in await self._record(b"[" + b",".join(half) + b"]", len(half))
            ]
        if receipt.total != count:
            raise Away(f"the receipt speaks of {receipt.total} events, and {count} were sent")
        return _dead(receipt, body) if receipt.rejected or receipt.conflicts else []


async def _first(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, or so many seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


def _dead(receipt: Receipt, body: bytes) -> list[tuple[str, str, bytes]]:
    events = events_of(body)
    return [(each.code, each.detail, events[each.index]) for each in receipt.rejected] + [
        ("id_conflict", "The id was counted before with other content.", events[each.index])
        for each in receipt.conflicts
    ]
