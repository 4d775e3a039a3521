"""Billing periods: half-open ranges of time, cut by a calendar without gap or overlap."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aurora.core.clock import as_utc
from aurora.core.errors import Invalid

MAX_PERIOD_MONTHS: Final = 120
"""Ten years; a longer period is a mistake in a plan."""

_MONTHS_A_YEAR: Final = 12


class TimeZoneUnknown(Invalid):
    """No zone of the IANA database has that name."""

    code, title = "time_zone_unknown", "The time zone is not known"


class Period(NamedTuple):
    """One billing period.

    Attributes:
        n: Its place in the subscription; the first one is 0.
        start: The first moment inside, in UTC.
        end: The first moment after it, in UTC; the start of period n + 1.
    """

    n: int
    start: datetime
    end: datetime


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> ZoneInfo:
    """Return the IANA zone of that name, such as Europe/Oslo.

    Raises:
        TimeZoneUnknown: There is none. A name never becomes a path outside the database.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TimeZoneUnknown(f"{name!r:.80} is not a time zone; try Europe/Oslo.") from None


def day_start(day: date, zone: str) -> datetime:
    """Return the first moment of a calendar day in a zone, in UTC.

    Where clocks jump over midnight the day starts when they land (00:00 does not exist in Cairo
    on the last Friday of April); where midnight comes twice it starts at the first. PostgreSQL's
    `day::timestamp at time zone zone` agrees on the jump but takes the second of two midnights
    (Azores, Havana; never Oslo), so bounds that are compared must come from one side.

    Raises:
        TimeZoneUnknown: There is no such zone.
        OverflowError: The moment lies outside the years 1 to 9999.
    """
    # PEP 495: fold=0 reads a skipped time with the offset from before the jump, which lands on the
    # jump itself, and takes the first of two midnights.
    return datetime(day.year, day.month, day.day, tzinfo=zone_of(zone)).astimezone(UTC)


def period_date(anchor: date, months: int, n: int) -> date:
    """Return the calendar day on which period n starts.

    Months are counted from the anchor, never from the period before, or an anchor on the 31st
    would stay on the 28th after its first February.

    Args:
        anchor: The day the first period starts.
        months: Length of a period, 1 to `MAX_PERIOD_MONTHS` calendar months.
        n: Which period; negative ones lie before the anchor.

    Raises:
        ValueError: `months` is out of range, or the day lies outside the years 1 to 9999.
    """
    if not 1 <= months <= MAX_PERIOD_MONTHS:
        raise ValueError(f"a period has 1 to {MAX_PERIOD_MONTHS} months, not {months}")
    year, month0 = divmod(_month_index(anchor) + n * months, _MONTHS_A_YEAR)
    if not date.min.year <= year <= date.max.year:
        raise ValueError(f"period {n} after {anchor} lies outside the calendar")
    last = calendar.monthrange(year, month0 + 1)[1]
    return date(year, month0 + 1, min(anchor.day, last))


def period_start(anchor: date, months: int, n: int, zone: str) -> datetime:
    """Return the first moment of period n, in UTC: anchor plus n times months, at local midnight.

    A 31 January anchor gives 28 February, then 31 March.

    Args:
        anchor: The local day the first period starts.
        months: Length of a period in calendar months.
        n: Which period, from 0.
        zone: IANA name of the seller's zone.

    Raises:
        ValueError, OverflowError: As in `period_date` and `day_start`.
        TimeZoneUnknown: There is no such zone.
    """
    return day_start(period_date(anchor, months, n), zone)


def period_at(anchor: date, months: int, at: datetime, zone: str) -> Period:
    """Return the one period that holds a moment: start ≤ at < end.

    Moments before the anchor lie in periods with negative n; whether those are billed is for the
    caller to say.

    Args:
        anchor: The local day the first period starts.
        months: Length of a period in calendar months.
        at: An aware moment in any zone.
        zone: IANA name of the seller's zone.

    Raises:
        ValueError: `at` names no zone; also as in `period_start`.
    """
    moment = as_utc(at)
    local = moment.astimezone(zone_of(zone)).date()
    # The month gives n or one too many: a day before the anchor's day lies in the period before,
    # and an hour that a clock set back over midnight repeats lies in the period after.
    n = (_month_index(local) - _month_index(anchor)) // months if months > 0 else 0
    start, end = _bounds(anchor, months, n, zone)
    if moment < start:
        n, end = n - 1, start
        start = period_start(anchor, months, n, zone)
    elif moment >= end:
        n, start = n + 1, end
        end = period_start(anchor, months, n + 1, zone)
    return Period(n, start, end)


def days_in(start: datetime, end: datetime, zone: str) -> int:
    """Return how many calendar days lie between two moments in a zone, for proration.

    It counts midnights, so a day of 23 or 25 hours is one day.

    Args:
        start: An aware moment; its local day counts.
        end: An aware moment; its local day does not.
        zone: IANA name of the zone.

    Raises:
        ValueError: `end` is before `start`, or a moment names no zone.
    """
    first, after = as_utc(start), as_utc(end)
    if after < first:
        raise ValueError(f"a range cannot end at {end} before it starts at {start}")
    local = zone_of(zone)
    return (after.astimezone(local).date() - first.astimezone(local).date()).days


def _bounds(anchor: date, months: int, n: int, zone: str) -> tuple[datetime, datetime]:
    return period_start(anchor, months, n, zone), period_start(anchor, months, n + 1, zone)


def _month_index(day: date) -> int:
    """Return the months since year 0."""
    return day.year * _MONTHS_A_YEAR + day.month - 1
