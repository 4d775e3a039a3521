"""Which days and hours a span of time is summed from, so that few rows are read."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Final, NamedTuple

DAY: Final = timedelta(days=1)
SUBTRACTED_DAYS: Final = 35
"""How old a day may be whose hours are taken away from it; sums by the hour are kept for at least
40 days (usage_policy_hourly_days_check), and what is gone cannot be taken away."""


class Cover(NamedTuple):
    """Whole UTC days from `days_from` to before `days_to`, and hours at both ends.

    The hours of an end are added to the days or, with a sign of -1, taken away from them.
    """

    days_from: datetime
    days_to: datetime
    head_from: datetime
    head_to: datetime
    head_sign: int
    tail_from: datetime
    tail_to: datetime
    tail_sign: int


def cover(starts: datetime, ends: datetime, now: datetime) -> Cover:
    """Return what the time from one whole hour to before another is summed from.

    Of the day at an end either the hours inside are added, or those outside are taken away from
    the whole day, whichever are fewer. Hours that have not begun hold next to nothing.

    Args:
        starts: In UTC, a whole hour.
        ends: In UTC, a later one.
        now: The present moment.
    """
    first, last = _day(starts), _day(ends)
    oldest = _day(now) - SUBTRACTED_DAYS * DAY
    if first == last:
        if ends - starts <= DAY / 2 or first < oldest:
            return Cover(first, first, starts, ends, 1, ends, ends, 1)
        return Cover(first, first + DAY, first, starts, -1, ends, first + DAY, -1)
    days_from, head_from, head_to, head_sign = first, first, starts, -1
    inside = first + DAY - starts
    if inside <= DAY / 2 or (first < oldest and starts != first):
        days_from, head_from, head_to, head_sign = first + DAY, starts, first + DAY, 1
    days_to, tail_from, tail_to, tail_sign = last, last, ends, 1
    if ends != last and last >= oldest and (ends - last > DAY / 2 or ends > now):
        days_to, tail_from, tail_to, tail_sign = last + DAY, ends, last + DAY, -1
    return Cover(days_from, days_to, head_from, head_to, head_sign, tail_from, tail_to, tail_sign)


def _day(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time(), UTC)
