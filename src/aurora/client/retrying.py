"""When a call is tried again, and after how long: bounded, jittered, and as Aurora asks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from aurora.client.errors import CallFailed, Unreachable
from aurora.core import clock

RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})
RETRIED_CODES: Final = frozenset({"idempotency_in_flight"})


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often and how patiently a call is tried.

    Attributes:
        max_attempts: The first one included.
        first_wait_s: The longest wait after the first attempt; it doubles with each.
        max_wait_s: The longest wait at all. Where Aurora asks for more, the call fails at once.
    """

    max_attempts: int = 4
    first_wait_s: float = 0.2
    max_wait_s: float = 30.0

    def wait_s(self, error: CallFailed, attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt, or None where there is none.

        The wait is drawn from all of [0, bound] ("full jitter", M. Brooker, 2015), so that clients
        which failed together do not come back together.

        Args:
            error: What the attempt failed with.
            attempt: Which attempt it was, from 1.
        """
        is_passing = (
            isinstance(error, Unreachable)
            or error.status in RETRIED_STATUSES
            or error.code in RETRIED_CODES
        )
        if not is_passing or attempt >= self.max_attempts:
            return None
        bound = min(self.max_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        jittered = random.uniform(0, bound)  # noqa: S311 - nobody gains by guessing it
        asked = error.retry_after_s
        if asked is None:
            return jittered
        return None if asked > self.max_wait_s else asked + jittered


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:  # noqa: PLR2004 - 31 years
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        return max(0.0, (clock.as_utc(at) - clock.now()).total_seconds())
    except (ValueError, TypeError):
        return None
