"""The rows of one batch of events: who sent them, whose they are, and which may be stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from aurora.features.keys.model import KeyOwner
from aurora.features.usage.decoding import parse_ip
from aurora.features.usage.model import (
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    MAX_QUARANTINE_AHEAD_DAYS,
    MAX_QUARANTINE_LATE_DAYS,
    MAX_QUARANTINED,
    MAX_REVERSALS_PER_CALL,
    IdConflict,
    LostEvent,
    Outcome,
    Receipt,
    Rejection,
    UsageEvent,
)

# The binary forms of PostgreSQL's types, as its network_recv and jsonb_recv read them.
_FAMILY = {4: 2, 6: 3}
_JSONB_VERSION = b"\x01"
_NO_METADATA = _JSONB_VERSION + b"{}"
MAX_ADDRESSES_REMEMBERED = 65_536

QUARANTINED = (
    f"The event is more than {MAX_LATE_DAYS} days late or {MAX_AHEAD_SECONDS} seconds early. It is "
    "kept in quarantine and not counted; an operator may replay it."
)
REFUSALS = {
    "reverses_unknown": "No event of that id and source is known that could be taken back.",
    "quarantine_full": (
        f"The event is out of time, and {MAX_QUARANTINED:,} are in quarantine already."
    ),
}

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


class Aside(NamedTuple):
    """An event that is not counted as it stands: a reversal, or one that came out of time."""

    ordinal: int
    key: bytes
    digest: int
    event: UsageEvent

    def identity(self) -> dict[str, Any]:
        """Return what SQL tells it by."""
        return {
            "ordinal": self.ordinal,
            "organization_id": self.event.organization_id,
            "event_key": UUID(bytes=self.key),
            "digest": self.digest,
            "timestamp": self.event.timestamp,
        }


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
        self.reversals: dict[bytes, Aside] = {}
        self.untimely: dict[bytes, Aside] = {}
        self.accepted = 0
        self.duplicates = 0
        self.conflicts: list[IdConflict] = []
        self.rejected: list[Rejection] = []
        self.quarantined: list[Rejection] = []

    def add(self, index: int, event: UsageEvent) -> None:
        """Stage the event, or say why not."""
        is_timely = self.oldest <= event.timestamp <= self.newest
        if not is_timely and not self._may_be_quarantined(event.timestamp):
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
        before = self._digest_at(place)
        if before is not None:
            self.repeated(index, event.id, is_conflict=before != digest)
        elif not is_timely:
            self.untimely[place] = Aside(index, identity, digest, event)
        elif event.reverses is None:
            self.rows[place] = _row(index, organization_id, identity, digest, event, owner)
        elif len(self.reversals) < MAX_REVERSALS_PER_CALL:
            self.reversals[place] = Aside(index, identity, digest, event)
        else:
            detail = f"A call takes at most {MAX_REVERSALS_PER_CALL:,} reversals; send it again."
            self.rejected.append(Rejection(index, "too_many_reversals", detail))

    def _digest_at(self, place: bytes) -> int | None:
        row = self.rows.get(place)
        if row is not None:
            digest: int = row[_DIGEST]
            return digest
        aside = self.reversals.get(place) or self.untimely.get(place)
        return None if aside is None else aside.digest

    def _may_be_quarantined(self, at: datetime) -> bool:
        """Tell a clock that is off or a batch that was forgotten from a date that means nothing."""
        if self.sender.backfill:
            return False
        try:
            return (
                self.oldest - timedelta(days=MAX_QUARANTINE_LATE_DAYS)
                <= at
                <= self.newest + timedelta(days=MAX_QUARANTINE_AHEAD_DAYS)
            )
        except OverflowError:
            return False

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

    def reversal_rows(self) -> bytes:
        """Return the reversals as app.reverse_usage() takes them."""
        return msgspec.json.encode(
            [
                {
                    **aside.identity(),
                    "event_id": aside.event.id,
                    "reverses": UUID(bytes=event_key(aside.event.source, aside.event.reverses)),
                    "api_key_id": aside.event.api_key_id,
                    "metadata": aside.event.metadata,
                }
                for aside in self.reversals.values()
                if aside.event.reverses is not None
            ]
        )

    def quarantine_rows(self) -> bytes:
        """Return the events that came out of time as app.quarantine_usage() takes them."""
        return msgspec.json.encode(
            [
                {**aside.identity(), "reason": "timestamp_out_of_range", "event": aside.event}
                for aside in self.untimely.values()
            ]
        )

    def settle_aside(self, outcomes: Sequence[Outcome]) -> None:
        """Note what became of reversals and of events that came out of time."""
        asides = {
            aside.ordinal: aside for aside in (*self.reversals.values(), *self.untimely.values())
        }
        for each in outcomes:
            aside = asides[each.ordinal]
            if each.outcome == "reversed":
                self.accepted += 1
            elif each.outcome == "quarantined":
                self.quarantined.append(
                    Rejection(aside.ordinal, "timestamp_out_of_range", QUARANTINED)
                )
            elif each.outcome in {"duplicate", "conflict", "already_reversed"}:
                self.repeated(
                    aside.ordinal, aside.event.id, is_conflict=each.outcome != "duplicate"
                )
            else:
                self.rejected.append(Rejection(aside.ordinal, each.outcome, REFUSALS[each.outcome]))

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
            quarantined=sorted(self.quarantined, key=lambda rejection: rejection.index),
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
