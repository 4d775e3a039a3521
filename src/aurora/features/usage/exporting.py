"""Exports of raw usage as CSV or Parquet, made page by page while they are being sent."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final, Literal, Protocol

import msgspec

from aurora.features.usage.model import StoredEvent

Format = Literal["csv", "parquet"]

ROWS_A_PAGE: Final = 5_000
"""Rows held at once, and in a row group of Parquet."""

COLUMNS: Final = tuple(name for name in StoredEvent.__dataclass_fields__)
# A spreadsheet runs a cell that begins so (OWASP, CSV injection); an apostrophe keeps it text.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Page = Callable[[date, int], Awaitable[list[StoredEvent]]]


class _Writer(Protocol):
    def start(self) -> bytes: ...
    def rows(self, events: Sequence[StoredEvent]) -> bytes: ...
    def end(self) -> bytes: ...


async def export_usage(
    page: Page, first_day: date, last_day: date, format_: Format
) -> AsyncIterator[bytes]:
    """Yield the rows of UTC days, both included; at most `ROWS_A_PAGE` are held in memory.

    Args:
        page: Returns up to `ROWS_A_PAGE` rows of a day after an id, in order; each call may be a
            transaction of its own, so that a slow reader holds no connection.
        first_day: The first UTC day.
        last_day: The last one.
        format_: csv, with formulas quoted, or parquet, a row group a page.
    """
    writer: _Writer = _Csv() if format_ == "csv" else _Parquet()
    yield writer.start()
    for day in _days(first_day, last_day):
        after_id = 0
        while rows := await page(day, after_id):
            yield writer.rows(rows)
            after_id = rows[-1].id
            if len(rows) < ROWS_A_PAGE:
                break
    yield writer.end()


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _values(event: StoredEvent) -> list[Any]:
    values = [getattr(event, name) for name in COLUMNS]
    return [
        msgspec.json.encode(value).decode()
        if isinstance(value, dict)
        else value
        if value is None or isinstance(value, bool | int | str)
        else value.isoformat()
        if hasattr(value, "isoformat")
        else str(value)
        for value in values
    ]


class _Csv:
    def start(self) -> bytes:
        return ",".join(COLUMNS).encode() + b"\r\n"

    def rows(self, events: Sequence[StoredEvent]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        for event in events:
            writer.writerow([_cell(value) for value in _values(event)])
        return text.getvalue().encode()

    def end(self) -> bytes:
        return b""


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


class _Outlet(io.RawIOBase):
    """Where Parquet is written to: it keeps only what nobody has taken yet."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._waiting += piece
        self._written += len(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


class _Parquet:
    def __init__(self) -> None:
        # Only here: loading it takes more memory than everything else that a process holds.
        import pyarrow as pa
        from pyarrow import parquet

        self._arrow = pa
        kinds: dict[str, Any] = {
            "id": pa.int64(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "status_code": pa.int32(),
            "response_time_ms": pa.int32(),
            "cached": pa.bool_(),
            "widget_impression": pa.bool_(),
            "billable": pa.bool_(),
            "is_reversed": pa.bool_(),
        }
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
        self._outlet = _Outlet()
        self._file = parquet.ParquetWriter(self._outlet, self._schema, compression="zstd")

    def start(self) -> bytes:
        return self._outlet.take()

    def rows(self, events: Sequence[StoredEvent]) -> bytes:
        columns = list(zip(*(_values(event) for event in events), strict=True))
        arrays = [
            self._arrow.array(
                [event.timestamp for event in events] if field.name == "timestamp" else column,
                type=field.type,
            )
            for field, column in zip(self._schema, columns, strict=True)
        ]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        return self._outlet.take()

    def end(self) -> bytes:
        self._file.close()
        return self._outlet.take()
