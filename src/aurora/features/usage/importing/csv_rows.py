"""CSV with a header: columns are the fields of a usage event, metadata is JSON, empty is absent."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from aurora.features.usage.decoding import explain
from aurora.features.usage.importing.formats import (
    Defaults,
    Record,
    Rejected,
    UnknownFormat,
    reject,
    reject_long_line,
)
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent
from aurora.features.usage.packing import check_event
from aurora.integrations.textfiles import MAX_LINE_BYTES, UTF8_BOM, Line

MAX_ROW_LINES = 100
DELIMITERS = (",", ";", "\t")
COLUMNS = tuple(UsageEvent.__struct_fields__)
REQUIRED = ("timestamp", "endpoint", "status_code")

# What spreadsheets and psql's \copy write; 1 and 0, true and false are msgspec's own.
_BOOLEANS = {"t": "true", "f": "false"}


def read_header(head: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the column names in the first line that is not blank.

    Raises:
        UnknownFormat: No delimiter gives a header of usage columns; the sentence says why not.
    """
    line = next((line for line in head.splitlines() if line.strip()), b"")
    text = line.decode("utf-8", "replace")
    delimiter = max(DELIMITERS, key=text.count)
    columns = tuple(name.strip().lower() for name in next(csv.reader([text], delimiter=delimiter)))
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UnknownFormat(f"the first line is no header with {', '.join(missing)}")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        known = ", ".join(COLUMNS)
        raise UnknownFormat(
            f"the header has unknown columns: {', '.join(unknown[:5])} (known: {known})"
        )
    if len(set(columns)) < len(columns):
        raise UnknownFormat("the header names a column twice")
    return delimiter, columns


class CsvParser:
    """Turns CSV rows into events; a row may span lines inside quotes, up to MAX_ROW_LINES."""

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:
        """Read the header out of the head.

        Raises:
            UnknownFormat: The header is missing or names other columns.
        """
        self._defaults = defaults
        self._ordinals = ordinals
        self._delimiter, self._columns = read_header(head)
        # Where the header begins, in a head without the byte order mark that the file may have.
        self._header_offset = len(head) - len(head.lstrip())

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield an event or a rejection for each row that is not blank."""
        # A stray quote must not swallow what follows: the lines it took are given back.
        returned: deque[Line] = deque()
        while (line := _next(returned, lines)) is not None:
            number, offset, raw = line
            if raw is None:
                yield number, offset, reject_long_line(number)
                continue
            if offset <= self._header_offset + len(UTF8_BOM) or not raw.strip():
                continue
            row, more = _whole_row(raw, returned, lines)
            parsed = self._event(number, offset, row)
            if more and isinstance(parsed, Rejected):
                returned.extendleft(reversed(more))
                parsed = reject(number, "csv_malformed", "A quoted field does not end", raw)
            yield number, offset, parsed

    def _event(self, number: int, offset: int, raw: bytes) -> UsageEvent | Rejected:
        text = raw.decode("utf-8", "replace")
        try:
            values = next(csv.reader([text], delimiter=self._delimiter, strict=True))
        except (csv.Error, StopIteration) as error:
            return reject(number, "csv_malformed", f"Not a CSV row: {error}", raw)
        if len(values) != len(self._columns):
            return reject(
                number,
                "column_count_wrong",
                f"The row has {len(values)} columns, the header {len(self._columns)}",
                raw,
            )
        fields: dict[str, Any] = {
            name: value for name, value in zip(self._columns, values, strict=True) if value
        }
        try:
            event = self._converted(fields, number, offset, raw)
        except (ValueError, RecursionError) as error:
            return reject(number, *explain(error), raw)
        wrong = check_event(event)
        if wrong is not None:
            return reject(number, "event_invalid", wrong, raw)
        return self._defaults.attach(event)

    def _converted(
        self, fields: dict[str, Any], number: int, offset: int, raw: bytes
    ) -> UsageEvent:
        if "timestamp" in fields:
            try:
                fields["timestamp"] = datetime.fromisoformat(fields["timestamp"])
            except ValueError as error:
                raise msgspec.ValidationError(f"{error} - at `$.timestamp`") from error
        for name in ("cached", "widget_impression"):
            if name in fields:
                fields[name] = _BOOLEANS.get(fields[name].lower(), fields[name].lower())
        if "metadata" in fields:
            fields["metadata"] = msgspec.json.decode(fields["metadata"])
        if "id" not in fields:
            stamp = fields.get("timestamp")
            aware = isinstance(stamp, datetime) and stamp.tzinfo is not None
            epoch_s = int(stamp.timestamp()) if stamp is not None and aware else 0
            fields["id"] = self._ordinals.name(raw, epoch_s, offset, number)
        return msgspec.convert(fields, UsageEvent, strict=False)


def _next(returned: deque[Line], lines: Iterator[Line]) -> Line | None:
    return returned.popleft() if returned else next(lines, None)


def _whole_row(
    raw: bytes, returned: deque[Line], lines: Iterator[Line]
) -> tuple[bytes, list[Line]]:
    """Return the row that begins with `raw`, and the further lines that its quotes take in."""
    quotes, size = raw.count(b'"'), len(raw)
    parts, more = [raw], list[Line]()
    while quotes % 2 and len(more) < MAX_ROW_LINES and size <= MAX_LINE_BYTES:
        line = _next(returned, lines)
        if line is None:
            break
        more.append(line)
        if line[2] is None:
            break
        parts.append(line[2])
        quotes, size = quotes + line[2].count(b'"'), size + len(line[2])
    return b"\n".join(parts), more
