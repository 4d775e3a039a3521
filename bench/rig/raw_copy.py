"""The limit that ingest is held against: a binary COPY of finished rows, with nothing around it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from ipaddress import ip_address
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from aurora.features.usage.model import UsageEvent
from aurora.features.usage.staging import event_key

Row = tuple[Any, ...]
Item = TypeVar("Item")

COLUMNS: Final = {
    "timestamp": "timestamptz",
    "organization_id": "uuid",
    "api_key_id": "uuid",
    "endpoint": "text",
    "method": "text",
    "status_code": "int4",
    "response_time_ms": "int4",
    "cached": "bool",
    "widget_type": "text",
    "widget_impression": "bool",
    "origin": "text",
    "user_agent": "text",
    "ip_address": "inet",
    "country_code": "text",
    "metadata": "jsonb",
    "date": "date",
    "billable": "bool",
    "event_key": "uuid",
    "event_id": "text",
    "visitor": "bytea",
}
"""Every column of usage_analytics but `id`, which its sequence gives here and there."""

VISITOR: Final = b"8 bytes."
_COPY: Final = f"copy usage_analytics ({', '.join(COLUMNS)}) from stdin (format binary)"


def finished_row(event: UsageEvent, organization_id: UUID) -> Row:
    """Return the row of an event as Python values, in the order of `COLUMNS`."""
    moment = event.timestamp.astimezone(UTC)
    return (
        moment,
        organization_id,
        event.api_key_id,
        event.endpoint,
        event.method,
        event.status_code,
        event.response_time_ms,
        event.cached,
        event.widget_type,
        event.widget_impression,
        event.origin,
        event.user_agent,
        None if event.ip_address is None else ip_address(event.ip_address),
        event.country_code,
        Jsonb(event.metadata),
        moment.date(),
        event.widget_impression and 200 <= event.status_code < 400,
        UUID(bytes=event_key(event.source, event.id)),
        event.id,
        None if event.ip_address is None else VISITOR,
    )


class RawCopy:
    """One connection that copies finished rows into usage_analytics, a commit a batch."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn)
        self._types = list(COLUMNS.values())

    def write(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Copy and commit one batch; return the wall and the client's CPU seconds it took."""
        began_s, cpu_s = time.perf_counter(), time.process_time()
        with self._connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(self._types)
            for row in rows:
                copy.write_row(row)
        self._connection.commit()
        return time.perf_counter() - began_s, time.process_time() - cpu_s

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
