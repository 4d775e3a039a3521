"""The clock shows UTC, stands still when told to, and lets go afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from aurora.core.clock import SELLER_ZONE_DEFAULT, as_utc, freeze, now, seconds

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MICROSECOND_S = 1e-6


def test_now_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    moment = now()
    assert before <= moment <= datetime.now(UTC)
    assert moment.utcoffset() == timedelta(0)


def test_a_frozen_clock_shows_its_moment_in_utc_and_then_lets_go() -> None:
    oslo = datetime(2026, 1, 1, 1, tzinfo=ZoneInfo(SELLER_ZONE_DEFAULT))
    with freeze(oslo):
        assert now() == NEW_YEAR
        assert now().tzinfo is UTC
    assert now() > NEW_YEAR


def test_a_frozen_clock_turns_a_month_in_one_line() -> None:
    with freeze(NEW_YEAR) as clock:
        clock.advance(timedelta(days=31))
        assert now() == datetime(2026, 2, 1, tzinfo=UTC)
        clock.set(datetime(2026, 1, 1, 1, tzinfo=ZoneInfo(SELLER_ZONE_DEFAULT)))
        assert now() == NEW_YEAR
        assert now().tzinfo is UTC


def test_seconds_are_those_of_the_same_clock() -> None:
    # The one counts whole microseconds, the other also parts of one.
    before = now().timestamp() - MICROSECOND_S
    assert before <= seconds() <= now().timestamp() + MICROSECOND_S
    with freeze(NEW_YEAR):
        assert seconds() == NEW_YEAR.timestamp()


def test_freezing_inside_a_freeze_gives_the_outer_moment_back() -> None:
    with freeze(NEW_YEAR):
        with freeze(NEW_YEAR + timedelta(days=1)):
            assert now() == NEW_YEAR + timedelta(days=1)
        assert now() == NEW_YEAR


async def test_tasks_started_while_frozen_follow_the_clock_and_others_do_not() -> None:
    released = asyncio.Event()

    async def read_later() -> datetime:
        await released.wait()
        return now()

    outside = asyncio.create_task(read_later())
    await asyncio.sleep(0)
    with freeze(NEW_YEAR) as clock:
        inside = asyncio.create_task(read_later())
        await asyncio.sleep(0)
        clock.advance(timedelta(hours=1))
    released.set()
    assert await inside == NEW_YEAR + timedelta(hours=1)
    assert await outside > NEW_YEAR + timedelta(hours=1)


def test_a_moment_without_a_zone_is_refused() -> None:
    naive = NEW_YEAR.replace(tzinfo=None)
    with pytest.raises(ValueError, match="names no time zone"):
        as_utc(naive)
    with pytest.raises(ValueError, match="names no time zone"), freeze(naive):
        pass
