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
    AsideOutcome,
    CountedEvent,
    GroupBy,
    SummaryRow,
)
from aurora.features.usage.packing import COLUMNS, document_of

QUERIES = load_queries(__package__)

_COLUMNS = ", ".join(f'"{column}"' for column in COLUMNS)
_COPY = f"copy pg_temp.usage_staging ({_COLUMNS}) from stdin (format binary)"


async def ingest(conn: Connection, rows: Iterable[bytes]) -> list[CountedEvent]:
    """Store packed rows, in the order of their identities, each of which is there once.

    Returns:
        Those whose id had been counted before; all others are stored and counted.
    """
    await execute(conn, QUERIES["open_usage_staging"])
    async with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(document_of(rows))
    return await fetch_all(conn, QUERIES["list_staged_usage_counted"], CountedEvent)


async def reverse(conn: Connection, rows: bytes) -> list[AsideOutcome]:
    """Take events back.

    Args:
        conn: An open transaction of the platform.
        rows: A JSON array of reversals, as app.reverse_usage() takes it.
    """
    return await fetch_all(conn, QUERIES["list_usage_reversed"], AsideOutcome, rows=rows.decode())


async def quarantine(conn: Connection, rows: bytes) -> list[AsideOutcome]:
    """Keep events that came out of time, up to `MAX_QUARANTINED` an organization.

    Args:
        conn: An open transaction of the platform.
        rows: A JSON array of events, as app.quarantine_usage() takes it.
    """
    query = QUERIES["list_usage_quarantined"]
    return await fetch_all(conn, query, AsideOutcome, rows=rows.decode(), limit=MAX_QUARANTINED)


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
