"""Measures what the limiter lets pass too much and too little, and what one request costs in it.

Run it with `python -m bench.limits`; the last line is JSON. Four processes send requests of one
key, the first as many as the others together, half more than the limit, for more than an hour, so
that what left the hour comes again. Three times:

- played: the real limiters on a clock that jumps, the real windows in PostgreSQL, and round trips
  of 1 to 10 ms by chance (`bench.rig.played`): what the rule itself costs, alike at every run;
- hurried: processes of their own, in time that runs 36 times faster, where each round trip weighs
  as much more;
- now: such processes in time as it is; within an hour, or with `--hours 1.2` for so long.

The value is by how many per cent less passed than an exact log of every request would have let
pass: now where that is over an hour, played otherwise. What passed too much must be nothing in any
of them. A share for each process and a fixed window are told beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import psycopg
from bench.rig.hammer import Task, ideal, make_time_pass, moments, start, worst
from bench.rig.measure import median, print_result
from bench.rig.played import play
from bench.rig.server import Bench, a_database

from aurora.core.ratelimits import WINDOW_S
from aurora.db.pool import open_pool
from aurora.features.gate.model import VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.limits.limiter import steady_s
from aurora.features.limits.taking import Limits

LIMIT: Final = 10_000
SHARES: Final = (0.5, 0.2, 0.2, 0.1)
DEMAND: Final = 1.5
SPEED: Final = 36.0
SECONDS: Final = 108.0
PLAYED_HOURS: Final = 1.5
NOW_LIMIT: Final = 2_000
NOW_SECONDS: Final = 10.0
GOAL_UNDER: Final = 1.0
GOAL_TAKE_US: Final = 10.0
TAKES: Final = 20_000
ROUNDS: Final = 15


@dataclass(frozen=True, slots=True)
class _Key:
    id: UUID
    organization_id: UUID
    rate_limit_per_hour: int = 1_000_000_000
    burst_per_second: int | None = None
    kind: str = "secret"
    environment: str = "production"


def hammered(
    database: Bench, folder: Path, *, limit: int, demand_per_s: float, seconds: float, speed: float
) -> list[str]:
    """Let four processes hammer one key; return where they wrote what came and passed."""
    organization, key = str(uuid4()), str(uuid4())
    began_s = steady_s()
    outputs = [str(folder / f"{speed}-{number}") for number in range(len(SHARES))]
    running = [
        start(
            Task(
                dsn=database.application,
                organization_id=organization,
                key_id=key,
                rate_limit_per_hour=limit,
                rate_per_s=share * demand_per_s,
                seconds=seconds,
                began_s=began_s,
                speed=speed,
                output=output,
                seed=number,
            )
        )
        for number, (share, output) in enumerate(zip(SHARES, outputs, strict=True))
    ]
    for process in running:
        if process.wait():
            raise SystemExit("a process failed")
    return outputs


def by_fixed_window(times: Sequence[float]) -> list[float]:
    """Return what a counter of every full hour lets pass."""
    passed: list[float] = []
    counts: dict[int, int] = {}
    for at in times:
        hour = int(at // WINDOW_S)
        counts[hour] = counts.get(hour, 0) + 1
        if counts[hour] <= LIMIT:
            passed.append(at)
    return passed


def a_key(owner_dsn: str) -> str:
    """Make an organization with a key that nothing slows down, and return the key."""
    organization = uuid4()
    with psycopg.connect(owner_dsn) as owner:
        row = owner.execute("select generate_api_key()").fetchone()
        assert row is not None
        owner.execute(
            "insert into organizations (id, name, slug, email)"
            " values (%s, 'A', 'a', 'a@a.example')",
            (organization,),
        )
        owner.execute(
            "insert into api_keys (organization_id, key, name, rate_limit_per_hour)"
            " values (%s, %s, 'A', 1000000000)",
            (organization, row[0]),
        )
        return str(row[0])


async def timed(
    at_once: Callable[[], object], ready: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    """Return the median microseconds, wall and CPU, of what answers at once when it is ready."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        wall_s, cpu_s, done = 0.0, 0.0, 0
        while done < TAKES:
            await ready()
            before = (time.perf_counter(), time.process_time())
            for _ in range(1_000):
                if at_once() is None:
                    break
                done += 1
            wall_s += time.perf_counter() - before[0]
            cpu_s += time.process_time() - before[1]
        walls.append(1e6 * wall_s / done)
        cpus.append(1e6 * cpu_s / done)
    return median(walls), median(cpus)


async def taking(database: Bench) -> dict[str, float]:
    """Return median microseconds of a warm key: limit and quota, with the decision, and CPU."""
    pool = await open_pool(database.application, name="limits")
    limits = Limits(pool)
    gate = Gate(pool, limiter=limits)
    gate.start(database.application)
    asked = VerifyRequest(key=a_key(database.owner), scope="aurora:read")
    record = _Key(uuid4(), uuid4())
    verdict = await gate.verify(asked)
    if verdict.code != "VALID":
        raise SystemExit(f"the key is {verdict.code}")
    take = await timed(lambda: limits.take(record), lambda: limits.lease(record))
    decide = await timed(lambda: gate.verify_at_once(asked), lambda: gate.verify(asked))
    await gate.stop()
    await limits.close()
    await pool.close()
    return {
        "take_us": take[0],
        "take_cpu_us": take[1],
        "decide_and_take_us": decide[0],
        "decide_and_take_cpu_us": decide[1],
    }


async def leasing(database: Bench, how_many: int = 300) -> float:
    """Return the median milliseconds of a request that asks PostgreSQL: keys never seen."""
    pool = await open_pool(database.application, name="limits")
    limits = Limits(pool)
    took = []
    for _ in range(how_many):
        key = _Key(uuid4(), uuid4(), environment="test")
        before = time.perf_counter()
        await limits.lease(key)
        took.append(1e3 * (time.perf_counter() - before))
    await limits.close()
    await pool.close()
    return statistics.median(took)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came and what passed, in seconds since it began, under a limit.

    Attributes:
        came: All requests, in order.
        passed: Those that passed, in order.
        limit: In any rolling hour.
        each: What came to each process.
    """

    came: Sequence[float]
    passed: Sequence[float]
    limit: int = LIMIT
    each: Sequence[Sequence[float]] = ()

    @property
    def over(self) -> int:
        """How many more than the limit passed in any rolling hour."""
        return max(worst(self.passed, WINDOW_S) - self.limit, 0)

    @property
    def under_percent(self) -> float:
        """By how many per cent less passed than an exact log would have let pass."""
        return 100 * (1 - len(self.passed) / ideal(self.came, self.limit, WINDOW_S))

    @property
    def with_shares(self) -> int:
        """How many pass where each process has an equal share of the limit."""
        share = self.limit // len(SHARES)
        return sum(ideal(came, share, WINDOW_S) for came in self.each)

    def told(self, name: str) -> dict[str, float]:
        """Return its figures under this name."""
        return {
            f"{name}_hours": (self.came[-1] - self.came[0]) / WINDOW_S,
            f"{name}_came": len(self.came),
            f"{name}_passed": len(self.passed),
            f"{name}_exact_log": ideal(self.came, self.limit, WINDOW_S),
            f"{name}_under_percent": self.under_percent,
            f"{name}_over": self.over,
        }


def of_processes(database: Bench, folder: Path, *, seconds: float, speed: float) -> Outcome:
    """Let processes hammer a key of LIMIT for so many of our seconds."""
    per_s = DEMAND * LIMIT * speed / WINDOW_S
    outputs = hammered(
        database, folder, limit=LIMIT, demand_per_s=per_s, seconds=seconds, speed=speed
    )
    each = [moments([output], "came") for output in outputs]
    return Outcome(moments(outputs, "came"), moments(outputs, "passed"), each=each)


def within_an_hour(database: Bench, folder: Path) -> Outcome:
    """Let processes hammer a smaller limit as fast as they get through it within seconds."""
    per_s = DEMAND * NOW_LIMIT / NOW_SECONDS
    outputs = hammered(
        database, folder, limit=NOW_LIMIT, demand_per_s=per_s, seconds=NOW_SECONDS, speed=1.0
    )
    return Outcome(moments(outputs, "came"), moments(outputs, "passed"), NOW_LIMIT)


def played() -> tuple[Outcome, int]:
    """Return what became of played hours, and how many leases were asked for."""
    with a_database() as database:
        rates = [share * DEMAND * LIMIT / WINDOW_S for share in SHARES]
        found = play(database.owner, per_hour=LIMIT, rates_per_s=rates, hours=PLAYED_HOURS)
    return Outcome(found.came, found.passed), found.leases


def main(hours: float | None) -> None:
    """Measure and print."""
    slowly, leases = played()
    with a_database() as database, tempfile.TemporaryDirectory() as name:
        took = asyncio.run(taking(database))
        lease_ms = asyncio.run(leasing(database))
        if hours is None:
            now = within_an_hour(database, Path(name))
        else:
            now = of_processes(database, Path(name), seconds=hours * WINDOW_S, speed=1.0)
        make_time_pass(database.owner, SPEED)
        hurried = of_processes(database, Path(name), seconds=SECONDS, speed=SPEED)
        with psycopg.connect(database.owner) as owner:
            row = owner.execute("select pg_table_size('rate_limit_windows')").fetchone()
    over = max(slowly.over, hurried.over, now.over)
    under = (slowly if hours is None else now).under_percent
    came, best = hurried.came, ideal(hurried.came, LIMIT, WINDOW_S)
    print_result(
        "limits",
        value=under,
        unit="% under an exact log",
        goal=f"<= {GOAL_UNDER} % under, 0 over, <= {GOAL_TAKE_US} µs a decision",
        met=under <= GOAL_UNDER and over == 0 and took["decide_and_take_us"] <= GOAL_TAKE_US,
        details={
            "over": over,
            **slowly.told("played"),
            "played_leases": leases,
            **hurried.told("hurried"),
            **now.told("now"),
            "share_for_each_under_percent": 100 * (1 - hurried.with_shares / best),
            "fixed_window_over_percent": 100 * (worst(by_fixed_window(came), WINDOW_S) / LIMIT - 1),
            **took,
            "lease_of_a_new_key_ms": lease_ms,
            "table_bytes": row[0] if row else None,
        },
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--hours", type=float, help="of our time, for the real processes")
    main(options.parse_args().hours)
