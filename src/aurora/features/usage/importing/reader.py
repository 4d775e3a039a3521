"""Opens a usage file of any format and hands out its records one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from aurora.features.usage.importing.access_log import AccessLogParser
from aurora.features.usage.importing.cloudevents import CloudEventsParser
from aurora.features.usage.importing.csv_rows import CsvParser
from aurora.features.usage.importing.detect import detect_format, is_array, named_format
from aurora.features.usage.importing.formats import (
    Defaults,
    Format,
    LineParser,
    Parsed,
    Record,
    reject,
)
from aurora.features.usage.importing.json_arrays import split_array
from aurora.features.usage.importing.ndjson import NdjsonParser
from aurora.features.usage.importing.ordinals import Ordinals, Position
from aurora.integrations.textfiles import DamagedFile, TextFile, read_head, split_lines

_PARSERS: dict[Format, type[LineParser]] = {
    "access_log": AccessLogParser,
    "ndjson": NdjsonParser,
    "csv": CsvParser,
    "cloudevents": CloudEventsParser,
}


class UsageFile:
    """A usage file being read, from the front or from where an earlier reading stopped.

    Args:
        path: The file, plain or gzip.
        format: `auto` or the name of a format.
        defaults: What the file does not say of its events.
        resume: The position after which to go on.

    Attributes:
        format: The format that was found; None for a file without content.
        size: Bytes of the file as it lies on disk.

    Raises:
        UnreadableFile: The file cannot be opened.
        UnknownFormat: No format fits, or none is called so.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: str = "auto",  # noqa: A002 - it is what the option is called
        defaults: Defaults,
        resume: Position | None = None,
    ) -> None:
        wanted = named_format(format)
        head = read_head(path)
        blank = not head or head.isspace()
        self.format: Format | None = None if blank else wanted or detect_format(head)
        self._ordinals = Ordinals(resume)
        self._resume = resume
        self._parser = (
            _PARSERS[self.format](defaults, self._ordinals, head) if self.format else None
        )
        self._is_array = self.format in ("ndjson", "cloudevents") and is_array(head)
        self._offset, self._line_number = resume.replay_from() if resume else (0, 1)
        self._file = TextFile(path, start=self._offset)
        self.size = self._file.size

    def __enter__(self) -> Self:
        """Return the file; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far of `size`, for showing progress."""
        return self._file.bytes_read

    def records(self) -> Iterator[Record]:
        """Yield each record after the resume position; damage at the end is a rejection."""
        if self._parser is None:
            return
        split = split_array if self._is_array else split_lines
        lines = split(self._file.chunks(), offset=self._offset, line_number=self._line_number)
        records = self._parser.records(lines)
        try:
            if self._resume is not None:
                for record in records:
                    if record[1] > self._resume.offset:
                        yield record
                        break
            yield from records
        except DamagedFile as error:
            yield error.line_number, -1, reject(error.line_number, error.code, error.detail)

    def position_after(self, offset: int, line_number: int) -> Position:
        """Return the position after a record; it must be the last one handed out."""
        return self._ordinals.position(offset, line_number)


def parse_file(
    path: Path,
    *,
    format: str = "auto",  # noqa: A002 - it is what the option is called
    defaults: Defaults,
) -> Iterator[Parsed]:
    """Yield what each line of a usage file becomes: an event, or a rejection with its line number.

    Raises:
        UnreadableFile: The file cannot be opened.
        UnknownFormat: No format fits; the sentence names what was tried.
    """
    with UsageFile(path, format=format, defaults=defaults) as file:
        for _, _, parsed in file.records():
            yield parsed
