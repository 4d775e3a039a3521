"""Taking events, reading usage, and keeping the rollups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from aurora.core import clock
from aurora.db.transaction import Connection, Turns
from aurora.features.keys.model import KeyOwner
from aurora.features.keys.service import find_key_owners
from aurora.features.organizations.service import find_known_organizations
from aurora.features.usage import store
from aurora.features.usage.model import (
    DAYS_BACKWARDS,
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    MAX_SUMMARY_DAYS,
    CountedEvent,
    DateRangeInvalid,
    GroupBy,
    Receipt,
    SummaryRow,
    UsageEvent,
)
from aurora.features.usage.setting_aside import quarantine_rows, reversal_rows
from aurora.features.usage.staging import Outcome, Row, Sender, Staging, event_key

__all__ = ["Sender", "event_key"]

FOLD_BATCH = 50_000
VISITOR_BATCH = 2_000
EVENT_ID_KEEP_DAYS = 100
FORGET_BATCH = 100_000
MAX_MAINTENANCE_ROUNDS = 1_000
DEFAULT_SUMMARY_DAYS: Mapping[GroupBy, int] = {"month": 366}
PARTITION_MONTHS_AHEAD = 3

OLDEST_EVENT = datetime(2000, 1, 1, tzinfo=UTC)


async def record_usage(
    conn: Connection, events: Sequence[tuple[int, UsageEvent]], sender: Sender
) -> Receipt:
    """Store and count events, each once; the receipt holds when the transaction commits.

    Args:
        conn: An open transaction of the platform.
        events: Events with their places in the sender's batch.
        sender: Who sends them.
    """
    key_ids, organization_ids = named_by(events, sender)
    staging = staging_for(
        sender,
        await find_key_owners(conn, key_ids),
        await find_known_organizations(conn, organization_ids),
    )
    staging.add_all(events)
    if staging.rows:
        if sender.backfill:
            await store.ensure_partitions(conn, *staging.days())
            # Whole addresses of days that were looked through already are truncated tonight.
            await store.reopen_addresses(conn, staging.days()[0])
        staging.settle(await store_rows(conn, staging.rows))
        if not sender.backfill:
            await store.touch_api_keys(conn, staging.key_ids(), clock.now())
    await settle_aside(conn, staging)
    return staging.receipt()


async def settle_aside(conn: Connection, staging: Staging) -> None:
    """Take events back and keep those that came out of time, after the rows of the same batch.

    A batch may so take back what it brought itself.
    """
    if staging.reversals:
        asides = [staging.reversals[place] for place in sorted(staging.reversals)]
        staging.settle_aside(await store.reverse(conn, reversal_rows(asides)), asides)
    if staging.untimely:
        asides = [staging.untimely[place] for place in sorted(staging.untimely)]
        staging.settle_aside(await store.quarantine(conn, quarantine_rows(asides)), asides)


def named_by(
    events: Sequence[tuple[int, UsageEvent]], sender: Sender
) -> tuple[Collection[UUID], Collection[UUID]]:
    """Return the keys and the organizations that must be looked up before events are staged."""
    if len(events) == 1:
        # Without a set's hashing, which for UUIDs goes through Python.
        (_, event), mine = events[0], sender.organization_id is not None
        keys = [each for each in (event.api_key_id, sender.key_id) if each is not None]
        named = event.organization_id
        return keys, [] if mine or named is None else [named]
    key_ids = {event.api_key_id for _, event in events} | {sender.key_id}
    # Only the platform may name organizations, so only its events can name one that is not there.
    organization_ids = (
        {event.organization_id for _, event in events} if sender.organization_id is None else set()
    )
    return {each for each in key_ids if each}, {each for each in organization_ids if each}


def staging_for(
    sender: Sender, owners: Mapping[UUID, KeyOwner], known: Collection[UUID]
) -> Staging:
    """Return an empty staging for events that come now."""
    now = clock.now()
    return Staging(
        sender,
        owners,
        known,
        oldest=OLDEST_EVENT if sender.backfill else now - timedelta(days=MAX_LATE_DAYS),
        newest=now + timedelta(seconds=MAX_AHEAD_SECONDS),
    )


async def store_rows(conn: Connection, rows: Mapping[bytes, Row]) -> Outcome:
    """Store and count packed rows, given by their places; the outcome holds when it commits."""
    # In one order, so that two transactions that share ids wait for each other in turn and never
    # in a circle.
    places = sorted(rows)
    return _outcome(rows, places, await store.ingest(conn, [rows[each].data for each in places]))


async def store_rows_together(
    turns: Turns, rows: Mapping[bytes, Row], key_ids: Sequence[UUID]
) -> Outcome:
    """Do the same in a transaction that is one message, and say that these keys were used now."""
    places = sorted(rows)
    data = [rows[each].data for each in places]
    return _outcome(rows, places, await store.ingest_together(turns, data, key_ids, clock.now()))


def _outcome(
    rows: Mapping[bytes, Row], places: Sequence[bytes], counted: Sequence[CountedEvent]
) -> Outcome:
    return Outcome(
        rows,
        {places[each.ordinal]: each.digest.to_bytes(8, "big", signed=True) for each in counted},
    )


async def summarise(
    conn: Connection,
    organization_id: UUID,
    *,
    group_by: GroupBy,
    first_day: date | None,
    last_day: date | None,
) -> tuple[date, date, list[SummaryRow]]:
    """Return usage by group over UTC days, both included, and which days those are.

    Raises:
        DateRangeInvalid: The first day is after the last, or the span is over `MAX_SUMMARY_DAYS`.
    """
    last = last_day or clock.now().date()
    default_span = timedelta(days=DEFAULT_SUMMARY_DAYS.get(group_by, 30) - 1)
    # The calendar begins in year 1: nothing lies a month before its first days.
    first = first_day or (last - default_span if last - date.min >= default_span else date.min)
    if first > last:
        raise DateRangeInvalid(DAYS_BACKWARDS)
    if (last - first).days > MAX_SUMMARY_DAYS:
        raise DateRangeInvalid(f"A summary spans at most {MAX_SUMMARY_DAYS:,} days.")
    rows = await store.list_summary(
        conn, organization_id, first_day=first, last_day=last, group_by=group_by
    )
    return first, last, rows


async def fold_usage(conn: Connection) -> int:
    """Fold a bounded number of deltas into the rollups; return how many."""
    return await store.fold(conn, FOLD_BATCH)


async def count_visitors(conn: Connection) -> int:
    """Count the visitors of a bounded number of closed days; return how many."""
    return await store.count_visitors(conn, VISITOR_BATCH)


async def forget_event_ids(conn: Connection) -> int:
    """Forget a bounded number of ids that no late event can bring again; return how many."""
    return await store.forget_event_ids(conn, keep_days=EVENT_ID_KEEP_DAYS, limit=FORGET_BATCH)


async def forget_visitor_salts(conn: Connection) -> int:
    """Remove a bounded number of salts of days that no late event can reach; return how many."""
    return await store.forget_visitor_salts(conn, FORGET_BATCH)


async def ensure_partitions(conn: Connection) -> int:
    """Make the months that an event may fall in, up to three ahead; return how many were made."""
    today = clock.now().date()
    return await ensure_partitions_between(
        conn,
        today - timedelta(days=MAX_LATE_DAYS),
        today + timedelta(days=31 * PARTITION_MONTHS_AHEAD),
    )


async def ensure_partitions_between(conn: Connection, first_day: date, last_day: date) -> int:
    """Make the months that hold these days; return how many were made."""
    return await store.ensure_partitions(conn, first_day, last_day)


async def find_import_position(
    conn: Connection, organization_id: UUID, file_key: str
) -> dict[str, Any] | None:
    """Return how far a file (or another source of many events) was stored, if it was begun."""
    return await store.find_import_position(conn, organization_id, file_key)


async def save_import_position(
    conn: Connection,
    organization_id: UUID,
    file_key: str,
    *,
    file_name: str,
    position: dict[str, Any],
) -> None:
    """Write down how far a file was stored; `file_key` tells it from others, its name does not."""
    await store.save_import_position(
        conn, organization_id, file_key, file_name=file_name, position=position
    )


async def delete_import_position(conn: Connection, organization_id: UUID, file_key: str) -> None:
    """Forget how far a file was stored: it was read to its end."""
    await store.delete_import_position(conn, organization_id, file_key)
