"""What an import counts, keeps for resuming, and reports at the end."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import msgspec

from aurora.features.usage.importing.formats import Defaults, Format
from aurora.features.usage.importing.ordinals import Position
from aurora.integrations.textfiles import UnreadableFile

MAX_LISTED = 1_000
FINGERPRINT_BYTES = 64 * 1024
STATE_VERSION = 1


class Counts(msgspec.Struct):
    """What became of the records so far, over all runs through the file."""

    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0


class LineRejection(msgspec.Struct, frozen=True):
    """A line that was not taken, by the parser or by the ingest: where, a code, and why."""

    line_number: int
    code: str
    detail: str


class LineConflict(msgspec.Struct, frozen=True):
    """A line whose id was stored before with other content."""

    line_number: int
    id: str


class Progress(msgspec.Struct, frozen=True):
    """How far an import is: bytes of the file as it lies on disk, and the counts so far."""

    bytes_done: int
    bytes_total: int
    counts: Counts


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did.

    The counts are of the whole file, earlier interrupted runs included. The lists are of this run
    and hold the first MAX_LISTED of each. `resumed_after_line` is None when it began at the front,
    `format` is None when the file holds nothing. `duration_s` is in seconds, of this run.
    """

    format: Format | None
    counts: Counts
    rejections: tuple[LineRejection, ...]
    conflicts: tuple[LineConflict, ...]
    resumed_after_line: int | None
    duration_s: float


class Saved(msgspec.Struct, frozen=True):
    """A checkpoint as it is stored: `offset` in bytes for people, `state` is JSON and ours."""

    offset: int
    state: Mapping[str, Any]


class Checkpoint(Protocol):
    """Keeps how far a file was imported; the key names file, defaults, and format."""

    async def load(self, key: str) -> Saved | None:
        """Return what was saved last under this key."""

    async def save(self, key: str, saved: Saved) -> None:
        """Replace what is saved under this key."""

    async def clear(self, key: str) -> None:
        """Forget the key: the file was read to its end."""


class State(msgspec.Struct, frozen=True):
    """The JSON of a checkpoint."""

    version: int
    position: Position
    counts: Counts

    def to_saved(self) -> Saved:
        """Return the form in which it is stored."""
        return Saved(self.position.offset, msgspec.to_builtins(self))


def read_state(saved: Saved | None) -> State | None:
    """Return the state that was saved, or None where there is none this version can read.

    Beginning anew is always right, as the ids of a file do not change; it only takes longer.
    """
    if saved is None:
        return None
    try:
        state = msgspec.convert(saved.state, State)
    except msgspec.ValidationError:
        return None
    return state if state.version == STATE_VERSION else None


def checkpoint_key(path: Path, defaults: Defaults, format: str) -> str:  # noqa: A002
    """Return the key of a file: a digest of its first 64 KiB, its size, and how it is read.

    The name of the file is no part of it. Key and organization are, as a file that is imported for
    somebody else begins at the front.

    Raises:
        UnreadableFile: The file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(FINGERPRINT_BYTES), path.stat().st_size
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from error
    reading = f"{size}|{defaults.organization_id}|{defaults.api_key_id}|{format}"
    return blake2b(head + b"|" + reading.encode(), digest_size=16).hexdigest()
