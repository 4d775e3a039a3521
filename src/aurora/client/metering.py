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
from datetime import datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from aurora.client.backend import Backend
from aurora.client.model import UsageEvent
from aurora.client.sender import Sender
from aurora.client.sending import SenderProcess
from aurora.client.spool import MAX_BYTES, Durability, Spool, SpoolFull

log = logging.getLogger(__name__)

WhenFull = Literal["drop", "refuse"]
Done = Callable[[BaseException | None], None]

FLUSH_S: Final = 0.05
"""What is served waits so long at most before it is written: what a kill may lose."""
MAX_PENDING: Final = 100_000
"""Events in memory; more come only while the disk hangs."""
RECHECK_S: Final = 0.5
"""How often a full spool is asked for room."""
MAX_BATCH: Final = 5_000
CLOSE_TIMEOUT_S: Final = 5.0
MAX_TEXT: Final = 2_048

_METHOD: Final = re.compile(r"[A-Z]{1,20}")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class Served:
    """What the middleware knows of a request once it is answered; nobody changes it then."""

    number: int
    at: datetime
    organization_id: UUID
    key_id: UUID
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
    """One a middleware. `note` costs the request an append; a thread does the rest.

    Ids are made when a request is noted and written with it, so that every attempt to send the
    event, by whichever process, has the same one.

    Args:
        backend: What events are sent to in the end.
        path: Of the spool; None keeps nothing and meters nothing.
        durability: As in the middleware.
        when_full: As in the middleware.
        max_bytes: Of events that wait.
        flush_s: How long events are gathered before they are written.
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
        self.next_number = count(1).__next__
        self._pending: deque[Served] = deque()
        self._something = threading.Event()
        self._is_stopping = False
        self._is_full = False
        self._writer: threading.Thread | None = None
        self._sender: Sender | SenderProcess | None = None
        self._spool: Spool | None = None

    @property
    def is_full(self) -> bool:
        """Whether a request must be refused because it could not be metered."""
        return self._is_full and self.when_full == "refuse"

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
        """Take a request down; it is written within `flush_s`."""
        self._pending.append(served)
        if not self._something.is_set():
            if self._writer is None:
                self.start()
            self._something.set()

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
            self._something.clear()
            if self._is_full:
                self._is_full = not spool.has_room
            # Taken one by one: a list that is swapped loses who appends to it at that moment.
            noted = [self._pending.popleft() for _ in range(len(self._pending))]
            for first in range(0, len(noted), MAX_BATCH):
                self._write(spool, noted[first : first + MAX_BATCH])
            if noted:
                sender.wake()

    def _write(self, spool: Spool, noted: list[Served]) -> None:
        """Write a batch, and tell those who wait for it."""
        failed: BaseException | None = None
        try:
            events = _encode([self._event(served) for served in noted])
            # Without the brackets: batches are joined by commas.
            spool.add(events[1:-1], len(noted))
        except (SpoolFull, sqlite3.Error) as error:
            if not self._is_full:
                log.error("usage cannot be written to %s: %r", spool.path, error)  # noqa: TRY400
            self._is_full = True
            if self._is_kept(noted):
                return
            failed = error
            self._lose(spool, len(noted))
        except Exception as error:
            failed = error
            log.exception("usage of %d requests was not written", len(noted))
        for served in noted:
            if served.done is not None:
                served.done(failed if self.when_full == "refuse" else None)

    def _is_kept(self, noted: list[Served]) -> bool:
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
        event = UsageEvent(
            id=served.event_id or f"{self._prefix}-{served.number:x}",
            timestamp=served.at,
            endpoint=served.endpoint[:MAX_TEXT] or "/",
            status_code=served.status,
            api_key_id=served.key_id,
            organization_id=served.organization_id,
            source="aurora-middleware",
            method=_method(served.method),
            response_time_ms=served.ms,
            origin=served.origin,
            user_agent=None if served.user_agent is None else served.user_agent[:MAX_TEXT],
            ip_address=None if served.ip is None else _address(served.ip),
        )
        if served.more:
            for name, value in served.more.items():
                setattr(event, name, value)
        return event


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
