"""The only Python that runs the usage room's SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import execute, fetch_all, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.usage.model import (
    MAX_QUARANTINED,
    MAX_SUMMARY_GROUPS,
    GroupBy,
    LostEvent,
    Outcome,
    SummaryRow,
)

QUERIES = load_queries(__package__)

STAGING_COLUMNS = {
    "ordinal": "int4",
    "organization_id": "uuid",
    "event_key": "bytea",
    "digest": "int8",
    "event_id": "text",
    "timestamp": "timestamptz",
    "api_key_id": "uuid",
    "endpoint": "text",
    "method": "text",
    "status_code": "int4",
    "response_time_ms": "int4",
    "cached": "bool",
    "widget_type": "text",
    "widget_impression": "bool",
    "billable": "bool",
    "origin": "text",
    "user_agent": "text",
    "ip_address": "bytea",
    "country_code": "text",
    "metadata": "bytea",
}
"""What each column is sent as. For `bytea` the row holds the column's binary form ready made:
writing uuid, inet, and jsonb through the driver took half of the time that a row's COPY takes."""

_COLUMNS = ", ".join(f'"{column}"' for column in STAGING_COLUMNS)
_COPY = f"copy pg_temp.usage_staging ({_COLUMNS}) from stdin (format binary)"
_TYPES = list(STAGING_COLUMNS.values())


async def ingest(conn: Connection, rows: Iterable[Sequence[Any]]) -> list[LostEvent]:
    """Store rows of `STAGING_COLUMNS`, in the order of their identities.

    Returns:
        Those whose id had been counted before; all others are stored and counted.
    """
    await execute(conn, QUERIES["open_usage_staging"])
    async with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            await copy.write_row(row)
    return await fetch_all(conn, QUERIES["list_staged_usage_lost"], LostEvent)


async def reverse(conn: Connection, rows: bytes) -> list[Outcome]:
    """Take events back.

    Args:
        conn: An open transaction of the platform.
        rows: A JSON array of reversals, as app.reverse_usage() takes it.
    """
    return await fetch_all(conn, QUERIES["list_usage_reversed"], Outcome, rows=rows.decode())


async def quarantine(conn: Connection, rows: bytes) -> list[Outcome]:
    """Keep events that came out of time, up to `MAX_QUARANTINED` an organization.

    Args:
        conn: An open transaction of the platform.
        rows: A JSON array of events, as app.quarantine_usage() takes it.
    """
    query = QUERIES["list_usage_quarantined"]
    return await fetch_all(conn, query, Outcome, rows=rows.decode(), limit=MAX_QUARANTINED)


async def touch_api_keys(conn: Connection, key_ids: Sequence[UUID], used_at: datetime) -> None:
    """Say when these keys were last used."""
    await execute(
        conn, QUERIES["update_api_keys_last_used"], key_ids=list(key_ids), used_at=used_at
    )


async def list_summary(
    conn: Connection, organization_id: UUID, *, first_day: date, last_day: date, group_by: GroupBy
) -> list[SummaryRow]:
    """Return usage by group, at most `MAX_SUMMARY_GROUPS`: days in order, others largest first."""
    return await fetch_all(
        conn,
        QUERIES["list_usage_summary_by_group"],
        SummaryRow,
        organization_id=organization_id,
        first_day=first_day,
        last_day=last_day,
        group_by=group_by,
        limit=MAX_SUMMARY_GROUPS,
    )


async def ensure_partitions(conn: Connection, first_day: date, last_day: date) -> int:
    """Make the months that hold these days; return how many were made."""
    made: int = await fetch_value(
        conn, QUERIES["insert_usage_partitions"], first_day=first_day, last_day=last_day
    )
    return made


async def fold(conn: Connection, limit: int) -> int:
    """Fold up to `limit` deltas; return how many."""
    folded: int = await fetch_value(conn, QUERIES["update_usage_folded"], limit=limit)
    return folded


async def count_visitors(conn: Connection, limit: int) -> int:
    """Count the visitors of up to `limit` closed days; return how many."""
    counted: int = await fetch_value(conn, QUERIES["update_usage_visitors_counted"], limit=limit)
    return counted


async def forget_event_ids(conn: Connection, *, keep_days: int, limit: int) -> int:
    """Forget up to `limit` ids older than `keep_days`; return how many."""
    forgotten: int = await fetch_value(
        conn, QUERIES["delete_usage_event_ids_forgotten"], keep_days=keep_days, limit=limit
    )
    return forgotten


async def forget_visitor_salts(conn: Connection, limit: int) -> int:
    """Remove up to `limit` salts of days that are over for good; return how many."""
    query = QUERIES["delete_usage_visitor_salts_forgotten"]
    forgotten: int = await fetch_value(conn, query, limit=limit)
    return forgotten


async def find_import_position(
    conn: Connection, organization_id: UUID, file_key: str
) -> dict[str, Any] | None:
    """Return how far a file was read and stored, if it was begun."""
    position: dict[str, Any] | None = await fetch_value(
        conn,
        QUERIES["find_usage_import_position"],
        organization_id=organization_id,
        file_key=file_key,
    )
    return position


async def save_import_position(
    conn: Connection,
    organization_id: UUID,
    file_key: str,
    *,
    file_name: str,
    position: dict[str, Any],
) -> None:
    """Write down how far a file was read and stored."""
    await execute(
        conn,
        QUERIES["insert_usage_import_position"],
        organization_id=organization_id,
        file_key=file_key,
        file_name=file_name,
        position=Jsonb(position),
    )


async def delete_import_position(conn: Connection, organization_id: UUID, file_key: str) -> None:
    """Forget how far a file was read."""
    await execute(
        conn,
        QUERIES["delete_usage_import_position"],
        organization_id=organization_id,
        file_key=file_key,
    )
