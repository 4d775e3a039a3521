"""The rows of one batch of events: who sent them, whose they are, and which may be stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from aurora.features.keys.model import KeyOwner
from aurora.features.usage.model import (
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    MAX_REVERSALS_PER_CALL,
    AsideOutcome,
    IdConflict,
    Receipt,
    Rejection,
    UsageEvent,
)
from aurora.features.usage.packing import (
    HEADER_BYTES,
    Unstorable,
    content_of,
    digest_of,
    microseconds,
    pack_text,
    pack_uuid,
    row_of,
)
from aurora.features.usage.setting_aside import (
    QUARANTINE_AHEAD_US,
    QUARANTINE_LATE_US,
    QUARANTINED,
    REFUSALS,
    Aside,
)

EPOCH: Final = date(2000, 1, 1)
_DAY_US: Final = 86_400_000_000


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

    @property
    def numbers(self) -> tuple[int | None, int | None]:
        """What two senders have in common who are one; numbers, which are hashed at once."""
        organization, key = self.organization_id, self.key_id
        return None if organization is None else organization.int, None if key is None else key.int


class Row(msgspec.Struct, frozen=True, gc=False):
    """A packed row, and what its sender is told of it: its place there, and its id.

    No named tuple, which takes five times as long to make.
    """

    number: int
    event_id: str
    digest: bytes
    data: bytes


class _Owner(NamedTuple):
    """What the events of one key have in common."""

    organization: bytes
    packed: bytes
    key: bytes
    bills: bool


Fate = Literal["accepted", "duplicate", "conflict"] | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the rows of one or several batches; all of it by their places.

    Attributes:
        winners: The rows that were sent to be stored, one for each place.
        counted: For those whose id had been counted before, the digest that was counted.
        refused: For those that the database did not take, a code and a sentence.
    """

    winners: Mapping[bytes, Row]
    counted: Mapping[bytes, bytes] = field(default_factory=dict)
    refused: Mapping[bytes, tuple[str, str]] = field(default_factory=dict)

    def fate(self, place: bytes, row: Row) -> Fate:
        """Return what became of a row; of one that was refused, the code and the sentence."""
        why = self.refused.get(place)
        if why is not None:
            return why
        before = self.counted.get(place)
        if before is None and self.winners[place] is row:
            return "accepted"
        return "duplicate" if row.digest == (before or self.winners[place].digest) else "conflict"


# Why an event has no owner: its code and a sentence. One answer for a key that does not exist and
# for one of somebody else: no oracle.
_Refusal = tuple[str, str]
_KEY_UNKNOWN: Final[_Refusal] = ("api_key_unknown", "The organization has no such API key.")
_NOBODY: Final[_Refusal] = (
    "organization_unknown",
    "The event names no API key and no organization that there is.",
)


class Staging:
    """The rows of one batch, by identity, and what became of the events that are not among them.

    Args:
        sender: Who sends them.
        owners: Whose the keys are that the events name.
        known: Which of the organizations that they name there are.
        oldest: Older events are set aside or refused.
        newest: And so are later ones.

    Attributes:
        rows: By the sixteen bytes of the organization and the sixteen of the event key.
        reversals: Events that take others back, by the same.
        untimely: Events that came out of time, by the same.
    """

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
        self._oldest_us, self._newest_us = microseconds(oldest), microseconds(newest)
        self._first_us, self._last_us = self._newest_us, self._oldest_us
        self._resolved: dict[tuple[int | None, int | None], _Owner | _Refusal] = {}
        self.rows: dict[bytes, Row] = {}
        self._repeats: list[tuple[bytes, Row]] = []
        self._keys: set[UUID] = set()
        self._accepted = 0
        self._duplicates = 0
        self._conflicts: list[IdConflict] = []
        self.rejected: list[Rejection] = []
        self.reversals: dict[bytes, Aside] = {}
        self.untimely: dict[bytes, Aside] = {}
        self._asides_again: dict[int, list[Aside]] = {}
        self.quarantined: list[Rejection] = []

    def add_all(self, events: Iterable[tuple[int, UsageEvent]]) -> None:
        """Stage events with their places, or say why not."""
        for index, event in events:
            self.add(index, event)

    def add(self, index: int, event: UsageEvent) -> None:
        """Stage the event, or say why not."""
        at_us = microseconds(event.timestamp)
        is_timely = self._oldest_us <= at_us <= self._newest_us
        if not is_timely and not self._may_be_quarantined(at_us):
            self.rejected.append(Rejection(index, "timestamp_out_of_range", self._range_of(event)))
            return
        named, key_id = event.organization_id, event.api_key_id
        # By number: hashing a UUID itself goes through Python and takes ten times as long.
        pair = (None if named is None else named.int, None if key_id is None else key_id.int)
        owner = self._resolved.get(pair)
        if owner is None:
            owner = self._resolved[pair] = self._resolve(named, key_id or self.sender.key_id)
        if not isinstance(owner, _Owner):
            self.rejected.append(Rejection(index, *owner))
            return
        organization, packed, key, bills = owner
        try:
            event_id = pack_text(event.id)
            # The owner's key and not the event's: whether it was named or followed is no other
            # content.
            content = content_of(event, at_us, key, event_id)
            identity = identity_of(event.source, event_id)
            reverses = None if event.reverses is None else event_key(event.source, event.reverses)
        except Unstorable as wrong:
            self.rejected.append(Rejection(index, "event_invalid", str(wrong)))
            return
        if reverses is not None or not is_timely:
            digest = digest_of(content + (reverses or b""))
            organization_id = UUID(bytes=organization)
            aside = Aside(index, organization_id, identity, digest, event, reverses)
            self._set_aside(aside, is_timely=is_timely)
            return
        # Billable: a production key, an impression, a successful status (design.md, section 6).
        bills = bills and event.widget_impression and 200 <= event.status_code < 400  # noqa: PLR2004
        digest = digest_of(content)
        row = Row(index, event.id, digest, row_of(packed, identity, digest, bills, content))
        place = organization + identity
        if self.rows.setdefault(place, row) is not row:
            self._repeats.append((place, row))
            return
        # Not min() and max(), which cost as much as a digest.
        if at_us < self._first_us:  # noqa: PLR1730
            self._first_us = at_us
        if at_us > self._last_us:  # noqa: PLR1730
            self._last_us = at_us

    def _may_be_quarantined(self, at_us: int) -> bool:
        """Tell a clock that is off or a batch that was forgotten from a date that means nothing."""
        return not self.sender.backfill and (
            self._oldest_us - QUARANTINE_LATE_US <= at_us <= self._newest_us + QUARANTINE_AHEAD_US
        )

    def _range_of(self, event: UsageEvent) -> str:
        late = f"from {EPOCH} on" if self.sender.backfill else f"at most {MAX_LATE_DAYS} days late"
        return (
            f"{event.timestamp.isoformat()} is out of range: an event may be {late}, and at most "
            f"{MAX_AHEAD_SECONDS} seconds early."
        )

    def _set_aside(self, aside: Aside, *, is_timely: bool) -> None:
        aside.event.api_key_id = aside.event.api_key_id or self.sender.key_id
        place = aside.organization_id.bytes + aside.key
        mine = self.untimely if not is_timely else self.reversals
        before = mine.get(place)
        if before is None and is_timely and len(mine) >= MAX_REVERSALS_PER_CALL:
            self._note_aside(aside, "too_many_reversals")
        elif before is None:
            mine[place] = aside
        elif before.digest != aside.digest:
            self._note_aside(aside, "conflict")
        else:
            self._asides_again.setdefault(before.number, []).append(aside)

    def settle_aside(self, outcomes: Iterable[AsideOutcome], asides: Iterable[Aside]) -> None:
        """Note what became of events that were set aside."""
        by_number = {aside.number: aside for aside in asides}
        for each in outcomes:
            aside = by_number[each.ordinal]
            self._note_aside(aside, each.outcome)
            # What took nothing back is no duplicate when it comes again.
            outcome = "duplicate" if each.outcome == "reversed" else each.outcome
            for again in self._asides_again.get(aside.number, ()):
                self._note_aside(again, outcome)

    def _note_aside(self, aside: Aside, outcome: str) -> None:
        if outcome == "reversed":
            self._accepted += 1
        elif outcome == "quarantined":
            self.quarantined.append(Rejection(aside.number, "timestamp_out_of_range", QUARANTINED))
        elif outcome in REFUSALS:
            self.rejected.append(Rejection(aside.number, outcome, REFUSALS[outcome]))
        else:
            self._told_again(aside.number, aside.event.id, is_conflict=outcome != "duplicate")

    def _told_again(self, number: int, event_id: str, *, is_conflict: bool) -> None:
        if is_conflict:
            self._conflicts.append(IdConflict(number, event_id))
        else:
            self._duplicates += 1

    def _resolve(self, named: UUID | None, key_id: UUID | None) -> _Owner | _Refusal:
        key = None if key_id is None else self.owners.get(key_id)
        mine = self.sender.organization_id
        organization_id: UUID | None
        if mine is not None:
            organization_id = mine if named in (None, mine) else None
        elif named is not None:
            organization_id = named if named in self.known else None
        else:
            organization_id = None if key is None else key.organization_id
        if key_id is not None and (key is None or key.organization_id != organization_id):
            return _KEY_UNKNOWN
        if organization_id is None:
            return _NOBODY if key_id is None else _KEY_UNKNOWN
        if key_id is not None:
            self._keys.add(key_id)
        return _Owner(
            organization_id.bytes,
            pack_uuid(organization_id),
            pack_uuid(key_id),
            key is not None and key.environment == "production",
        )

    def days(self) -> tuple[date, date]:
        """Return the first and the last UTC day of the rows."""
        first, last = (
            EPOCH + timedelta(days=us // _DAY_US) for us in (self._first_us, self._last_us)
        )
        return first, last

    def key_ids(self) -> list[UUID]:
        """Return the keys that the rows name, sorted."""
        return sorted(self._keys)

    def settle(self, outcome: Outcome) -> None:
        """Note which rows were stored, and what became of those that were not."""
        if outcome.winners is self.rows and not outcome.counted and not outcome.refused:
            self._accepted = len(self.rows)
        else:
            for place, row in self.rows.items():
                self._note(place, row, outcome)
        for place, row in self._repeats:
            self._note(place, row, outcome)

    def _note(self, place: bytes, row: Row, outcome: Outcome) -> None:
        fate = outcome.fate(place, row)
        if fate == "accepted":
            self._accepted += 1
        elif isinstance(fate, tuple):
            self.rejected.append(Rejection(row.number, *fate))
        else:
            self._told_again(row.number, row.event_id, is_conflict=fate == "conflict")

    def receipt(self) -> Receipt:
        """Return what became of the batch."""
        return Receipt(
            accepted=self._accepted,
            duplicates=self._duplicates,
            conflicts=sorted(self._conflicts, key=lambda conflict: conflict.index),
            rejected=sorted(self.rejected, key=lambda rejection: rejection.index),
            quarantined=sorted(self.quarantined, key=lambda rejection: rejection.index),
        )


def event_key(source: str | None, event_id: str) -> bytes:
    """Return the sixteen bytes that an event is counted once by, as app.usage_event_key() does.

    Text cannot hold a zero byte, so joined by one the pairs (a, b-c) and (a-b, c) stay apart.

    Raises:
        Unstorable: A text does hold one.
    """
    return identity_of(source, pack_text(event_id))


def identity_of(source: str | None, event_id: bytes) -> bytes:
    """Return the same by the packed id.

    Raises:
        Unstorable: The source cannot be written.
    """
    # Of text that was packed no byte is zero, but perhaps of what stands before it.
    joined = b"\0" + event_id[HEADER_BYTES:]
    if source:
        joined = pack_text(source)[HEADER_BYTES:] + joined
    return hashlib.sha256(joined).digest()[:16]
