"""The only Python that runs the usage room's SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.messages import Packed, PackedStatement, type_number
from aurora.db.queries import execute, fetch_all, fetch_one, fetch_value, load_queries, packed
from aurora.db.transaction import Connection, Turns
from aurora.features.usage.model import (
    MAX_DIFFERENCES,
    MAX_QUARANTINED,
    MAX_SUMMARY_GROUPS,
    Adopted,
    AsideOutcome,
    CountedEvent,
    Difference,
    EndpointPerformance,
    GroupBy,
    LiveEvent,
    OriginFigures,
    OriginOrder,
    Quarantined,
    Retention,
    SeriesPoint,
    StoredEvent,
    SummaryRow,
)
from aurora.features.usage.packing import (
    EVENT_TYPE,
    pack_moment,
    pack_uuids,
    rows_of,
    unpack_counted,
)

QUERIES = load_queries(__package__)

ROWS_A_STATEMENT: Final = 2_000
"""Together about a megabyte; what a function reads of them then stays in its memory."""


async def ingest(conn: Connection, rows: Sequence[bytes]) -> list[CountedEvent]:
    """Store packed rows, in the order of their identities, each of which is there once.

    Returns:
        Those whose id had been counted before; all others are stored and counted.
    """
    events = Packed(rows_of(rows, await type_number(conn, EVENT_TYPE)))
    return await fetch_all(conn, QUERIES["list_usage_counted"], CountedEvent, events=events)


async def ingest_together(
    turns: Turns, rows: Sequence[bytes], key_ids: Sequence[UUID], used_at: datetime
) -> list[CountedEvent]:
    """Do the same in a transaction that is one message, and say when these keys were last used."""
    number = await type_number(turns.connection, EVENT_TYPE)
    begins = range(0, len(rows), ROWS_A_STATEMENT)

    def statements() -> Iterator[PackedStatement]:
        # While one is run the next is made. Their rows are in one order, so of two transactions
        # that share ids one waits; where both bring a new day they might in a circle, and the one
        # that PostgreSQL ends is tried again.
        for begin in begins:
            events = Packed(rows_of(rows[begin : begin + ROWS_A_STATEMENT], number))
            yield packed(QUERIES["list_usage_counted"], events=events)
        if key_ids:
            used, keys = Packed(pack_moment(used_at)), Packed(pack_uuids(key_ids))
            yield packed(QUERIES["update_api_keys_last_used"], key_ids=keys, used_at=used)

    results = await turns.run_together(statements())
    return [
        CountedEvent(ordinal=begin + each.ordinal, digest=each.digest)
        for begin, result in zip(begins, results, strict=False)
        for each in unpack_counted(result)
    ]


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


async def list_series(
    conn: Connection, organization_id: UUID, *, from_hours: bool, **asked: Any
) -> list[SeriesPoint]:
    """Return points in the order of their start and value, from hourly or from daily sums.

    Args:
        conn: Of whoever asks.
        organization_id: Whose usage.
        from_hours: Where days are not UTC days, or hours are asked for.
        asked: granularity, dimension, starts_at, ends_at, after_at, after_place, limit; of hours
            also time_zone.
    """
    name = "list_usage_series_by_hour" if from_hours else "list_usage_series_by_day"
    return await fetch_all(
        conn, QUERIES[name], SeriesPoint, organization_id=organization_id, **asked
    )


async def list_performance(
    conn: Connection, organization_id: UUID, **asked: Any
) -> list[EndpointPerformance]:
    """Return endpoints, most requests first: starts_at, ends_at, a `Cover`'s, limit."""
    query = QUERIES["list_usage_performance"]
    return await fetch_all(
        conn, query, EndpointPerformance, organization_id=organization_id, **asked
    )


async def list_events(conn: Connection, organization_id: UUID, **asked: Any) -> list[StoredEvent]:
    """Return raw rows of a day: day, hour, dimension, value, after_id, limit."""
    query = QUERIES["list_usage_events_by_day"]
    return await fetch_all(conn, query, StoredEvent, organization_id=organization_id, **asked)


async def find_figure(
    conn: Connection, organization_id: UUID, *, day: date, dimension: str, value: str
) -> SeriesPoint:
    """Return what the sums say of a day and value."""
    return await fetch_one(
        conn,
        QUERIES["find_usage_figure"],
        SeriesPoint,
        organization_id=organization_id,
        day=day,
        dimension=dimension,
        value=value,
    )


async def list_origins(
    conn: Connection,
    organization_id: UUID,
    *,
    first_day: date,
    last_day: date,
    order_by: OriginOrder,
    limit: int,
) -> list[OriginFigures]:
    """Return the largest origins of UTC days, both included."""
    return await fetch_all(
        conn,
        QUERIES["list_usage_origins"],
        OriginFigures,
        organization_id=organization_id,
        first_day=first_day,
        last_day=last_day,
        order_by=order_by,
        limit=limit,
    )


async def find_newest_event(conn: Connection, organization_id: UUID, *, first_day: date) -> int:
    """Return the highest id of three UTC days, 0 where there is none."""
    query = QUERIES["find_usage_newest_event"]
    found: int | None = await fetch_value(
        conn, query, organization_id=organization_id, first_day=first_day
    )
    return found or 0


async def list_live_events(
    conn: Connection, organization_id: UUID, *, first_day: date, after_id: int, limit: int
) -> list[LiveEvent]:
    """Return the latest events of three UTC days above an id."""
    return await fetch_all(
        conn,
        QUERIES["list_usage_live_events"],
        LiveEvent,
        organization_id=organization_id,
        first_day=first_day,
        after_id=after_id,
        limit=limit,
    )


async def list_differences(
    conn: Connection, organization_id: UUID, first_day: date, last_day: date
) -> list[Difference]:
    """Return where sums differ from the raw rows, at most `MAX_DIFFERENCES`."""
    return await fetch_all(
        conn,
        QUERIES["list_usage_differences"],
        Difference,
        organization_id=organization_id,
        first_day=first_day,
        last_day=last_day,
        limit=MAX_DIFFERENCES,
    )


async def list_quarantine(
    conn: Connection, organization_id: UUID, after: UUID | None, limit: int
) -> list[Quarantined]:
    """Return an organization's events in quarantine, those after a key."""
    return await fetch_all(
        conn,
        QUERIES["list_usage_quarantine"],
        Quarantined,
        organization_id=organization_id,
        after_key=after,
        limit=limit,
    )


async def delete_quarantine(
    conn: Connection, organization_id: UUID, event_keys: Sequence[UUID]
) -> int:
    """Take events out of quarantine; return how many."""
    return await execute(
        conn,
        QUERIES["delete_usage_quarantine"],
        organization_id=organization_id,
        event_keys=list(event_keys),
    )


async def get_retention(conn: Connection) -> Retention:
    """Return how long usage is kept."""
    return await fetch_one(conn, QUERIES["find_usage_retention"], Retention)


async def update_retention(
    conn: Connection, keep_months: int | None, address_days: int | None, hourly_days: int | None
) -> None:
    """Say how long usage is kept; None leaves a number as it is."""
    await execute(
        conn,
        QUERIES["update_usage_retention"],
        keep_months=keep_months,
        address_days=address_days,
        hourly_days=hourly_days,
    )


async def reopen_addresses(conn: Connection, day: date) -> None:
    """Say that rows from this day on may hold whole addresses again."""
    await execute(conn, QUERIES["update_usage_addresses_reopened"], day=day)


async def truncate_addresses(conn: Connection, limit: int) -> int:
    """Truncate addresses of up to `limit` days of organizations; return how many."""
    days: int = await fetch_value(conn, QUERIES["update_usage_addresses_truncated"], limit=limit)
    return days


async def drop_month(conn: Connection) -> int:
    """Drop the oldest month that is kept no longer; return how many were dropped."""
    dropped: int = await fetch_value(conn, QUERIES["delete_usage_months"])
    return dropped


async def count_months_over(conn: Connection) -> int:
    """Return how many months of raw rows are kept no longer."""
    months: int = await fetch_value(conn, QUERIES["count_usage_months_over"])
    return months


async def drop_hours(conn: Connection, limit: int) -> int:
    """Remove hourly sums that are kept no longer; return how many."""
    dropped: int = await fetch_value(conn, QUERIES["delete_usage_hours"], limit=limit)
    return dropped


async def adopt(conn: Connection, table: str, limit: int) -> Adopted:
    """Take the next rows of a table over."""
    query = QUERIES["insert_usage_adopted"]
    return await fetch_one(conn, query, Adopted, table_name=table, limit=limit)


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
