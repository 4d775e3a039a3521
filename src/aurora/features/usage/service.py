"""Taking events, reading usage, and keeping the rollups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from psycopg.types.json import Jsonb

from aurora.core import clock
from aurora.db.transaction import Connection
from aurora.features.keys.model import KeyOwner
from aurora.features.keys.service import find_key_owners
from aurora.features.usage import store
from aurora.features.usage.decoding import parse_ip
from aurora.features.usage.model import (
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    MAX_SUMMARY_DAYS,
    DateRangeInvalid,
    GroupBy,
    IdConflict,
    Receipt,
    Rejection,
    SummaryRow,
    UsageEvent,
)

FOLD_BATCH = 50_000
VISITOR_BATCH = 2_000
EVENT_ID_KEEP_DAYS = 100
FORGET_BATCH = 100_000
MAX_MAINTENANCE_ROUNDS = 1_000
DEFAULT_SUMMARY_DAYS: Mapping[GroupBy, int] = {"month": 366}
PARTITION_MONTHS_AHEAD = 3

_NO_METADATA = Jsonb({})
_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events: an organization, or None for the platform, which sends for any.

    Attributes:
        organization_id: Whose events these are; an event of anybody else's key is refused.
        key_id: The key of events that name none.
        backfill: Events of any age are taken (imports); otherwise at most 35 days late.
    """

    organization_id: UUID | None = None
    key_id: UUID | None = None
    backfill: bool = False


async def record_usage(
    conn: Connection, events: Sequence[tuple[int, UsageEvent]], sender: Sender
) -> Receipt:
    """Store and count events, each once; the receipt holds when the transaction commits.

    Args:
        conn: An open transaction of the platform.
        events: Events with their places in the sender's batch.
        sender: Who sends them.
    """
    owners = await find_key_owners(
        conn,
        {e.api_key_id or sender.key_id for _, e in events} - {None},  # type: ignore[arg-type]
    )
    now = clock.now()
    oldest = _OLDEST if sender.backfill else now - timedelta(days=MAX_LATE_DAYS)
    newest = now + timedelta(seconds=MAX_AHEAD_SECONDS)
    staging = _Staging(sender, owners, oldest, newest)
    for index, event in events:
        staging.add(index, event)
    if staging.rows:
        if sender.backfill:
            days = [row[_TIMESTAMP].date() for row in staging.rows.values()]
            await store.ensure_partitions(conn, min(days), max(days))
        # In the order of identities: see app.ingest_staged_usage().
        ordered = [staging.rows[identity] for identity in sorted(staging.rows)]
        lost = await store.ingest(conn, ordered)
        staging.accepted = len(ordered) - len(lost)
        if lost:
            ids = {row[_ORDINAL]: row[_EVENT_ID] for row in ordered}
            for each in lost:
                staging.repeated(each.ordinal, ids[each.ordinal], is_conflict=each.is_conflict)
        await store.touch_api_keys(conn, sorted(owners), now)
    return staging.receipt()


_ORDINAL, _DIGEST, _EVENT_ID, _TIMESTAMP = 0, 3, 4, 5


class _Staging:
    """The rows of one batch, by identity, and what became of the events that are not among them."""

    def __init__(
        self,
        sender: Sender,
        owners: Mapping[UUID, KeyOwner],
        oldest: datetime,
        newest: datetime,
    ) -> None:
        self.sender, self.owners, self.oldest, self.newest = sender, owners, oldest, newest
        self.rows: dict[bytes, tuple[Any, ...]] = {}
        self.accepted = 0
        self.duplicates = 0
        self.conflicts: list[IdConflict] = []
        self.rejected: list[Rejection] = []

    def add(self, index: int, event: UsageEvent) -> None:
        """Stage the event, or say why not."""
        if not self.oldest <= event.timestamp <= self.newest:
            detail = (
                f"{event.timestamp.isoformat()} is out of range: an event may be at most "
                f"{MAX_LATE_DAYS} days late and {MAX_AHEAD_SECONDS} seconds early."
            )
            self.rejected.append(Rejection(index, "timestamp_out_of_range", detail))
            return
        event.timestamp = event.timestamp.astimezone(UTC)
        event.api_key_id = key_id = event.api_key_id or self.sender.key_id
        owner = None if key_id is None else self.owners.get(key_id)
        organization_id = self._organization(event, owner)
        if organization_id is None or (
            key_id is not None and (owner is None or owner.organization_id != organization_id)
        ):
            # One answer for a key that does not exist and for one of somebody else: no oracle.
            self.rejected.append(
                Rejection(index, "api_key_unknown", "The organization has no such API key.")
                if key_id is not None
                else Rejection(
                    index, "organization_unknown", "The event names no key and no organization."
                )
            )
            return
        identity = event_key(event.source, event.id)
        place = organization_id.bytes + identity
        digest = event_digest(event)
        before = self.rows.get(place)
        if before is not None:
            self.repeated(index, event.id, is_conflict=before[_DIGEST] != digest)
            return
        self.rows[place] = _row(index, organization_id, identity, digest, event, owner)

    def _organization(self, event: UsageEvent, owner: KeyOwner | None) -> UUID | None:
        named = event.organization_id
        mine = self.sender.organization_id
        if mine is not None:
            return mine if named in (None, mine) else None
        return named or (owner.organization_id if owner is not None else None)

    def repeated(self, index: int, event_id: str, *, is_conflict: bool) -> None:
        """Note that an event's id was seen before, in this batch or an earlier one."""
        if is_conflict:
            self.conflicts.append(IdConflict(index, event_id))
        else:
            self.duplicates += 1

    def receipt(self) -> Receipt:
        """Return what became of the batch."""
        return Receipt(
            accepted=self.accepted,
            duplicates=self.duplicates,
            conflicts=sorted(self.conflicts, key=lambda conflict: conflict.index),
            rejected=sorted(self.rejected, key=lambda rejection: rejection.index),
        )


def event_key(source: str | None, event_id: str) -> bytes:
    """Return the sixteen bytes that an event is counted once by, as app.usage_event_key() does.

    Text cannot hold a zero byte, so joined by one the pairs (a, b-c) and (a-b, c) stay apart.
    """
    return hashlib.sha256(f"{source or ''}\0{event_id}".encode()).digest()[:16]


def event_digest(event: UsageEvent) -> int:
    """Return 64 bits over the whole event: the same id with another digest is a conflict."""
    encoded = msgspec.json.encode(event)
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big", signed=True)


def _row(
    index: int,
    organization_id: UUID,
    identity: bytes,
    digest: int,
    event: UsageEvent,
    owner: KeyOwner | None,
) -> tuple[Any, ...]:
    # Billable: a production key, a widget impression, a successful status (design.md, section 6).
    billable = (
        event.widget_impression
        and owner is not None
        and owner.environment == "production"
        and 200 <= event.status_code < 400  # noqa: PLR2004
    )
    return (
        index,
        organization_id,
        UUID(bytes=identity),
        digest,
        event.id,
        event.timestamp,
        event.api_key_id,
        event.endpoint,
        event.method,
        event.status_code,
        event.response_time_ms,
        event.cached,
        event.widget_type,
        event.widget_impression,
        billable,
        event.origin,
        event.user_agent,
        None if event.ip_address is None else parse_ip(event.ip_address),
        event.country_code,
        Jsonb(event.metadata, msgspec.json.encode) if event.metadata else _NO_METADATA,
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
    first = first_day or last - timedelta(days=DEFAULT_SUMMARY_DAYS.get(group_by, 30) - 1)
    if first > last:
        raise DateRangeInvalid
    if (last - first).days > MAX_SUMMARY_DAYS:
        raise DateRangeInvalid(f"A summary spans at most {MAX_SUMMARY_DAYS} days.")
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
