"""Plays processes that share a key in time that is not ours: exact, and the same every time.

The limiters are the real ones, each with its tasks and timers, on an event loop whose clock jumps
to whatever is due next; the windows are the real ones, in a real PostgreSQL whose `app.now()` shows
the loop's time. Only round trips are invented: each takes as long as chance says, within bounds.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg

from aurora.features.limits.budget import Asked, Unused
from aurora.features.limits.limiter import Limiter
from aurora.features.limits.model import Lease

TRIP_S: Final = (0.001, 0.010)
"""A round trip within one data centre, with its commit: the least and the most."""
_CLOCK: Final = """
create or replace function app.now() returns timestamptz language sql stable
as $$ select '2026-11-26 12:00:00Z'::timestamptz
  + make_interval(secs => current_setting('bench.now_s')::float8) $$"""
_LEASE: Final = """
select granted, life_ms, ends_at, key_time, remaining, reset_ms, retry_after_ms
from app.lease_requests(%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_GIVE_BACK: Final = (
    "select app.return_requests(%s::uuid[], %s::uuid[], %s::integer[], %s::timestamptz[])"
)


class _Selector(selectors.SelectSelector):
    """Waits for nothing: what would have been waited has passed."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let the time pass."""
        if timeout is None:
            raise RuntimeError("nothing is due, and nothing will ever be")
        self.passed_s += max(timeout, 0)
        return super().select(0)


class PlayedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while it works and jumps while it waits."""

    def __init__(self) -> None:
        self._waiting = _Selector()
        super().__init__(self._waiting)

    def time(self) -> float:
        """Return the seconds that were played."""
        return self._waiting.passed_s


class PlayedWindows:
    """PostgreSQL behind round trips that take time."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        self._connection, self._chance = connection, random.Random(seed)
        self.asked = 0

    async def lease(self, organization_id: UUID, key_id: UUID, asked: Asked) -> Lease:
        """Grant, in the middle of a round trip."""
        self.asked += 1
        rows = await self._trip(
            _LEASE,
            (
                organization_id, key_id, *asked.terms, asked.waiting, asked.wanted,
                asked.returned, asked.returned_end, asked.expected,
            ),
        )  # fmt: skip
        names = ("granted", "life_ms", "ends_at", "key_time", "remaining", "reset_ms")
        return Lease(**dict(zip((*names, "retry_after_ms"), rows[0], strict=True)))

    async def give_back(self, unused: Sequence[Unused]) -> None:
        """Take back, in the middle of a round trip."""
        columns = zip(*unused, strict=True)
        organizations, keys, counts, ends = (list(each) for each in columns)
        await self._trip(_GIVE_BACK, (organizations, keys, counts, ends))

    async def _trip(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        half_s = self._chance.uniform(*TRIP_S) / 2
        await asyncio.sleep(half_s)
        now_s = str(asyncio.get_running_loop().time())
        self._connection.execute("select set_config('bench.now_s', %s, false)", (now_s,))
        rows = self._connection.execute(statement.encode(), parameters).fetchall()
        await asyncio.sleep(half_s)
        return rows


@dataclass(frozen=True, slots=True)
class _Key:
    id: UUID
    organization_id: UUID
    rate_limit_per_hour: int
    burst_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """The moments, in order, of all that came and of what passed; how many leases that took."""

    came: list[float]
    passed: list[float]
    leases: int


def play(
    dsn: str, *, per_hour: int, rates_per_s: Sequence[float], hours: float, seed: int = 0
) -> Played:
    """Let processes send requests of one key at random, each at its rate, for so many hours.

    Args:
        dsn: Of the owner of a database that nobody else uses: its clock is replaced.
        per_hour: The key's limit.
        rates_per_s: One for each process.
        hours: Of played time.
        seed: Of what is random.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_CLOCK)
        connection.execute("set synchronous_commit = off")
        windows = PlayedWindows(connection, seed)
        came: list[float] = []
        passed: list[float] = []
        with asyncio.Runner(loop_factory=PlayedLoop) as runner:
            runner.run(_play(windows, per_hour, rates_per_s, hours * 3_600, seed, came, passed))
    return Played(sorted(came), sorted(passed), windows.asked)


async def _play(
    windows: PlayedWindows, per_hour: int, rates_per_s: Sequence[float], until_s: float, seed: int,
    came: list[float], passed: list[float],
) -> None:  # fmt: skip
    loop = asyncio.get_running_loop()
    key = _Key(uuid4(), uuid4(), per_hour)

    async def one(limiter: Limiter) -> None:
        if (await limiter.lease(key)).code == "VALID":
            passed.append(loop.time())

    async def process(rate_per_s: float, number: int) -> None:
        chance = random.Random(f"{seed}-{number}")
        limiter = Limiter(windows, clock=loop.time)
        async with asyncio.TaskGroup() as waiting:
            while loop.time() < until_s:
                await asyncio.sleep(chance.expovariate(rate_per_s))
                came.append(loop.time())
                taken = limiter.take(key)
                if taken is None:
                    waiting.create_task(one(limiter))
                elif taken.code == "VALID":
                    passed.append(loop.time())
        await limiter.close()

    async with asyncio.TaskGroup() as processes:
        for number, rate_per_s in enumerate(rates_per_s):
            processes.create_task(process(rate_per_s, number))
