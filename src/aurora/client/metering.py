"""Takes the facts of served requests off their path, and writes them to the spool in batches."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import secrets
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec

from aurora.client.backend import Backend
from aurora.client.model import UsageEvent, Verdict
from aurora.client.sender import Sender
from aurora.client.sending import SenderProcess
from aurora.client.spool import MAX_BYTES, Durability, Spool, SpoolFull

log = logging.getLogger(__name__)

WhenFull = Literal["drop", "refuse"]
Done = Callable[[BaseException | None], None]
Noted = tuple[bytes, Done | None]
"""An event as JSON, and who waits until it is written."""

FLUSH_S: Final = 0.05
"""What is served waits so long at most before it is written: what a kill may lose."""
MAX_PENDING: Final = 100_000
"""Events in memory; more come only while the disk hangs."""
RECHECK_S: Final = 0.5
"""How often a full spool is asked for room."""
MAX_BATCH: Final = 5_000
TOGETHER: Final = 64
"""Requests whose events are made in one go."""
CLOSE_TIMEOUT_S: Final = 5.0
MAX_TEXT: Final = 2_048

_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class Served:
    """What the middleware knows of a request once it is answered.

    Attributes:
        at_s: When it came, in seconds since 1970.
        verdict: Whose it is.
        method: Of HTTP, as it came.
        endpoint: The route's pattern, or the path.
        status: Of the answer.
        ms: Milliseconds from its headers to its last byte.
        origin: The header.
        user_agent: The header.
        ip: The caller's address, behind declared proxies.
        event_id: Where one's own proxy gave it a name; otherwise the meter does.
        more: What the application noted.
        done: Told once it is written, or not.
    """

    at_s: float
    verdict: Verdict
    method: str
    endpoint: str
    status: int
    ms: int
    origin: str | None
    user_agent: str | None
    ip: str | None
    event_id: str | None
    more: Mapping[str, Any] | None
    done: Done | None


class Meter:
    """One a middleware. `note` writes an event down in memory; a thread takes them to the disk.

    Events become JSON several in a row, where the requests are served: alone between two requests,
    one costs five times as much, for the processor has its code at hand no more. To the thread,
    which takes Python's turns from the event loop, only the last few are left.

    Ids are made when a request is noted and written with it, so that every attempt to send the
    event, by whichever process, has the same one.

    Args:
        backend: What events are sent to in the end.
        path: Of the spool; None keeps nothing and meters nothing.
        durability: As in the middleware.
        when_full: As in the middleware.
        max_bytes: Of events that wait.
        flush_s: How long events are gathered before they are written.

    Attributes:
        refuses: Whether a request must be refused because it could not be metered.
    """

    def __init__(
        self,
        backend: Backend,
        path: str | Path,
        *,
        durability: Durability = "after_response",
        when_full: WhenFull = "drop",
        max_bytes: int = MAX_BYTES,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._backend, self._path, self._max_bytes = backend, path, max_bytes
        self.durability, self.when_full = durability, when_full
        self._flush_s = 0.0 if durability == "before_response" else flush_s
        self._lock = threading.Lock()
        self._begin_anew()
        # The threads, the file, and what is noted are the parent's; a child begins its own.
        reference = weakref.WeakMethod(self._begin_anew)
        os.register_at_fork(after_in_child=lambda: (again := reference()) and again())

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._prefix = secrets.token_hex(8)
        self._next_number = count(1).__next__
        self._noted: deque[Served] = deque()
        self._pending: deque[Noted] = deque()
        self._something = threading.Event()
        self._is_told = False
        self._is_stopping = False
        self._is_full = self.refuses = False
        self._writer: threading.Thread | None = None
        self._sender: Sender | SenderProcess | None = None
        self._spool: Spool | None = None

    @property
    def spool(self) -> Spool:
        """The file, opened where it is not yet."""
        self.start()
        if self._spool is None:
            raise RuntimeError("the meter is closed")
        return self._spool

    def start(self) -> None:
        """Open the file and start the threads, where that is not done in this process."""
        with self._lock:
            if self._writer is not None or self._is_stopping:
                return
            spool = Spool(self._path, durability=self.durability, max_bytes=self._max_bytes)
            self._spool = spool
            plan = self._backend.plan()
            self._sender = (
                Sender(spool, self._backend.recorder())
                if plan is None
                else SenderProcess(spool, plan)
            )
            self._sender.start()
            self._writer = threading.Thread(
                target=self._write_forever,
                args=(spool, self._sender),
                name="aurora-spool",
                daemon=True,
            )
            self._writer.start()

    def note(self, served: Served) -> None:
        """Take a request down; it is written within `flush_s`. Nothing here fails the request."""
        self._noted.append(served)
        if len(self._noted) >= TOGETHER:
            self._put_into_words()
        if not self._is_told:
            if self._writer is None:
                self.start()
            self._is_told = True
            self._something.set()

    def _put_into_words(self) -> None:
        """Make JSON of what was noted; whichever thread takes a request off the queue does it."""
        while self._noted:
            try:
                served = self._noted.popleft()
            except IndexError:
                # Another thread was faster.
                return
            try:
                event = _encode(self._event(served))
            except Exception as error:
                # What the application noted is no JSON: its own event is lost, and no other.
                log.exception("usage of a request cannot be written")
                if served.done is not None:
                    served.done(error if self.when_full == "refuse" else None)
            else:
                self._pending.append((event, served.done))

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what was noted, send for at most so many seconds, and end."""
        self._is_stopping = True
        self._something.set()
        if self._writer is not None:
            self._writer.join(timeout_s)
        if self._sender is not None:
            self._sender.stop(timeout_s)
        if self._spool is not None:
            self._spool.close()
        self._writer = self._sender = self._spool = None

    def _write_forever(self, spool: Spool, sender: Sender | SenderProcess) -> None:
        stopping = False
        while not stopping:
            self._something.wait(RECHECK_S if self._is_full else None)
            stopping = self._is_stopping
            if self._flush_s and not stopping:
                # Meanwhile a batch gathers. The event is cleared before the batch is taken, so
                # that whoever comes between is in this batch, and at worst wakes for nothing.
                time.sleep(self._flush_s)
            self._listen()
            if self._is_full:
                self._set_full(not spool.has_room)
            self._put_into_words()
            # Taken one by one: a list that is swapped loses who appends to it at that moment.
            noted = [self._pending.popleft() for _ in range(len(self._pending))]
            for first in range(0, len(noted), MAX_BATCH):
                self._write(spool, noted[first : first + MAX_BATCH])
            if noted:
                sender.wake()

    def _listen(self) -> None:
        """Want to be told of what is noted from here on."""
        self._something.clear()
        # After it: whoever believes until here that the thread was told is in the batch to come.
        self._is_told = False

    def _write(self, spool: Spool, noted: list[Noted]) -> None:
        """Write a batch, and tell those who wait for it."""
        failed: BaseException | None = None
        try:
            spool.add(b",".join([event for event, _ in noted]), len(noted))
        except (SpoolFull, sqlite3.Error) as error:
            if not self._is_full:
                log.error("usage cannot be written to %s: %r", spool.path, error)  # noqa: TRY400
            self._set_full(True)
            if self._is_kept(noted):
                return
            failed = error
            self._lose(spool, len(noted))
        except Exception as error:
            failed = error
            log.exception("usage of %d requests was not written", len(noted))
        for _, done in noted:
            if done is not None:
                done(failed if self.when_full == "refuse" else None)

    def _set_full(self, is_full: bool) -> None:
        self._is_full = is_full
        self.refuses = is_full and self.when_full == "refuse"

    def _is_kept(self, noted: list[Noted]) -> bool:
        """Put what was served already back to be tried again, where nothing more is served."""
        if self.when_full != "refuse" or self.durability != "after_response" or self._is_stopping:
            return False
        if len(self._pending) + len(noted) > MAX_PENDING:
            return False
        self._pending.extendleft(reversed(noted))
        return True

    def _lose(self, spool: Spool, events: int) -> None:
        try:
            spool.lose(events)
        except sqlite3.Error:
            log.exception("usage of %d requests is lost", events)

    def _event(self, served: Served) -> UsageEvent:
        verdict, user_agent = served.verdict, served.user_agent
        event = UsageEvent(
            id=served.event_id or f"{self._prefix}-{self._next_number():x}",
            # As JSON has it: making a datetime of it first costs more than the whole event.
            timestamp=cast("datetime", moment(served.at_s)),
            endpoint=served.endpoint[:MAX_TEXT] or "/",
            status_code=served.status,
            api_key_id=verdict.key_id,
            organization_id=verdict.organization_id,
            source="aurora-middleware",
            method=_method(served.method),
            response_time_ms=served.ms,
            origin=served.origin,
            user_agent=None if user_agent is None else user_agent[:MAX_TEXT],
            ip_address=None if served.ip is None else _address(served.ip),
        )
        if served.more:
            for name, value in served.more.items():
                setattr(event, name, value)
        return event


def moment(at_s: float) -> str:
    """Return a moment as RFC 3339 in UTC, to the microsecond; from seconds since 1970."""
    second, micros = divmod(round(at_s * 1e6), 1_000_000)
    return f"{_second(second)}.{micros:06d}Z"


@lru_cache(maxsize=16)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def _method(text: str) -> str:
    """Return a method as events may name it."""
    return text if _METHOD.fullmatch(text) else "OTHER"


@lru_cache(maxsize=4_096)
def _address(text: str) -> str | None:
    """Return an IP address, None for what a Unix socket or a test calls its peer."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
