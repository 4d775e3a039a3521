"""A quota and how much of it is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Billable impressions of the running month of a subscription, [period_start, period_end)."""

    used: int
    included: int | None
    quota_mode: Literal["soft", "hard"]
    period_start: datetime
    period_end: datetime


class Taken(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What became of one request at the limits of its key and its organization's quota.

    Attributes:
        code: VALID where one request was taken; otherwise nothing was.
        limit: Requests in any rolling hour.
        remaining: How many of them are left, at least.
        reset_s: Seconds until more are left than now.
        retry_after_s: Seconds after which asking again may succeed, where it was refused.
        quota_used: Billable impressions of the running month, where a quota counts.
        quota_included: How many of them are included.
    """

    code: Literal["VALID", "RATE_LIMITED", "QUOTA_EXCEEDED"] = "VALID"
    limit: int | None = None
    remaining: int | None = None
    reset_s: int | None = None
    retry_after_s: int | None = None
    quota_used: int | None = None
    quota_included: int | None = None
