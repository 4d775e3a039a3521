"""Measures what the limiter lets pass too much and too little, and what one request costs in it.

Run it with `python -m bench.limits`; the last line is JSON. Four processes hammer one key, the
first as much as the others together, with half more than the limit. First in time as it is, within
one hour; then in time that runs thirty times faster, so that more than an hour passes and what left
it comes again (a round trip then weighs thirty times more). The value is by how many per cent less
passed in the second than an exact log of every request would have let pass; what passed too much
must be nothing. A share for each process and a fixed window are told beside it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
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
SPEED: Final = 30.0
SECONDS: Final = 130.0
NOW_LIMIT: Final = 2_000
NOW_SECONDS: Final = 20.0
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


def main(seconds: float) -> None:
    """Measure and print."""
    with a_database() as database, tempfile.TemporaryDirectory() as name:
        took = asyncio.run(taking(database))
        lease_ms = asyncio.run(leasing(database))
        now = hammered(
            database,
            Path(name),
            limit=NOW_LIMIT,
            demand_per_s=DEMAND * NOW_LIMIT / NOW_SECONDS,
            seconds=NOW_SECONDS,
            speed=1.0,
        )
        now_came, now_passed = len(moments(now, "came")), len(moments(now, "passed"))
        make_time_pass(database.owner, SPEED)
        outputs = hammered(
            database,
            Path(name),
            limit=LIMIT,
            demand_per_s=DEMAND * LIMIT * SPEED / WINDOW_S,
            seconds=seconds,
            speed=SPEED,
        )
        came, passed = moments(outputs, "came"), moments(outputs, "passed")
        each = [moments([output], "came") for output in outputs]
        with psycopg.connect(database.owner) as owner:
            row = owner.execute("select pg_table_size('rate_limit_windows')").fetchone()
    best = ideal(came, LIMIT, WINDOW_S)
    over = max(worst(passed, WINDOW_S) - LIMIT, now_passed - NOW_LIMIT, 0)
    under = 100 * (1 - len(passed) / best)
    split = sum(ideal(times, LIMIT // len(SHARES), WINDOW_S) for times in each)
    print_result(
        "limits",
        value=under,
        unit="% under an exact log",
        goal=f"<= {GOAL_UNDER} % under, 0 over, <= {GOAL_TAKE_US} µs a decision",
        met=under <= GOAL_UNDER and over == 0 and took["decide_and_take_us"] <= GOAL_TAKE_US,
        details={
            "over": over,
            "under_percent": under,
            "under_percent_within_an_hour": 100 * (1 - now_passed / min(now_came, NOW_LIMIT)),
            "came": len(came),
            "passed": len(passed),
            "exact_log": best,
            "hours": (came[-1] - came[0]) / WINDOW_S,
            "share_for_each_under_percent": 100 * (1 - split / best),
            "fixed_window_over_percent": 100 * (worst(by_fixed_window(came), WINDOW_S) / LIMIT - 1),
            **took,
            "lease_of_a_new_key_ms": lease_ms,
            "table_bytes": row[0] if row else None,
        },
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
