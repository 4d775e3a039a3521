"""Every hour of a span is counted once, and no other, whatever days and hours stand for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aurora.features.usage.covering import SUBTRACTED_DAYS, Cover, cover

HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)

hours = st.integers(-45 * 24, 3 * 24).map(lambda n: MIDNIGHT + n * HOUR)


def counted(found: Cover) -> dict[datetime, int]:
    """Return how often each hour is counted, but for those that are not."""
    times: dict[datetime, int] = {}
    for starts, ends, sign in (
        (found.days_from, found.days_to, 1),
        (found.head_from, found.head_to, found.head_sign),
        (found.tail_from, found.tail_to, found.tail_sign),
    ):
        hour = starts
        while hour < ends:
            times[hour] = times.get(hour, 0) + sign
            hour += HOUR
    return {hour: number for hour, number in times.items() if number}


@given(hours, st.integers(1, 100))
def test_each_hour_is_counted_once(starts: datetime, length: int) -> None:
    ends = starts + length * HOUR
    found = cover(starts, ends, NOW)
    assert counted(found) == {starts + n * HOUR: 1 for n in range(length)}
    assert found.days_from <= found.days_to


@given(hours, st.integers(1, 100))
def test_few_hours_are_read(starts: datetime, length: int) -> None:
    found = cover(starts, starts + length * HOUR, NOW)
    begun = max(min(found.tail_to, NOW) - found.tail_from, timedelta())
    assert found.head_to - found.head_from <= 23 * HOUR
    if starts.date() >= (NOW - timedelta(days=SUBTRACTED_DAYS)).date():
        assert found.head_to - found.head_from <= 12 * HOUR
        assert begun <= 12 * HOUR


def test_nothing_is_taken_away_where_hours_may_be_gone() -> None:
    first_kept = MIDNIGHT - timedelta(days=SUBTRACTED_DAYS)
    kept = cover(first_kept + HOUR, first_kept + 30 * HOUR, NOW)
    assert (kept.head_sign, kept.days_from) == (-1, first_kept)
    gone = first_kept - timedelta(days=1)
    for starts, ends in ((gone + HOUR, gone + 30 * HOUR), (gone + HOUR, gone + 23 * HOUR)):
        found = cover(starts, ends, NOW)
        assert found.head_sign == 1
        assert found.head_from == starts


def test_the_day_that_is_not_over_is_read_whole() -> None:
    found = cover(MIDNIGHT - 14 * HOUR, MIDNIGHT + 11 * HOUR, NOW)
    assert (found.days_from, found.days_to) == (
        MIDNIGHT - timedelta(days=1), MIDNIGHT + timedelta(days=1),
    )  # fmt: skip
    assert (found.tail_sign, found.tail_from) == (-1, MIDNIGHT + 11 * HOUR)


def test_a_sign_that_is_forgotten_is_caught() -> None:
    right = cover(MIDNIGHT + HOUR, MIDNIGHT + 30 * HOUR, NOW)
    assert counted(right._replace(head_sign=1)) != counted(right)
