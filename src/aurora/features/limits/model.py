"""Limits and quotas: how much of each is used, what one request takes, and how large a step is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from aurora.core.errors import LimitExceeded

MAX_KEYS: Final = 100_000
"""Keys whose leases a process holds; beyond them the one that asked longest ago is given up."""
MAX_WANTED: Final = 100_000
"""Requests a process asks for at once, however fast they come."""
MAX_WAITING: Final = 10_000
"""Requests of one key that may wait for its lease; one more hears UNAVAILABLE."""
MAX_RETURNS: Final = 1_000
"""Leases returned in one call."""
LEASE_TIMEOUT_S: Final = 2.0
"""How long PostgreSQL is waited for before what waits hears UNAVAILABLE."""
AWAY_S: Final = 0.25
"""After PostgreSQL failed, how long nobody asks it again."""
MAX_REFUSAL_S: Final = 0.5
"""How long a refusal is believed without asking: others may return what they did not use."""
MAX_TRIP_S: Final = 1.0
"""An answer that took longer says nothing of what time it is."""
IDLE_S: Final = 10.0
"""After so long without a request a process forgets a key."""
SWEEP_S: Final = 0.25
"""How often what was not used is returned."""

THRESHOLDS: Final = (80, 100)
"""Per cent of the included impressions at which people are told; `app.warn_of_quota()` tells."""
WIDGET_SCOPE: Final = "widgets:embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Billable impressions of the running month of a subscription, [period_start, period_end)."""

    used: int
    included: int | None
    quota_mode: Literal["soft", "hard"]
    period_start: datetime
    period_end: datetime

    @property
    def is_exceeded(self) -> bool:
        """Return whether the plan stops here: a hard quota, and all of it is used."""
        if self.included is None or self.quota_mode != "hard":
            return False
        return self.used >= self.included

    @property
    def passed(self) -> int:
        """Return the highest of the thresholds that are passed, in per cent, or 0."""
        if not self.included:
            return 0
        share = self.used * 100 // self.included
        return max((each for each in THRESHOLDS if share >= each), default=0)


class Taken(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What became of one request at the limits of its key and its organization's quota.

    Attributes:
        code: VALID where one request was taken; otherwise nothing was.
        limit: Requests in any rolling hour.
        per_second: Requests in any rolling second, where the key has such a limit.
        remaining: How many of them are left, at least.
        reset_s: Seconds until more are left than now.
        retry_after_s: Seconds after which asking again may succeed, where it was refused.
        quota_used: Billable impressions of the running month, where a quota counts.
        quota_included: How many of them are included.
    """

    code: Literal["VALID", "RATE_LIMITED", "QUOTA_EXCEEDED"] = "VALID"
    limit: int | None = None
    per_second: int | None = None
    remaining: int | None = None
    reset_s: int | None = None
    retry_after_s: int | None = None
    quota_used: int | None = None
    quota_included: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What PostgreSQL granted to a process, by `app.lease_requests()`.

    Attributes:
        granted: Requests.
        life_ms: How long they may be used, from before they were asked for.
        ends_at: Under which end they are counted, and returned.
        key_time: The key's own time at the grant.
        remaining: Requests of the hour that are left after the grant.
        reset_ms: Until the oldest of what is counted leaves the window.
        retry_after_ms: Until something is left, where less was granted than waits.
    """

    granted: int
    life_ms: int
    ends_at: datetime
    key_time: datetime
    remaining: int
    reset_ms: int
    retry_after_ms: int | None


class RateLimited(LimitExceeded):
    """The key has used its requests of the hour, or of the second."""

    code, title = "rate_limited", "The key's requests are used up"


class QuotaExceeded(LimitExceeded):
    """The organization's plan stops where its included impressions are used."""

    code, title = "quota_exceeded", "The included impressions of the month are used up"
