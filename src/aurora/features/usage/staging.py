"""The rows of one batch of events: who sent them, whose they are, and which may be stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from aurora.features.keys.model import KeyOwner
from aurora.features.usage.decoding import parse_ip
from aurora.features.usage.model import (
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    IdConflict,
    LostEvent,
    Receipt,
    Rejection,
    UsageEvent,
)

# The binary forms of PostgreSQL's types, as its network_recv and jsonb_recv read them.
_FAMILY = {4: 2, 6: 3}
_JSONB_VERSION = b"\x01"
_NO_METADATA = _JSONB_VERSION + b"{}"
MAX_ADDRESSES_REMEMBERED = 65_536

# Places in a row; store.STAGING_COLUMNS is the order.
_ORDINAL, _DIGEST, _EVENT_ID, _TIMESTAMP, _KEY = 0, 3, 4, 5, 6


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


class Staging:
    """The rows of one batch, by identity, and what became of the events that are not among them."""

    def __init__(
        self,
        sender: Sender,
        owners: Mapping[UUID, KeyOwner],
        known: Collection[UUID],
        *,
        oldest: datetime,
        newest: datetime,
    ) -> None:
        self.sender, self.owners, self.known = sender, owners, known
        self.oldest, self.newest = oldest, newest
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
                    index,
                    "organization_unknown",
                    "The event names no API key and no organization that there is.",
                )
            )
            return
        # Written out before the digest: whether it was named or followed is no other content.
        event.organization_id = organization_id
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
        if named is not None:
            return named if named in self.known else None
        return owner.organization_id if owner is not None else None

    def ordered(self) -> list[tuple[Any, ...]]:
        """Return the rows in the order of their identities: see app.ingest_staged_usage()."""
        return [self.rows[identity] for identity in sorted(self.rows)]

    def days(self) -> tuple[date, date]:
        """Return the first and the last UTC day of the rows."""
        days = [row[_TIMESTAMP].date() for row in self.rows.values()]
        return min(days), max(days)

    def keys(self) -> list[UUID]:
        """Return the keys that the rows name, sorted."""
        return sorted({row[_KEY] for row in self.rows.values()} - {None})

    def settle(self, lost: Sequence[LostEvent]) -> None:
        """Note which rows were stored, and which ids had been counted before."""
        self.accepted = len(self.rows) - len(lost)
        if lost:
            ids = {row[_ORDINAL]: row[_EVENT_ID] for row in self.rows.values()}
            for each in lost:
                self.repeated(each.ordinal, ids[each.ordinal], is_conflict=each.is_conflict)

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
        identity,
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
        None if event.ip_address is None else _inet(event.ip_address),
        event.country_code,
        _JSONB_VERSION + msgspec.json.encode(event.metadata) if event.metadata else _NO_METADATA,
    )


@lru_cache(maxsize=MAX_ADDRESSES_REMEMBERED)
def _inet(text: str) -> bytes | None:
    address = parse_ip(text)
    if address is None:
        return None
    packed = address.packed
    return bytes((_FAMILY[address.version], address.max_prefixlen, 0, len(packed))) + packed
