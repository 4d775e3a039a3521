"""Events that wait for Aurora, in a SQLite file that outlives the process which wrote them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from aurora.core import clock

Durability = Literal["after_response", "before_response"]

MAX_BYTES: Final = 256 * 1024 * 1024
"""Of events that wait; at 300 bytes each that is 900,000."""
MAX_DEAD: Final = 100_000
"""Events kept that Aurora would not take; the oldest go first."""
BUSY_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = """
create table if not exists batches (
  id integer primary key autoincrement, events integer not null, body blob not null);
create table if not exists dead (
  id integer primary key autoincrement, at text not null, code text not null,
  detail text not null, event blob not null);
create table if not exists counts (name text primary key, value integer not null);
insert or ignore into counts values ('bytes', 0), ('lost', 0);
"""


class SpoolFull(Exception):
    """The file has no room for more events."""


@dataclass(frozen=True, slots=True)
class Dead:
    """An event that Aurora did not take and never will: why, and the event as JSON."""

    id: int
    at: str
    code: str
    detail: str
    event: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """Batches in the order they were written: their ids, and their events as one JSON array."""

    ids: tuple[int, ...]
    events: int
    body: bytes


class Spool:
    """The file. Any number of threads and processes may use it at once.

    SQLite in WAL mode: what is committed survives the death of the process, at any moment. With
    `synchronous=FULL` ("before_response") it survives a power cut too; with NORMAL a power cut,
    and only that, may take the commits since the last checkpoint, for a tenth of the price.

    A row holds a batch, not an event: one insert and one delete serve hundreds.

    Args:
        path: Of the file; its folder must be there. Two more files appear beside it.
        durability: As in the middleware.
        max_bytes: Of events that wait.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "after_response",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path, self.max_bytes = Path(path), max_bytes
        self._synchronous = "full" if durability == "before_response" else "normal"
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        # Keys' ids, addresses, and paths of customers are nobody else's to read.
        self.path.chmod(0o600)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(f"pragma synchronous = {self._synchronous}")
        with self._lock, self._connection:
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; what waits in it stays."""
        with self._lock:
            self._connection.close()

    def add(self, body: bytes, events: int) -> None:
        """Write a batch: events as JSON, joined by commas. It is durable when this returns.

        Raises:
            SpoolFull: There is no room.
            sqlite3.Error: The disk is full, or the file is damaged.
        """
        with self._transaction():
            self._make_room(len(body))
            self._connection.execute(
                "insert into batches (events, body) values (?, ?)", (events, body)
            )

    def next(self, max_events: int, max_bytes: int) -> Waiting | None:
        """Return the oldest batches, at least one, or None where nothing waits."""
        ids: list[int] = []
        bodies: list[bytes] = []
        events = size = 0
        with self._lock:
            rows = self._connection.execute("select id, events, body from batches order by id")
            for number, count, body in rows:
                if ids and (events + count > max_events or size + len(body) > max_bytes):
                    break
                ids.append(number)
                bodies.append(body)
                events, size = events + count, size + len(body)
            rows.close()
        return Waiting(tuple(ids), events, b"[" + b",".join(bodies) + b"]") if ids else None

    def settle(self, ids: Sequence[int], dead: Sequence[tuple[str, str, bytes]] = ()) -> None:
        """Delete batches that Aurora acknowledged, and keep what it would not take, in one step.

        Args:
            ids: Of the batches.
            dead: Code, detail, and event of what was not taken.
        """
        at = clock.now().isoformat()
        with self._transaction():
            for number in ids:
                # What another sender settled meanwhile is gone, and is not counted off twice.
                gone = self._connection.execute(
                    "delete from batches where id = ? returning length(body)", (number,)
                ).fetchall()
                self._add("bytes", -sum(size for (size,) in gone))
            self._connection.executemany(
                "insert into dead (at, code, detail, event) values (?, ?, ?, ?)",
                [(at, code, detail, event) for code, detail, event in dead],
            )
            if dead:
                self._connection.execute(
                    "delete from dead where id <= (select max(id) from dead) - ?", (MAX_DEAD,)
                )

    def lose(self, events: int) -> None:
        """Write down that so many events were not metered, for want of room."""
        with self._transaction():
            self._add("lost", events)

    @property
    def has_room(self) -> bool:
        """Whether more fits."""
        with self._lock:
            return self._count("bytes") < self.max_bytes

    @property
    def waiting(self) -> int:
        """How many events wait."""
        with self._lock:
            row = self._connection.execute("select coalesce(sum(events), 0) from batches")
            return int(row.fetchone()[0])

    @property
    def lost(self) -> int:
        """How many events there was no room for, ever."""
        with self._lock:
            return self._count("lost")

    def dead(self, limit: int = 1_000) -> list[Dead]:
        """Return what Aurora would not take, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "select id, at, code, detail, event from dead order by id limit ?", (limit,)
            ).fetchall()
        return [Dead(*row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            # Immediate: a lock that is asked for at the first write only cannot wait for others.
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def _make_room(self, size: int) -> None:
        if self._count("bytes") + size > self.max_bytes:
            raise SpoolFull
        self._add("bytes", size)

    def _count(self, name: str) -> int:
        row = self._connection.execute("select value from counts where name = ?", (name,))
        return int(row.fetchone()[0])

    def _add(self, name: str, value: int) -> None:
        self._connection.execute(
            "update counts set value = value + ? where name = ?", (value, name)
        )


def events_of(body: bytes) -> list[bytes]:
    """Return the events of a JSON array, each as it was written."""
    return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
