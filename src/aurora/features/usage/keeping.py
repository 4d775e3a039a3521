"""Keeping usage right, and no longer than it should be: recounts, quarantine, retention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

import msgspec

from aurora.core import clock
from aurora.db.transaction import Connection
from aurora.features.audit.service import record_event
from aurora.features.usage import service, store
from aurora.features.usage.model import (
    DateRangeInvalid,
    Difference,
    Quarantined,
    Receipt,
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
        raise DateRangeInvalid
    return await store.list_differences(conn, organization_id, first, last)


async def list_quarantine(
    conn: Connection, organization_id: UUID | None = None, *, limit: int = QUARANTINE_BATCH
) -> list[Quarantined]:
    """Return events that came out of time, at most `limit`, of one organization or of all."""
    return await store.list_quarantine(conn, organization_id, None, limit)


async def replay_quarantine(
    conn: Connection, held: Sequence[Quarantined], *, reason: str
) -> Receipt:
    """Count events of one organization that were in quarantine, whatever their age, and audit it.

    Args:
        conn: An open transaction of the platform.
        held: Of one organization; they leave the quarantine in the same transaction.
        reason: Why, for the audit.
    """
    organization_id = held[0].organization_id
    await store.delete_quarantine(conn, organization_id, [each.event_key for each in held])
    events = [msgspec.convert(each.event, UsageEvent) for each in held]
    sender = Sender(organization_id=organization_id, backfill=True)
    receipt = await service.record_usage(conn, list(enumerate(events)), sender)
    days = sorted(event.timestamp.date() for event in events)
    await record_backfill(
        conn, organization_id, reason=reason, days=(days[0], days[-1]), count=receipt.accepted
    )
    return receipt


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


async def record_backfill(
    conn: Connection, organization_id: UUID, *, reason: str, days: tuple[date, date], count: int
) -> None:
    """Write into the audit that events of any age were taken, and look at their addresses again."""
    await store.reopen_addresses(conn, days[0])
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


async def drop_hours(conn: Connection) -> int:
    """Remove a bounded number of hourly sums that are kept no longer; return how many."""
    return await store.drop_hours(conn, HOURS_BATCH)
