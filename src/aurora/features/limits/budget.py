"""What one process holds of one key's limit: taken from at once, filled by leases, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, NamedTuple
from uuid import UUID

from aurora.features.limits.model import (
    MAX_REFUSAL_S,
    MAX_TRIP_S,
    MAX_WANTED,
    Lease,
    Taken,
)

_LONG_AGO: Final = float("-inf")


class Terms(NamedTuple):
    """The limits of a key: requests in any rolling hour, and in any rolling second or None."""

    per_hour: int
    per_second: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A lease that is asked for; what it returns is not in the budget any more.

    Attributes:
        sent_s: When, by the process' steady clock; the lease's life begins here.
        terms: The limits it is asked under.
        waiting: Requests that wait for it.
        wanted: Requests that are expected to come during its life.
        returned: Requests of the lease before that nobody used.
        returned_end: Under which end those are counted.
        expected: What time it is for this key, as far as this process can know.
    """

    sent_s: float
    terms: Terms
    waiting: int
    wanted: int
    returned: int
    returned_end: datetime | None
    expected: datetime | None


class Unused(NamedTuple):
    """Requests of a lease that nobody used, on their way back."""

    organization_id: UUID
    key_id: UUID
    requests: int
    ends_at: datetime


class Budget:
    """A key's lease in this process.

    Every moment is read from one clock that never goes back and never stands still, in seconds;
    it has nothing to do with the time of day. A lease is used until its life is over, counted from
    before it was asked for: PostgreSQL granted it after that, so it is never used longer than it
    is counted there. What is returned leaves the budget before it is sent, and is sent once: a
    return whose answer is lost may have been lost itself, and then the window stays narrower.
    """

    __slots__ = (
        "_ends_at",
        "_granted",
        "_key_time",
        "_left",
        "_received_s",
        "_refused_until_s",
        "_reset_s",
        "_retry_s",
        "_tokens",
        "_until_s",
        "_wanted",
        "asked_s",
        "key_id",
        "organization_id",
        "terms",
    )

    def __init__(self, organization_id: UUID, key_id: UUID) -> None:
        self.organization_id, self.key_id = organization_id, key_id
        self.terms = Terms(0, None)
        self.asked_s = _LONG_AGO
        self._tokens = self._granted = self._left = 0
        self._wanted = 1
        self._until_s = self._refused_until_s = self._retry_s = self._reset_s = _LONG_AGO
        self._received_s = _LONG_AGO
        self._ends_at: datetime | None = None
        self._key_time: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Return whether something is left that was not given up."""
        return self._tokens > 0

    @property
    def knows_the_time(self) -> bool:
        """Return whether this process knows what time it is for the key without asking."""
        return self._key_time is not None

    def take(self, per_hour: int, per_second: int | None, now_s: float) -> Taken | None:
        """Take one request, or refuse it; None where only PostgreSQL can tell."""
        if self.terms != (per_hour, per_second):
            return None
        if self._tokens and now_s < self._until_s:
            self._tokens -= 1
            reset_s = self._reset_s - now_s
            return Taken(
                limit=per_hour,
                per_second=per_second,
                remaining=self._left + self._tokens,
                reset_s=ceil(reset_s) if reset_s > 0 else 0,
            )
        if now_s < self._refused_until_s:
            return self.refuse(now_s)
        return None

    def refuse(self, now_s: float) -> Taken:
        """Return the refusal that the last lease stands for."""
        wait_s = max(ceil(self._retry_s - now_s), 1)
        return Taken(
            code="RATE_LIMITED",
            limit=self.terms.per_hour,
            per_second=self.terms.per_second,
            remaining=self._left,
            reset_s=wait_s,
            retry_after_s=wait_s,
        )

    def ask(self, terms: Terms, waiting: int, now_s: float) -> Asked:
        """Return the lease to ask for; until it is settled, the budget is empty.

        How much is wanted follows what was used: twice as much where the last lease was used up
        before its time, what was used of it where it was not.
        """
        used = self._granted - self._tokens
        if self._granted:
            self._wanted = used if self._tokens else min(2 * self._granted, MAX_WANTED)
        returned, self._tokens, self._granted = self._tokens, 0, 0
        expected = None
        if self._key_time is not None:
            expected = self._key_time + timedelta(seconds=now_s - self._received_s)
        self.asked_s = now_s
        return Asked(
            now_s,
            terms,
            waiting,
            max(self._wanted, waiting),
            returned,
            self._ends_at if returned else None,
            expected,
        )

    def settle(self, asked: Asked, lease: Lease, now_s: float) -> None:
        """Fill the budget with what was granted."""
        self.terms = asked.terms
        self._tokens = self._granted = lease.granted
        self._until_s = asked.sent_s + lease.life_ms / 1000
        self._ends_at = lease.ends_at
        self._left = lease.remaining
        self._reset_s = now_s + lease.reset_ms / 1000
        # What took long says only that the key's time is somewhere in between.
        fresh = now_s - asked.sent_s <= MAX_TRIP_S
        self._key_time = lease.key_time if fresh else None
        self._received_s = now_s
        self._refused_until_s = _LONG_AGO
        if lease.granted < asked.waiting:
            wait_s = (lease.retry_after_ms or 0) / 1000
            self._retry_s = now_s + wait_s
            self._refused_until_s = now_s + min(wait_s, MAX_REFUSAL_S)

    def give_up(self, now_s: float, *, whole: bool = False) -> Unused | None:
        """Empty the budget of what is past its life (or of all) and return it, if there is any."""
        if not self._tokens or self._ends_at is None or (now_s < self._until_s and not whole):
            return None
        count, self._tokens = self._tokens, 0
        self._wanted, self._granted = max(self._granted - count, 1), 0
        return Unused(self.organization_id, self.key_id, count, self._ends_at)
