"""Joins the batches of many requests in few transactions; each is answered after its commit.

A commit costs a flush of the disk, so a request of one event that commits alone pays as much for
it as one of a thousand. Here what came while the last transactions were under way goes into the
next one. Nothing is acknowledged before it is committed, and everything that waits is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import psycopg
import structlog

from aurora.core.errors import AuroraError, Unavailable
from aurora.db.errors import DatabaseBusy
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction, transactions_in_turn
from aurora.features.usage import service
from aurora.features.usage.groups import Crowd, Single, Staged
from aurora.features.usage.model import (
    IngestBusy,
    IngestStopping,
    NotAcknowledged,
    Receipt,
    UsageEvent,
)
from aurora.features.usage.owners import Owners
from aurora.features.usage.staging import Outcome, Row, Sender, Staging
from aurora.integrations.hot import Pending

LANES: Final = 2
"""Transactions under way at once, where there is enough for two: while one waits for the disk the
other fills."""

MAX_GROUP_EVENTS: Final = 10_000
MAX_WAITING_EVENTS: Final = 60_000
MAX_SINGLES: Final = 4_096
"""Of at most 16 KiB each, so together as much as the bodies that a hot route may hold."""

GATHER_S: Final = 0.002
FULL_EVENTS: Final = 64
"""So many are worth a transaction of their own beside a small one under way, and fewer wait for it:
each group costs as much as forty events. While the one is stored the next is read and staged. So a
group takes no more than half of what is under way: all of it would be read, then all be stored."""

LARGE_EVENTS: Final = 500
"""So many keep nobody waiting: their own work outweighs what a small group beside them costs."""

SLICE_EVENTS: Final = 100
"""A millisecond's work: an answer of PostgreSQL that came meanwhile waits no longer than that."""

STATEMENT_TIMEOUT_MS: Final = 30_000
BUSY_ATTEMPTS: Final = 3
BUSY_DELAY_S: Final = 0.05
RETRY_AFTER_S: Final = 1
MAX_REFUSALS: Final = 64
"""Failed transactions after which a group is given up: then it is not single events that fail."""

TOUCH_EVERY_S: Final = 60.0
MAX_TOUCHED: Final = 10_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Found:
    """What has become of a group so far."""

    counted: dict[bytes, bytes] = field(default_factory=dict)
    refused: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    failures: int = 0


class GroupCommit:
    """Takes batches and stores them in groups.

    Args:
        pool: For looking keys up.
        writers: Has at least `lanes` connections that nobody else uses.
        lanes: Transactions under way at once.
    """

    def __init__(self, pool: Pool, writers: Pool, *, lanes: int = LANES) -> None:
        self._writers = writers
        self._owners = Owners(pool)
        self._queue: deque[Staged | Single] = deque()
        self._wake = asyncio.Event()
        self._large = asyncio.Lock()
        self._closing = False
        self._queued = 0
        self._held = 0
        self._under_way = 0
        self._singles = 0
        self._small_groups = 0
        self._crowd = 0
        self._touched: dict[UUID, float] = {}
        self._alone: set[asyncio.Task[None]] = set()
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(lanes)]

    async def record(self, events: list[tuple[int, UsageEvent]], sender: Sender) -> Receipt:
        """Store and count events, each once, and return after the commit.

        Args:
            events: With their places; emptied when they are staged, for rows take their memory.
            sender: Who sends them.

        Raises:
            IngestBusy: More waits already than may.
            IngestStopping: This process is about to end.
            NotAcknowledged: It may be stored or not; the same events may be sent again.
        """
        if self._closing:
            raise IngestStopping(retry_after_s=RETRY_AFTER_S)
        size = len(events)
        if self._held and self._held + size > MAX_WAITING_EVENTS:
            raise IngestBusy(retry_after_s=RETRY_AFTER_S)
        self._enter(size)
        try:
            return await self._record(events, sender)
        finally:
            self._leave(size)

    def begin(self, event: UsageEvent, sender: Sender) -> Pending[Receipt] | None:
        """Do the same for a single event without a task; None where it may not be taken now."""
        is_room = self._singles < MAX_SINGLES and self._held < MAX_WAITING_EVENTS
        if self._closing or not is_room:
            return None
        self._singles += 1
        single = Single(event, sender, Pending())
        self._enter(1)
        single.done.add_done_callback(self._leave_alone)
        self._put(single)
        return single.done

    async def close(self) -> None:
        """Store what was taken, and take no more."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._lanes)

    async def _record(self, events: list[tuple[int, UsageEvent]], sender: Sender) -> Receipt:
        staging = await self._staged(events, sender)
        events.clear()
        if staging.rows:
            staged = Staged(staging, asyncio.get_running_loop().create_future())
            self._put(staged)
            await staged.done
        if staging.reversals or staging.untimely:
            await self._set_aside(staging)
        return staging.receipt()

    async def _staged(self, events: Sequence[tuple[int, UsageEvent]], sender: Sender) -> Staging:
        owners, known = await self._owners.find(*service.named_by(events, sender))
        staging = service.staging_for(sender, owners, known)
        if len(events) <= SLICE_EVENTS:
            staging.add_all(events)
            return staging
        # One large batch after the other: the first is then in its transaction while the second is
        # staged, where in turns both would be late.
        async with self._large:
            for begin in range(0, len(events), SLICE_EVENTS):
                staging.add_all(events[begin : begin + SLICE_EVENTS])
                # So that a large batch does not keep small ones waiting.
                await asyncio.sleep(0)
        return staging

    def _enter(self, events: int) -> None:
        self._held += events
        self._under_way += 1

    def _leave(self, events: int) -> None:
        self._held -= events
        self._under_way -= 1
        if not self._under_way:
            # Whoever closes waits for the last of them.
            self._wake.set()

    def _leave_alone(self, _done: Pending[Receipt]) -> None:
        self._singles -= 1
        self._leave(1)

    def _put(self, waiting: Staged | Single) -> None:
        self._queue.append(waiting)
        self._queued += waiting.size
        if self._may_begin():
            self._wake.set()

    async def _set_aside(self, staging: Staging) -> None:
        """Take events back and keep untimely ones: rare, so in a transaction of their own."""
        try:
            # After the rows of the same batch, which it may take back.
            async with transaction(self._writers, PLATFORM) as conn:
                await service.settle_aside(conn, staging)
        except (Unavailable, psycopg.InterfaceError) as error:
            raise NotAcknowledged(retry_after_s=RETRY_AFTER_S) from error

    async def _lane(self) -> None:
        while True:
            while not self._may_begin():
                if self._closing and not self._under_way:
                    return
                self._wake.clear()
                await self._wake.wait()
            self._small_groups += 1
            is_small = True
            try:
                if len(self._queue) < self._crowd and not self._is_full() and not self._closing:
                    # Those who were answered together will soon be back together.
                    await asyncio.sleep(GATHER_S)
                if self._queued >= LARGE_EVENTS:
                    self._small_groups, is_small = self._small_groups - 1, False
                group = self._take()
                if group:
                    self._crowd = len(group)
                    await self._settle(group)
            finally:
                self._small_groups -= is_small

    def _may_begin(self) -> bool:
        return bool(self._queue) and (not self._small_groups or self._is_full())

    def _is_full(self) -> bool:
        return self._queued >= FULL_EVENTS

    def _take(self) -> list[Staged | Single]:
        group: list[Staged | Single] = []
        events = 0
        is_large = self._queued >= LARGE_EVENTS
        most = MAX_GROUP_EVENTS if is_large else max(FULL_EVENTS, (self._held + 1) // 2)
        while self._queue:
            more = self._queue[0].size
            if group and events + more > most:
                break
            events += more
            group.append(self._queue.popleft())
        self._queued -= events
        return group

    async def _settle(self, group: Sequence[Staged | Single]) -> None:
        """Store a group and answer each who waits in it."""
        try:
            batches = await self._batches(group)
            outcome = await self._store(batches)
        except asyncio.CancelledError:
            _fail(group, NotAcknowledged(retry_after_s=RETRY_AFTER_S))
            raise
        except (Unavailable, psycopg.InterfaceError) as error:
            log.warning("usage_not_stored", error=type(error).__name__, requests=len(group))
            # Those behind would only wait as long for the same.
            _fail([*group, *self._queue], NotAcknowledged(retry_after_s=RETRY_AFTER_S))
            self._queue.clear()
            self._queued = 0
        except Exception as error:  # noqa: BLE001 - whatever it is, each request must be answered
            _fail(group, error)
        else:
            for batch in batches:
                batch.settle(outcome)

    async def _batches(self, group: Sequence[Staged | Single]) -> list[Staged | Crowd]:
        """Stage the single events of a group, those of one sender together."""
        batches: list[Staged | Crowd] = [each for each in group if isinstance(each, Staged)]
        senders: dict[tuple[int | None, int | None], list[Single]] = {}
        for each in group:
            if isinstance(each, Single):
                senders.setdefault(each.sender.numbers, []).append(each)
        for singles in senders.values():
            events = [(number, single.event) for number, single in enumerate(singles)]
            named = service.named_by(events, singles[0].sender)
            crowd = Crowd(singles, *await self._owners.find(*named))
            batches.append(crowd)
            for single in crowd.others:
                task = asyncio.create_task(self._record_alone(single))
                self._alone.add(task)
                task.add_done_callback(self._alone.discard)
        return batches

    async def _record_alone(self, single: Single) -> None:
        """Do all that is done for a batch for an event that is not as the others."""
        try:
            receipt = await self._record([(0, single.event)], single.sender)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told where it is awaited
            single.fail(error)
        else:
            if not single.done.done():
                single.done.set_result(receipt)

    async def _store(self, batches: Sequence[Staged | Crowd]) -> Outcome:
        rows: dict[bytes, Row] = {}
        if len(batches) == 1:
            rows = batches[0].staging.rows
        else:
            for batch in reversed(batches):
                # The first who sent an id is the one who is accepted.
                rows |= batch.staging.rows
        found = _Found()
        keys = self._due({key for batch in batches for key in batch.staging.key_ids()})
        if rows:
            await self._write(rows, keys, found)
        return Outcome(rows, found.counted, found.refused)

    async def _write(self, rows: Mapping[bytes, Row], keys: Sequence[UUID], found: _Found) -> None:
        """Store rows in one transaction; where one of them is refused, the others without it."""
        try:
            found.counted |= await self._write_at_once(rows, keys)
        except (psycopg.DataError, psycopg.IntegrityError, AuroraError) as error:
            if isinstance(error, Unavailable):
                raise
            found.failures += 1
            if found.failures > MAX_REFUSALS:
                raise
            if len(rows) == 1:
                log.warning("usage_event_refused", error=type(error).__name__)
                found.refused |= dict.fromkeys(rows, _refusal(error))
                return
            places = sorted(rows)
            for half in (places[: len(places) // 2], places[len(places) // 2 :]):
                await self._write({place: rows[place] for place in half}, keys, found)

    async def _write_at_once(
        self, rows: Mapping[bytes, Row], keys: Sequence[UUID]
    ) -> Mapping[bytes, bytes]:
        for attempt in range(1, BUSY_ATTEMPTS + 1):
            try:
                async with transactions_in_turn(
                    self._writers, PLATFORM, statement_timeout_ms=STATEMENT_TIMEOUT_MS
                ) as turns:
                    outcome = await service.store_rows_together(turns, rows, keys)
            except DatabaseBusy:
                # A deadlock or a timeout: PostgreSQL has rolled it back for certain.
                if attempt == BUSY_ATTEMPTS:
                    raise
                await asyncio.sleep(attempt * BUSY_DELAY_S)
            else:
                return outcome.counted
        raise AssertionError("unreachable")

    def _due(self, keys: set[UUID]) -> list[UUID]:
        """Return the keys whose use is to be written down: each once a minute."""
        now_s = time.monotonic()
        due = sorted(key for key in keys if self._touched.get(key, now_s) <= now_s)
        if len(self._touched) > MAX_TOUCHED:
            self._touched.clear()
        self._touched |= dict.fromkeys(due, now_s + TOUCH_EVERY_S)
        return due


@asynccontextmanager
async def group_commit(pool: Pool, dsn: str, *, lanes: int = LANES) -> AsyncIterator[GroupCommit]:
    """Give a group commit with connections of its own; at the end it stores what it took.

    Readers that use up the pool then keep nobody from recording, and the other way about.

    Raises:
        DatabaseUnavailable: No connection can be made.
    """
    writers = await open_pool(dsn, max_size=lanes, name="aurora-ingest")
    try:
        ingest = GroupCommit(pool, writers, lanes=lanes)
        try:
            yield ingest
        finally:
            await ingest.close()
    finally:
        await writers.close()


def _fail(group: Sequence[Staged | Single], error: Exception) -> None:
    for each in group:
        each.fail(error)


def _refusal(error: Exception) -> tuple[str, str]:
    if isinstance(error, AuroraError):
        return error.code, error.detail
    return "event_refused", "The database does not take this event."
