"""The limiter of a process against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.features.limits.keys import AKey, Watched

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.limits.limiter import Limiter, LimiterAway
from aurora.features.limits.model import AWAY_S, IDLE_S, SWEEP_S, Taken


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def windows(pool: Pool) -> Watched:
    return Watched(pool)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def limiter(windows: Watched, clock: Clock) -> AsyncIterator[Limiter]:
    limiter = Limiter(windows, clock=clock)
    yield limiter
    windows.may_go.set()
    await limiter.close()


async def a_request(limiter: Limiter, key: AKey) -> Taken:
    return limiter.take(key) or await limiter.lease(key)


async def counted(pool: Pool, key: AKey) -> int:
    """Return what PostgreSQL counts of the key."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await conn.execute(
            "select coalesce(sum(c), 0) from rate_limit_windows w, unnest(w.counts) as c"
            " where organization_id = %s and api_key_id = %s",
            (key.organization_id, key.id),
        )
        row = await found.fetchone()
    assert row is not None
    return int(row[0])


async def until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not await true():  # noqa: ASYNC110 - what is waited for is in PostgreSQL
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("limit", [0, 1, 2, 25])
async def test_no_more_than_the_limit_passes(limiter: Limiter, limit: int) -> None:
    key = AKey(rate_limit_per_hour=limit)
    answers = [await a_request(limiter, key) for _ in range(limit + 5)]
    assert [each.code for each in answers] == ["VALID"] * limit + ["RATE_LIMITED"] * 5
    assert [each.remaining for each in answers] == [*range(limit - 1, -1, -1), 0, 0, 0, 0, 0]
    # An hour, and at most 17 seconds more; where nothing ever passes, nothing is waited for.
    for each in answers[limit:]:
        assert each.retry_after_s is not None
        assert 3_600 <= each.retry_after_s <= (3_617 if limit else 3_620)
    assert all(each.retry_after_s is None for each in answers[:limit])


async def test_a_live_lease_asks_nobody(limiter: Limiter, windows: Watched) -> None:
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(100):
        await a_request(limiter, key)
    # 1, 2, 4, … 64: what was used up before its time is asked for twice.
    assert [each.wanted for each in windows.asked] == [1, 2, 4, 8, 16, 32, 64]


async def test_a_lease_is_over_after_its_second(
    limiter: Limiter, windows: Watched, clock: Clock
) -> None:
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(10):
        await a_request(limiter, key)
    asked = len(windows.asked)
    assert limiter.take(key) is not None
    clock.now_s += 1.0
    assert limiter.take(key) is None
    await a_request(limiter, key)
    assert len(windows.asked) == asked + 1
    # What was not used of it went back with the question.
    assert windows.asked[-1].returned == 15 - 11


async def test_many_that_wait_ask_once(limiter: Limiter, windows: Watched) -> None:
    key = AKey(rate_limit_per_hour=40)
    windows.may_go.clear()
    waiting = [asyncio.create_task(limiter.lease(key)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    windows.may_go.set()
    answers = [each.code for each in await asyncio.gather(*waiting)]
    # In the order in which they came.
    assert answers == ["VALID"] * 40 + ["RATE_LIMITED"] * 10
    assert [each.waiting for each in windows.asked] == [50]


async def test_who_left_before_the_answer_took_nothing(limiter: Limiter, windows: Watched) -> None:
    key = AKey(rate_limit_per_hour=3)
    windows.may_go.clear()
    waiting = [asyncio.create_task(limiter.lease(key)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting[0]
    windows.may_go.set()
    assert [each.code for each in await asyncio.gather(*waiting[1:])] == ["VALID"] * 2
    assert [(await a_request(limiter, key)).code for _ in range(2)] == ["VALID", "RATE_LIMITED"]


async def test_nothing_passes_beyond_the_lease_while_postgresql_is_away(
    limiter: Limiter, windows: Watched, clock: Clock
) -> None:
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(4):
        await a_request(limiter, key)
    windows.is_away = True
    # Three are left of the third lease, which was granted four.
    assert [limiter.take(key) is None for _ in range(4)] == [False, False, False, True]
    with pytest.raises(LimiterAway):
        await limiter.lease(key)
    # For a moment nobody else has to wait for what will not come.
    asked = len(windows.asked)
    with pytest.raises(LimiterAway):
        await limiter.lease(AKey())
    assert len(windows.asked) == asked
    windows.is_away = False
    clock.now_s += AWAY_S
    assert (await a_request(limiter, key)).code == "VALID"


async def test_a_changed_limit_applies_at_once_and_keeps_the_count(
    limiter: Limiter, pool: Pool
) -> None:
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(20):
        await a_request(limiter, key)
    smaller = replace(key, rate_limit_per_hour=10)
    assert limiter.take(smaller) is None
    assert (await limiter.lease(smaller)).code == "RATE_LIMITED"
    larger = replace(key, rate_limit_per_hour=25)
    answers = [(await a_request(limiter, larger)).code for _ in range(6)]
    assert answers == ["VALID"] * 5 + ["RATE_LIMITED"]
    assert await counted(pool, key) == 25


async def test_what_is_unused_comes_back(
    limiter: Limiter, pool: Pool, clock: Clock, windows: Watched
) -> None:
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(8):
        await a_request(limiter, key)
    assert await counted(pool, key) == 15
    clock.now_s += 1.0

    async def is_back() -> bool:
        return await counted(pool, key) == 8

    await until(is_back)
    assert [each.requests for each in windows.returned] == [7]


async def test_closing_returns_what_is_unused(pool: Pool, windows: Watched) -> None:
    limiter = Limiter(windows)
    key = AKey(rate_limit_per_hour=1_000)
    for _ in range(9):
        await a_request(limiter, key)
    await limiter.close()
    assert await counted(pool, key) == 9
    with pytest.raises(LimiterAway):
        await limiter.lease(key)


async def test_keys_are_forgotten_and_their_number_is_bounded(
    windows: Watched, pool: Pool, clock: Clock
) -> None:
    limiter = Limiter(windows, clock=clock, max_keys=10)
    keys = [AKey() for _ in range(30)]
    for key in keys:
        await a_request(limiter, key)
        await a_request(limiter, key)
    assert len(limiter) == 10
    clock.now_s += IDLE_S

    async def are_forgotten() -> bool:
        return len(limiter) == 0

    await until(are_forgotten)
    await asyncio.sleep(2 * SWEEP_S)
    assert [await counted(pool, key) for key in keys] == [2] * 30
    await limiter.close()


async def test_two_processes_share_what_is_left(pool: Pool, windows: Watched) -> None:
    key = AKey(rate_limit_per_hour=400)
    both = [Limiter(windows), Limiter(Watched(pool))]
    answers = [(await a_request(both[number % 2], key)).code for number in range(500)]
    assert answers.count("VALID") == 400
    for each in both:
        await each.close()


async def test_a_burst_is_one_of_a_second(limiter: Limiter, clock: Clock) -> None:
    key = AKey(rate_limit_per_hour=1_000, burst_per_second=5)
    answers = [await a_request(limiter, key) for _ in range(7)]
    assert [each.code for each in answers] == ["VALID"] * 5 + ["RATE_LIMITED"] * 2
    # The hour is far from used up; it is the second that is.
    assert answers[-1].remaining == 995
    assert answers[-1].retry_after_s in (1, 2)


async def test_idle_windows_are_forgotten_after_a_day(limiter: Limiter, pool: Pool) -> None:
    key = AKey()
    await a_request(limiter, key)
    for shift, left in (("24 hours", 1), ("26 hours", 0)):
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute(
                "update rate_limit_windows set seen_at = app.now() - %s::interval", (shift,)
            )
            await conn.execute("select app.forget_rate_limits()")
            found = await conn.execute("select count(*) from rate_limit_windows")
            assert await found.fetchone() == (left,)
