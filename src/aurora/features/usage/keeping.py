"""Keeping usage right, and no longer than it should be: recounts, quarantine, retention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta
from uuid import UUID

import msgspec

from aurora.core import clock
from aurora.db.transaction import Connection
from aurora.features.audit.service import record_event
from aurora.features.usage import service, store
from aurora.features.usage.model import (
    Adopted,
    DateRangeInvalid,
    Difference,
    NotReplayed,
    Quarantined,
    Receipt,
    Replayed,
    Retention,
    UsageEvent,
)
from aurora.features.usage.staging import Sender

ADDRESS_DAYS_BATCH = 50
HOURS_BATCH = 50_000
QUARANTINE_BATCH = 1_000
MAX_VERIFIED_DAYS = 3_700


async def verify_usage(
    conn: Connection, organization_id: UUID, first_day: date | None, last_day: date | None
) -> list[Difference]:
    """Return where an organization's sums differ from a recount of its raw rows, at most 1,000.

    Days whose raw rows have been dropped cannot be recounted: begin after them.

    Args:
        conn: An open transaction of the platform.
        organization_id: Whose usage.
        first_day: A UTC day; 35 days before the last where None.
        last_day: A UTC day, included; today where None.

    Raises:
        DateRangeInvalid: They are no range, or too long a one.
    """
    last = last_day or clock.now().date()
    first = first_day or last - timedelta(days=35)
    if first > last or (last - first).days > MAX_VERIFIED_DAYS:
        raise DateRangeInvalid(f"A recount spans 1 to {MAX_VERIFIED_DAYS:,} days.")
    return await store.list_differences(conn, organization_id, first, last)


async def list_quarantine(
    conn: Connection,
    organization_id: UUID,
    *,
    after: UUID | None = None,
    limit: int = QUARANTINE_BATCH,
) -> list[Quarantined]:
    """Return an organization's events that came out of time, by their keys, at most `limit`."""
    return await store.list_quarantine(conn, organization_id, after, limit)


async def replay_quarantine(
    conn: Connection, held: Sequence[Quarantined], *, reason: str
) -> Replayed:
    """Count events of one organization that are in quarantine, whatever their age, and audit it.

    Those that are counted, now or before, leave the quarantine in the same transaction. Those that
    are not stay: one that lies ahead, takes back what is unknown, or whose id has other content.

    Args:
        conn: An open transaction of the platform.
        held: Of one organization.
        reason: Why, for the audit.
    """
    organization_id = held[0].organization_id
    events = [msgspec.convert(each.event, UsageEvent) for each in held]
    receipt = await backfill_usage(conn, organization_id, list(enumerate(events)), reason=reason)
    why = _not_counted(receipt)
    counted = [each.event_key for number, each in enumerate(held) if number not in why]
    await store.delete_quarantine(conn, organization_id, counted)
    kept = [NotReplayed(events[number].id, *why[number]) for number in sorted(why)]
    return Replayed(receipt.accepted, receipt.duplicates, kept)


async def drop_quarantine(conn: Connection, held: Sequence[Quarantined], *, reason: str) -> int:
    """Forget events of one organization that are in quarantine, and audit it; return how many."""
    organization_id = held[0].organization_id
    dropped = await store.delete_quarantine(
        conn, organization_id, [each.event_key for each in held]
    )
    await record_event(
        conn,
        organization_id=organization_id,
        action="usage_quarantine.dropped",
        subject_type="organization",
        subject_id=str(organization_id),
        after={"reason": reason, "events": dropped},
    )
    return dropped


async def record_import(
    conn: Connection, organization_id: UUID, *, file_name: str, reason: str
) -> None:
    """Write into the audit that a file's import begins, so that one that is killed is known too."""
    await record_event(
        conn,
        organization_id=organization_id,
        action="usage.import_began",
        subject_type="organization",
        subject_id=str(organization_id),
        after={"reason": reason, "file": file_name},
    )


async def record_backfill(
    conn: Connection, organization_id: UUID, *, reason: str, days: tuple[date, date], count: int
) -> None:
    """Write into the audit that events of any age were taken."""
    await record_event(
        conn,
        organization_id=organization_id,
        action="usage.backfilled",
        subject_type="organization",
        subject_id=str(organization_id),
        after={
            "reason": reason,
            "events": count,
            "first_day": days[0].isoformat(),
            "last_day": days[1].isoformat(),
        },
    )


async def adopt_usage(conn: Connection, table: str, limit: int) -> Adopted:
    """Take up to `limit` rows of a table in the founding shape over, each once, and count them.

    How far it came is stored in the same transaction.

    Args:
        conn: An open transaction of the platform.
        table: Its name, with its schema.
        limit: Rows a step.

    Raises:
        UsageTableInvalid: It is no such table.
        AdoptionExpired: Rows were written behind its back, and it began too long ago.
    """
    return await store.adopt(conn, table, limit)


async def record_adoption(conn: Connection, table: str, *, accepted: int, refused: int) -> None:
    """Write into the audit that a table was taken over."""
    await record_event(
        conn,
        organization_id=None,
        action="usage.adopted",
        subject_type="table",
        subject_id=table,
        after={"events": accepted, "refused": refused},
    )


async def backfill_usage(
    conn: Connection,
    organization_id: UUID,
    events: Sequence[tuple[int, UsageEvent]],
    *,
    reason: str,
) -> Receipt:
    """Count events of one organization whatever their age, each once, and audit it.

    Args:
        conn: An open transaction of the platform.
        organization_id: Whose events these are; those of another's keys are refused.
        events: With their places in the sender's batch.
        reason: Why, for the audit.
    """
    sender = Sender(organization_id=organization_id, backfill=True)
    receipt = await service.record_usage(conn, events, sender)
    if receipt.accepted:
        not_counted = _not_counted(receipt)
        days = sorted(
            event.timestamp.astimezone(UTC).date()
            for number, event in events
            if number not in not_counted
        )
        await record_backfill(
            conn, organization_id, reason=reason, days=(days[0], days[-1]), count=receipt.accepted
        )
    return receipt


async def get_retention(conn: Connection) -> Retention:
    """Return how long usage is kept."""
    return await store.get_retention(conn)


async def set_retention(
    conn: Connection,
    *,
    keep_months: int | None = None,
    address_days: int | None = None,
    hourly_days: int | None = None,
) -> Retention:
    """Say how long usage is kept, and audit it; None leaves a number as it is."""
    before = await store.get_retention(conn)
    await store.update_retention(conn, keep_months, address_days, hourly_days)
    after = await store.get_retention(conn)
    if after != before:
        await record_event(
            conn,
            organization_id=None,
            action="usage_retention.changed",
            subject_type="usage_retention",
            subject_id="usage_retention",
            before=_numbers(before),
            after=_numbers(after),
        )
    return after


def _not_counted(receipt: Receipt) -> dict[int, tuple[str, str]]:
    conflict = ("id_conflict", "Another event has its id, or took back what it would take back.")
    return {
        **{each.index: (each.code, each.detail) for each in receipt.rejected},
        **{each.index: conflict for each in receipt.conflicts},
    }


def _numbers(retention: Retention) -> dict[str, int]:
    return {
        "keep_months": retention.keep_months,
        "address_days": retention.address_days,
        "hourly_days": retention.hourly_days,
    }


async def truncate_addresses(conn: Connection) -> int:
    """Truncate addresses of a bounded number of days of organizations; return how many days."""
    return await store.truncate_addresses(conn, ADDRESS_DAYS_BATCH)


async def drop_month(conn: Connection) -> int:
    """Drop the oldest month of raw rows that is kept no longer; return how many."""
    return await store.drop_month(conn)


async def count_months_over(conn: Connection) -> int:
    """Return how many months of raw rows the next night drops: an import may bring such rows."""
    return await store.count_months_over(conn)


async def drop_hours(conn: Connection) -> int:
    """Remove a bounded number of hourly sums that are kept no longer; return how many."""
    return await store.drop_hours(conn, HOURS_BATCH)
