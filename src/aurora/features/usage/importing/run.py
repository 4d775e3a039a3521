"""Runs a usage file through the ingest: in batches, a few at a time, resumable at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from aurora.core.errors import Unavailable
from aurora.features.usage.importing.formats import Defaults, Rejected
from aurora.features.usage.importing.ordinals import Position
from aurora.features.usage.importing.progress import (
    MAX_LISTED,
    STATE_VERSION,
    Checkpoint,
    Counts,
    ImportReport,
    LineConflict,
    LineRejection,
    Progress,
    State,
    checkpoint_key,
    read_state,
)
from aurora.features.usage.importing.reader import UsageFile
from aurora.features.usage.model import MAX_EVENTS_PER_CALL, Receipt, UsageEvent

MAX_CONCURRENCY = 16
SLICE_RECORDS = 500
CHECKPOINT_EVERY_S = 1.0
COLLECT_EVERY_OBJECTS = 50_000
STOP_GRACE_S = 10.0

Ingest = Callable[[list[UsageEvent]], Awaitable[Receipt]]


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a batch is tried while the platform is unavailable; delays double, in seconds."""

    attempts: int = 8
    first_delay_s: float = 0.2
    max_delay_s: float = 5.0


@dataclass(slots=True)
class _Batch:
    events: list[UsageEvent] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    rejections: list[LineRejection] = field(default_factory=list)
    rejected: int = 0
    lines: int = 0
    position: Position | None = None
    bytes_done: int = 0

    def reject(self, rejection: LineRejection) -> None:
        """Count and keep a rejection; a batch has no more of them than lines."""
        self.rejected += 1
        self.rejections.append(rejection)


async def import_file(
    path: Path,
    ingest: Ingest,
    *,
    format: str = "auto",  # noqa: A002 - it is what the option is called
    defaults: Defaults,
    checkpoint: Checkpoint | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    batch_size: int = 5_000,
    concurrency: int = 4,
    retry: Retry | None = None,
) -> ImportReport:
    """Import a usage file and report what became of every line.

    The file is parsed on the event loop in slices of SLICE_RECORDS: measured against a thread, the
    loop is as fast or faster, because the two would only take the interpreter from each other.

    Args:
        path: The file, plain or gzip.
        ingest: Stores a batch; when it returns, the batch is committed.
        format: `auto` or the name of a format.
        defaults: What the file does not say of its events.
        checkpoint: Where to keep how far it came; without one an import begins at the front.
        on_progress: Called after every batch.
        batch_size: Lines a batch, at most MAX_EVENTS_PER_CALL.
        concurrency: Batches on their way at once, at most MAX_CONCURRENCY. With 4 the database is
            hardly ever without one: measured a quarter more lines a second than with 2.
        retry: How to meet Unavailable.

    Raises:
        UnreadableFile: The file cannot be opened.
        UnknownFormat: No format fits.
        Unavailable: A batch failed as often as `retry` allows. Like any other error of `ingest`,
            and like cancellation, it leaves what was acknowledged in the checkpoint.
    """
    batch_size = max(1, min(batch_size, MAX_EVENTS_PER_CALL))
    concurrency = max(1, min(concurrency, MAX_CONCURRENCY))
    key = checkpoint_key(path, defaults, format) if checkpoint is not None else ""
    state = read_state(await checkpoint.load(key)) if checkpoint is not None else None
    resume = state.position if state else None
    with (
        _seldom_collected(),
        UsageFile(path, format=format, defaults=defaults, resume=resume) as file,
    ):
        run = _Run(file, ingest, checkpoint, key, on_progress, retry or Retry(), state)
        try:
            while (batch := await run.next_batch(batch_size)) is not None:
                while len(run.in_flight) >= concurrency:
                    await run.settle_oldest()
                run.start(batch)
            while run.in_flight:
                await run.settle_oldest()
        except BaseException:
            await run.stop()
            raise
        await run.finish()
        return run.report()


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for unreachable cycles after a batch's worth of objects instead of every 700.

    An import makes thousands of objects that live until their batch is stored and none that refers
    to itself: looking through them was a fourteenth of its time.
    """
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Run:
    """The state of one import: batches on their way, in the order of the file, and the counts."""

    def __init__(
        self,
        file: UsageFile,
        ingest: Ingest,
        checkpoint: Checkpoint | None,
        key: str,
        on_progress: Callable[[Progress], None] | None,
        retry: Retry,
        state: State | None,
    ) -> None:
        self._file = file
        self._ingest = ingest
        self._checkpoint = checkpoint
        self._key = key
        self._on_progress = on_progress
        self._retry = retry
        self._began_s = self._saved_s = time.monotonic()
        self._counts = state.counts if state else Counts()
        self._resumed_after_line = state.position.line_number if state else None
        self._records = file.records()
        self._position: Position | None = None
        self._rejections: list[LineRejection] = []
        self._conflicts: list[LineConflict] = []
        self.in_flight: deque[tuple[asyncio.Task[Receipt], _Batch]] = deque()

    async def next_batch(self, size: int) -> _Batch | None:
        """Parse the next `size` lines, giving way to the batches on their way between slices."""
        batch = _Batch()
        while batch.lines < size:
            wanted = min(SLICE_RECORDS, size - batch.lines)
            taken = self._take(batch, wanted)
            await asyncio.sleep(0)
            if taken < wanted:
                break
        batch.bytes_done = self._file.bytes_read
        return batch if batch.lines else None

    def _take(self, batch: _Batch, wanted: int) -> int:
        taken, last = 0, (-1, 0)
        for line_number, offset, parsed in islice(self._records, wanted):
            taken += 1
            if isinstance(parsed, Rejected):
                batch.reject(LineRejection(line_number, parsed.code, parsed.detail))
            else:
                batch.events.append(parsed)
                batch.line_numbers.append(line_number)
            if offset >= 0:
                last = (offset, line_number)
        batch.lines += taken
        if last[0] >= 0:
            batch.position = self._file.position_after(*last)
        return taken

    def start(self, batch: _Batch) -> None:
        """Send a batch on its way."""
        self.in_flight.append((asyncio.create_task(self._send(batch.events)), batch))

    async def _send(self, events: list[UsageEvent]) -> Receipt:
        if not events:
            return Receipt(accepted=0, duplicates=0)
        delay_s = self._retry.first_delay_s
        for _ in range(self._retry.attempts - 1):
            try:
                return await self._ingest(events)
            except Unavailable:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, self._retry.max_delay_s)
        return await self._ingest(events)

    async def settle_oldest(self) -> None:
        """Wait for the batch that comes first in the file, count it, and save how far we are.

        Raises:
            AuroraError: As the ingest raised it.
        """
        task, batch = self.in_flight[0]
        # Not `await task`: our own cancellation must not tear down a batch that may be committing.
        await asyncio.wait((task,))
        receipt = task.result()
        self.in_flight.popleft()
        self._count(receipt, batch)
        if time.monotonic() - self._saved_s >= CHECKPOINT_EVERY_S:
            await self._save()

    def _count(self, receipt: Receipt, batch: _Batch) -> None:
        for refused in receipt.rejected:
            line_number = batch.line_numbers[refused.index]
            batch.reject(LineRejection(line_number, refused.code, refused.detail))
        counts = self._counts
        counts.lines += batch.lines
        counts.accepted += receipt.accepted
        counts.duplicates += receipt.duplicates
        counts.conflicts += len(receipt.conflicts)
        counts.rejected += batch.rejected
        batch.rejections.sort(key=lambda rejection: rejection.line_number)
        self._rejections += batch.rejections[: MAX_LISTED - len(self._rejections)]
        self._conflicts += [
            LineConflict(batch.line_numbers[conflict.index], conflict.id)
            for conflict in receipt.conflicts[: MAX_LISTED - len(self._conflicts)]
        ]
        if batch.position is not None:
            self._position = batch.position
        self._tell(batch.bytes_done)

    def _tell(self, bytes_done: int) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(bytes_done, self._file.size, copy(self._counts)))

    async def _save(self) -> None:
        if self._checkpoint is None or self._position is None:
            return
        state = State(STATE_VERSION, self._position, self._counts)
        # A checkpoint that cannot be saved costs time on resuming, never a wrong count.
        with contextlib.suppress(Unavailable):
            await self._checkpoint.save(self._key, state.to_saved())
        self._saved_s = time.monotonic()

    async def stop(self) -> None:
        """Let batches on their way finish for STOP_GRACE_S, and save what was acknowledged."""
        tasks = [task for task, _ in self.in_flight]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_GRACE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while self.in_flight:
                task, batch = self.in_flight.popleft()
                if task.cancelled() or task.exception() is not None:
                    break
                self._count(task.result(), batch)
            await self._save()

    async def finish(self) -> None:
        """Forget the checkpoint: the file was read to its end."""
        self._tell(self._file.size)
        if self._checkpoint is not None:
            with contextlib.suppress(Unavailable):
                await self._checkpoint.clear(self._key)

    def report(self) -> ImportReport:
        """Return what became of the file."""
        return ImportReport(
            format=self._file.format,
            counts=self._counts,
            rejections=tuple(self._rejections),
            conflicts=tuple(self._conflicts),
            resumed_after_line=self._resumed_after_line,
            duration_s=time.monotonic() - self._began_s,
        )
