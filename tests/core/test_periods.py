"""Periods follow the seller's calendar from the anchor, and every moment lies in exactly one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aurora.core.periods import (
    TimeZoneUnknown,
    day_start,
    days_in,
    period_at,
    period_date,
    period_start,
    zone_of,
)

OSLO = "Europe/Oslo"
# Cairo, Beirut, and Havana skip midnight, Azores and Havana repeat it, St. John's fell back over it
# at 00:01, Apia skipped a whole day, and Kiritimati and Pago Pago are a day apart.
ODD_ZONES = (
    *("Europe/Oslo", "UTC", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Atlantic/Azores"),
    *("America/St_Johns", "America/Sao_Paulo", "Pacific/Apia", "Pacific/Kiritimati"),
    *("Pacific/Pago_Pago", "Australia/Lord_Howe"),
)
ANCHORS = st.dates(date(2004, 1, 1), date(2030, 12, 31))
MONTHS = st.sampled_from([1, 2, 3, 6, 12])
ZONES = st.sampled_from(ODD_ZONES)
TEN_YEARS_S = 10 * 366 * 86_400
MICROSECOND = timedelta(microseconds=1)


def days(anchor: date, months: int, count: int) -> list[str]:
    return [period_date(anchor, months, n).isoformat() for n in range(count)]


def test_a_month_end_is_clamped_from_the_anchor_and_never_drifts() -> None:
    assert days(date(2023, 1, 31), 1, 5) == [
        *("2023-01-31", "2023-02-28", "2023-03-31", "2023-04-30", "2023-05-31"),
    ]
    # Worked example of Lago: a subscription of 30 April 2022, seen from January 2023.
    assert days(date(2022, 4, 30), 1, 25)[9:] == [
        *("2023-01-30", "2023-02-28", "2023-03-30", "2023-04-30", "2023-05-30", "2023-06-30"),
        *("2023-07-30", "2023-08-30", "2023-09-30", "2023-10-30", "2023-11-30", "2023-12-30"),
        *("2024-01-30", "2024-02-29", "2024-03-30", "2024-04-30"),
    ]


def test_a_year_from_a_leap_day_ends_on_28_february_and_comes_back() -> None:
    leap = date(2024, 2, 29)
    assert days(leap, 12, 5) == [
        *("2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"),
    ]
    first, second = period_start(leap, 12, 0, OSLO), period_start(leap, 12, 1, OSLO)
    assert days_in(first, second, OSLO) == 365


def test_a_period_starts_at_local_midnight_in_summer_and_in_winter() -> None:
    anchor = date(2026, 1, 15)
    assert period_start(anchor, 1, 0, OSLO) == datetime(2026, 1, 14, 23, tzinfo=UTC)
    assert period_start(anchor, 1, 6, OSLO) == datetime(2026, 7, 14, 22, tzinfo=UTC)


def test_the_last_hours_of_february_in_new_york_are_billed_in_february() -> None:
    # Worked example of Lago: 00:00 UTC on 1 March is still February there.
    found = period_at(date(2021, 2, 1), 1, datetime(2022, 3, 1, tzinfo=UTC), "America/New_York")
    assert found == (12, datetime(2022, 2, 1, 5, tzinfo=UTC), datetime(2022, 3, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("day", "zone", "start"),
    [
        (date(2024, 4, 26), "Africa/Cairo", "2024-04-25T22:00"),  # 00:00 jumps to 01:00
        (date(2018, 11, 4), "America/Sao_Paulo", "2018-11-04T03:00"),
        (date(2025, 10, 26), "Atlantic/Azores", "2025-10-26T00:00"),  # 00:00 comes twice
        (date(2009, 11, 1), "America/St_Johns", "2009-11-01T02:30"),  # at 00:01 back to 23:01
        (date(2011, 12, 30), "Pacific/Apia", "2011-12-30T10:00"),  # the day never was
        (date(2011, 12, 31), "Pacific/Apia", "2011-12-30T10:00"),
    ],
)
def test_a_day_whose_midnight_is_missing_or_comes_twice_has_one_start(
    day: date, zone: str, start: str
) -> None:
    assert day_start(day, zone) == datetime.fromisoformat(start).replace(tzinfo=UTC)


@given(st.sampled_from(sorted(available_timezones())), st.dates(date(1970, 1, 2), date(2040, 1, 1)))
@example("Africa/Cairo", date(2024, 4, 26))
@example("America/St_Johns", date(2009, 11, 1))
def test_a_day_starts_no_later_than_its_first_moment(zone: str, day: date) -> None:
    start = day_start(day, zone)
    local = zone_of(zone)
    assert start.astimezone(local).date() >= day
    assert (start - MICROSECOND).astimezone(local).date() < day


@given(ANCHORS, MONTHS, ZONES, st.integers(0, TEN_YEARS_S), st.integers(0, 999_999))
def test_every_moment_of_ten_years_lies_in_exactly_one_period(
    anchor: date, months: int, zone: str, second: int, microsecond: int
) -> None:
    at = day_start(anchor, zone) + timedelta(seconds=second, microseconds=microsecond)
    n, start, end = period_at(anchor, months, at, zone)
    assert start <= at < end
    assert n >= 0
    assert start == period_start(anchor, months, n, zone)
    assert end == period_start(anchor, months, n + 1, zone)


@settings(max_examples=40, deadline=None)
@given(ANCHORS, MONTHS, ZONES)
def test_the_periods_of_ten_years_touch_and_never_overlap(
    anchor: date, months: int, zone: str
) -> None:
    count = 120 // months
    starts = [period_start(anchor, months, n, zone) for n in range(-2, count + 1)]
    assert all(earlier < later for earlier, later in pairwise(starts))
    for n, start in enumerate(starts[1:-1], start=-1):
        assert period_at(anchor, months, start, zone).n == n
        assert period_at(anchor, months, start - MICROSECOND, zone).n == n - 1
    total = sum(days_in(a, b, zone) for a, b in pairwise(starts))
    assert total == days_in(starts[0], starts[-1], zone)


def test_an_hour_that_a_clock_repeats_over_midnight_lies_in_the_period_that_began() -> None:
    # On 1 November 2009 at 00:01 St. John's went back to 23:01 on 31 October: its second 23:30 is
    # after November's first midnight.
    zone = "America/St_Johns"
    again = datetime(2009, 10, 31, 23, 30, tzinfo=ZoneInfo(zone), fold=1)
    assert period_at(date(2009, 1, 1), 1, again, zone).n == 10
    assert period_at(date(2009, 1, 1), 1, again.replace(fold=0), zone).n == 9


def test_moments_before_the_anchor_have_negative_numbers() -> None:
    before = day_start(date(2026, 1, 31), OSLO) - MICROSECOND
    assert period_at(date(2026, 1, 31), 1, before, OSLO).n == -1


def test_days_are_counted_by_midnights_and_not_by_24_hours() -> None:
    march = day_start(date(2026, 3, 1), OSLO), day_start(date(2026, 4, 1), OSLO)
    assert march[1] - march[0] == timedelta(days=31) - timedelta(hours=1)
    assert days_in(*march, OSLO) == 31
    october = day_start(date(2026, 10, 1), OSLO), day_start(date(2026, 11, 1), OSLO)
    assert october[1] - october[0] == timedelta(days=31) + timedelta(hours=1)
    assert days_in(*october, OSLO) == 31
    assert days_in(march[0], march[0], OSLO) == 0
    with pytest.raises(ValueError, match="cannot end"):
        days_in(march[1], march[0], OSLO)


def test_a_moment_without_a_zone_is_refused() -> None:
    aware = datetime(2026, 1, 1, tzinfo=UTC)
    naive = aware.replace(tzinfo=None)
    with pytest.raises(ValueError, match="names no time zone"):
        period_at(date(2026, 1, 1), 1, naive, OSLO)
    with pytest.raises(ValueError, match="names no time zone"):
        days_in(naive, aware, OSLO)


@pytest.mark.parametrize("months", [0, -1, 121])
def test_a_period_has_1_to_120_months(months: int) -> None:
    with pytest.raises(ValueError, match="1 to 120 months"):
        period_start(date(2026, 1, 1), months, 1, OSLO)
    with pytest.raises(ValueError, match="1 to 120 months"):
        period_at(date(2026, 1, 1), months, datetime(2026, 1, 1, tzinfo=UTC), OSLO)


def test_a_period_outside_the_calendar_is_refused() -> None:
    for n in (100_000, -100_000):
        with pytest.raises(ValueError, match="outside the calendar"):
            period_date(date(2026, 1, 1), 1, n)


@pytest.mark.parametrize(
    "name",
    ["", "Oslo", "../../etc/passwd", "/etc/localtime", "Europe", "Europe/Oslo\0", "x" * 9_999],
)
def test_a_zone_that_is_not_in_the_database_is_refused(name: str) -> None:
    with pytest.raises(TimeZoneUnknown) as refusal:
        zone_of(name)
    assert len(refusal.value.detail) < 200
