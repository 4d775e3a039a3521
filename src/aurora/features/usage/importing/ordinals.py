"""Event ids for lines that carry none: a digest of the line and its ordinal among equal lines.

Two equal requests in one second are two equal lines, and two events. The same file read twice,
renamed, or compressed must give the same ids. So the n-th occurrence of a line is named by the
digest of the line and n. Occurrences are counted within a bounded window of seconds, because logs
are nearly but not quite in order of time (Apache writes the start of a request at its end).

Equal lines further apart than the window are taken for one. As equal lines name the same second,
that takes a log that comes back to a second after 64 others or 100,000 lines, or one with more than
50,000 different lines in one second. Equal lines in two files are always taken for one: nothing in
them tells a second request from a second copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

DIGEST_BYTES = 16
MAX_SECONDS = 64
MAX_LINES = 100_000
MAX_LINES_OF_A_SECOND = 50_000


class Second(msgspec.Struct, frozen=True, array_like=True):
    """A second whose lines are being counted, and the first line that was counted for it."""

    epoch_s: int
    offset: int
    line_number: int


class Position(msgspec.Struct, frozen=True):
    """The last finished record of a file, and the seconds that were being counted there.

    `offset` is the first byte of that record in the decompressed stream, `line_number` its line.
    Reading on from here begins at `replay_from`, counts again, and hands out what comes after.
    """

    offset: int
    line_number: int
    seconds: tuple[Second, ...] = ()

    def replay_from(self) -> tuple[int, int]:
        """Return the offset in bytes, and the line number there, at which to read on."""
        starts = [(second.offset, second.line_number) for second in self.seconds]
        return min([*starts, (self.offset, self.line_number)])


@dataclass(slots=True)
class _Tally:
    start: Second
    counts: dict[str, int] = field(default_factory=dict)


class Ordinals:
    """Names lines, in the order of the file.

    Args:
        resume: Where an earlier reading stopped. Lines up to it only rebuild the counts: those of
            seconds that were being counted there, each from where its count began.
    """

    def __init__(self, resume: Position | None = None) -> None:
        self._replay_until = -1 if resume is None else resume.offset
        self._live = {s.epoch_s: _Tally(s) for s in resume.seconds} if resume else {}
        self._epoch_s: int | None = None
        self._counts: dict[str, int] = {}
        # Of all live seconds together: summing them at every new second took a third of an import.
        self._lines = 0

    def name(self, raw: bytes, epoch_s: int, offset: int, line_number: int) -> str:
        """Return the id of this line.

        Args:
            raw: The line without its line end.
            epoch_s: The second it speaks of, in seconds since 1970-01-01 UTC.
            offset: Its first byte in the decompressed stream.
            line_number: Its number.
        """
        if epoch_s != self._epoch_s:
            self._turn_to(epoch_s, offset, line_number)
        name = "line-" + blake2b(raw, digest_size=DIGEST_BYTES).hexdigest()
        counts = self._counts
        before = counts.get(name)
        if before is not None:
            counts[name] = before + 1
            return f"{name}-{before + 1}"
        if len(counts) >= MAX_LINES_OF_A_SECOND:
            self._lines -= len(self._live.pop(epoch_s).counts)
            self._turn_to(epoch_s, offset, line_number)
            counts = self._counts
        counts[name] = 1
        if self._epoch_s is not None:
            self._lines += 1
        return name

    def position(self, offset: int, line_number: int) -> Position:
        """Return the position after the record that begins at `offset`, the last one named."""
        seconds = tuple(tally.start for tally in self._live.values())
        return Position(offset, line_number, seconds)

    def _turn_to(self, epoch_s: int, offset: int, line_number: int) -> None:
        tally = self._live.get(epoch_s)
        if offset <= self._replay_until:
            if tally is None or offset < tally.start.offset:
                # The first reading had forgotten this count when it stopped.
                self._epoch_s, self._counts = None, {}
                return
        elif tally is None:
            self._forget()
            tally = self._live[epoch_s] = _Tally(Second(epoch_s, offset, line_number))
        if tally is not None:
            self._epoch_s, self._counts = epoch_s, tally.counts

    def _forget(self) -> None:
        """Let the seconds go that were begun first, until there is room for one more."""
        while self._live and (len(self._live) >= MAX_SECONDS or self._lines > MAX_LINES):
            self._lines -= len(self._live.pop(next(iter(self._live))).counts)
