"""The one Python clock: every moment Aurora writes down or compares comes from `now`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Final

SELLER_ZONE_DEFAULT: Final = "Europe/Oslo"
"""IANA zone in which the seller's billing periods begin at local midnight."""


class FrozenClock:
    """A clock that stands still until a test moves it.

    Attributes:
        at: The moment it shows, aware and in UTC.
    """

    __slots__ = ("at",)

    def __init__(self, at: datetime) -> None:
        self.at = as_utc(at)

    def advance(self, by: timedelta) -> datetime:
        """Move the clock by a duration, back when it is negative, and return the new moment."""
        self.at += by
        return self.at

    def set(self, at: datetime) -> datetime:
        """Move the clock to an aware moment and return it in UTC."""
        self.at = as_utc(at)
        return self.at


_frozen: ContextVar[FrozenClock | None] = ContextVar("aurora_frozen_clock", default=None)


def now() -> datetime:
    """Return the present moment: aware, in UTC, to the microsecond as PostgreSQL stores it."""
    frozen = _frozen.get()
    return datetime.now(UTC) if frozen is None else frozen.at


def seconds() -> float:
    """Return the present moment as seconds since 1970 (Unix time), for a tenth of the price."""
    frozen = _frozen.get()
    return time.time() if frozen is None else frozen.at.timestamp()


@contextmanager
def freeze(at: datetime) -> Iterator[FrozenClock]:
    """Make `now` return one moment in this context and in the tasks started inside it.

    Tasks and threads that were started before keep the real clock, because each holds a copy of
    the context it was started in. PostgreSQL has a clock of its own, `app.now()`.

    Args:
        at: The moment to show; aware, in any zone.

    Yields:
        The clock, which the test may advance.

    Raises:
        ValueError: `at` names no zone.
    """
    clock = FrozenClock(at)
    token = _frozen.set(clock)
    try:
        yield clock
    finally:
        _frozen.reset(token)


def as_utc(at: datetime) -> datetime:
    """Return an aware moment in UTC.

    Raises:
        ValueError: `at` names no zone, so which moment it means would be a guess.
    """
    if at.utcoffset() is None:
        raise ValueError(f"{at.isoformat()} names no time zone; a moment must be aware")
    return at.astimezone(UTC)
