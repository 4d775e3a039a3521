"""A quota and how much of it is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Billable impressions of the running month of a subscription, [period_start, period_end)."""

    used: int
    included: int | None
    quota_mode: Literal["soft", "hard"]
    period_start: datetime
    period_end: datetime
