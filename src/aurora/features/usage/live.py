"""Shows usage as it comes: each second one look an organization, shared by all who listen to it.

It is a glance and no record. An event whose transaction took longer than `LOOK_BACK_S`, or came in
a second with more than `MAX_EVENTS_A_LOOK`, may be left out; it is counted all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

import msgspec
import psycopg
import structlog

from aurora.core import clock
from aurora.core.errors import AuroraError, Unavailable
from aurora.db.pool import Pool
from aurora.db.transaction import Connection, tenant, transaction
from aurora.features.usage import store
from aurora.features.usage.model import LiveEvent

LOOK_EVERY_S: Final = 1.0
LOOK_BACK_S: Final = 5.0
"""Ids are given out before rows are committed, so the last few seconds are looked at again."""
MAX_EVENTS_A_LOOK: Final = 200
MAX_LISTENERS: Final = 200
MAX_LISTENERS_EACH: Final = 20
MAX_WAITING_PIECES: Final = 10
"""Looks that wait for a slow reader; what comes beyond is left out and said so."""
HEARTBEAT_S: Final = 10.0
MAX_STREAM_S: Final = 60.0
"""Then the reader connects again and is identified anew: a key that was revoked hears no longer."""
RETRY_AFTER_S: Final = 5

RETRY: Final = b"retry: 1000\n\n"
HEARTBEAT: Final = b": \n\n"
SKIPPED: Final = b'event: skipped\ndata: {"reason": "more came than is shown"}\n\n'

log = structlog.get_logger(__name__)


class LiveBusy(Unavailable):
    """So many listen already as this process serves."""

    code, title = "live_busy", "Too many listen to live usage here; try again in a moment"


class Listener:
    """One reader and what waits for it."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING_PIECES + 1)
        self._is_behind = False

    def tell(self, piece: bytes) -> None:
        """Hand a piece on, or remember that one was left out."""
        if self._pieces.qsize() >= MAX_WAITING_PIECES:
            self._is_behind = True
            return
        if self._is_behind:
            self._is_behind = False
            piece = SKIPPED + piece
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(asyncio.QueueFull):
            self._pieces.put_nowait(None)

    async def next(self, timeout_s: float) -> bytes | None:
        """Return the next piece, a heartbeat when none came in time, None at the end."""
        try:
            return await asyncio.wait_for(self._pieces.get(), timeout_s)
        except TimeoutError:
            return HEARTBEAT


class _Followed:
    """One organization: who listens, and which ids were shown."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.floor: int | None = None
        self._shown: set[int] = set()
        self._looks: deque[tuple[float, int]] = deque()

    def unseen(self, found: list[LiveEvent]) -> tuple[list[LiveEvent], bool]:
        """Return and remember the events that were not shown, and whether those are all."""
        fresh = [event for event in found if event.id not in self._shown]
        is_whole = len(found) < MAX_EVENTS_A_LOOK or len(fresh) < len(found)
        self._shown |= {event.id for event in fresh}
        now_s = time.monotonic()
        highest = max((event.id for event in found), default=self.floor or 0)
        self._looks.append((now_s, highest))
        while self._looks and self._looks[0][0] < now_s - LOOK_BACK_S:
            self.floor = max(self.floor or 0, self._looks.popleft()[1])
        self._shown = {each for each in self._shown if each > (self.floor or 0)}
        return fresh, is_whole


class Live:
    """Follows organizations for the readers of one process.

    Each is read as its own tenant, so row level security and not this class keeps them apart.

    Args:
        pool: For the looks.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._followed: dict[UUID, _Followed] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @contextmanager
    def listening(self, organization_id: UUID) -> Iterator[Listener]:
        """Give a listener for as long as the block lasts.

        Raises:
            LiveBusy: As many as may listen here already, or to this organization.
        """
        followed = self._followed.get(organization_id) or _Followed()
        everybody = sum(len(each.listeners) for each in self._followed.values())
        if everybody >= MAX_LISTENERS or len(followed.listeners) >= MAX_LISTENERS_EACH:
            raise LiveBusy(retry_after_s=RETRY_AFTER_S)
        self._followed[organization_id] = followed
        listener = Listener()
        followed.listeners.add(listener)
        if self._is_closed:
            listener.end()
        elif self._task is None:
            self._task = asyncio.create_task(self._look_on())
        try:
            yield listener
        finally:
            followed.listeners.discard(listener)
            if not followed.listeners:
                self._followed.pop(organization_id, None)

    async def stream(self, organization_id: UUID, after_id: int | None) -> AsyncGenerator[bytes]:
        """Yield server-sent events (WHATWG HTML, section 9.2) for a bounded time.

        Args:
            organization_id: Of a caller who may read it.
            after_id: What the reader saw last, if it was connected before.

        Raises:
            LiveBusy: As `listening`.
        """
        with self.listening(organization_id) as listener:
            yield RETRY
            if after_id is not None:
                missed = await self._read(organization_id, after_id)
                if missed:
                    yield written(missed)
            ends_s = time.monotonic() + MAX_STREAM_S
            while (left_s := ends_s - time.monotonic()) > 0:
                piece = await listener.next(min(HEARTBEAT_S, left_s))
                if piece is None:
                    return
                yield piece

    async def close(self) -> None:
        """End every stream; those that begin after this end at once."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for followed in self._followed.values():
            for listener in followed.listeners:
                listener.end()

    async def _look_on(self) -> None:
        while self._followed:
            for organization_id, followed in list(self._followed.items()):
                try:
                    await self._look_at(organization_id, followed)
                except (AuroraError, psycopg.Error, OSError) as error:
                    # The next look shows what this one missed.
                    log.warning("live_usage_not_read", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)
        self._task = None

    async def _look_at(self, organization_id: UUID, followed: _Followed) -> None:
        if followed.floor is None:
            async with transaction(self._pool, tenant(organization_id), read_only=True) as conn:
                followed.floor = await newest(conn, organization_id)
            return
        found = await self._read(organization_id, followed.floor)
        fresh, is_whole = followed.unseen(found)
        if fresh:
            piece = written(fresh, is_whole=is_whole)
            for listener in followed.listeners:
                listener.tell(piece)

    async def _read(self, organization_id: UUID, after_id: int) -> list[LiveEvent]:
        async with transaction(self._pool, tenant(organization_id), read_only=True) as conn:
            return await recent(conn, organization_id, after_id)


def first_day() -> date:
    """Return yesterday in UTC: an event that comes now is seldom older, and not after tomorrow."""
    return clock.now().date() - timedelta(days=1)


async def newest(conn: Connection, organization_id: UUID) -> int:
    """Return the id of the latest event, 0 where there is none of these days."""
    return await store.find_newest_event(conn, organization_id, first_day=first_day())


async def recent(conn: Connection, organization_id: UUID, after_id: int) -> list[LiveEvent]:
    """Return events of yesterday to tomorrow (UTC) above an id, the latest of them, in order."""
    found = await store.list_live_events(
        conn,
        organization_id,
        first_day=first_day(),
        after_id=after_id,
        limit=MAX_EVENTS_A_LOOK,
    )
    return sorted(found, key=lambda event: event.id)


def written(events: list[LiveEvent], *, is_whole: bool = True) -> bytes:
    """Return events as they stand in a stream, with a word before them where some are left out."""
    pieces = [
        b"id: %d\nevent: usage\ndata: %s\n\n" % (event.id, msgspec.json.encode(event))
        for event in events
    ]
    return b"".join(pieces if is_whole else [SKIPPED, *pieces])


def read(piece: bytes) -> list[LiveEvent]:
    """Return the events of a piece as `written` made it."""
    lines = piece.split(b"\n")
    return [
        msgspec.json.decode(data.removeprefix(b"data: "), type=LiveEvent)
        for kind, data in pairwise(lines)
        if kind == b"event: usage"
    ]


@asynccontextmanager
async def live(pool: Pool, stopping: asyncio.Event) -> AsyncIterator[Live]:
    """Give what follows usage; once `stopping` is set, its streams end and hold no shutdown up."""
    follows = Live(pool)

    async def end() -> None:
        await stopping.wait()
        await follows.close()

    ending = asyncio.create_task(end())
    try:
        yield follows
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        await follows.close()
