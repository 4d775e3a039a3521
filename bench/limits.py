"""Measures what the limiter lets pass too much and too little, and what one request costs in it.

Run it with `python -m bench.limits`; the last line is JSON. Four processes hammer one key, the
first as much as the others together, and with half more than the limit. Time runs sixty times
faster, so that two and a half hours fit in as many minutes; a round trip then weighs sixty times
more. The value is by how many per cent less passed than an exact log of every request would have
let pass; what passed too much must be nothing. A share for each process and a fixed window are told
beside it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import psycopg
from bench.rig.hammer import Task, ideal, make_time_pass, moments, start, worst
from bench.rig.measure import median, print_result
from bench.rig.server import Bench, a_database

from aurora.db.pool import open_pool
from aurora.features.limits.limiter import steady_s
from aurora.features.limits.model import WINDOW_S
from aurora.features.limits.taking import Limits

LIMIT: Final = 10_000
SHARES: Final = (0.5, 0.2, 0.2, 0.1)
DEMAND: Final = 1.5
SPEED: Final = 60.0
SECONDS: Final = 150.0
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


def hammered(database: Bench, folder: Path, seconds: float) -> list[str]:
    """Let four processes hammer one key; return where they wrote what came and passed."""
    organization, key = str(uuid4()), str(uuid4())
    began_s = steady_s()
    outputs = [str(folder / str(number)) for number in range(len(SHARES))]
    running = [
        start(
            Task(
                dsn=database.application,
                organization_id=organization,
                key_id=key,
                rate_limit_per_hour=LIMIT,
                rate_per_s=share * DEMAND * LIMIT * SPEED / WINDOW_S,
                seconds=seconds,
                began_s=began_s,
                speed=SPEED,
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


async def taking(database: Bench) -> tuple[float, float]:
    """Return the median microseconds of a request on a warm key, quota included, wall and CPU."""
    pool = await open_pool(database.application, name="limits")
    limits = Limits(pool)
    key = _Key(uuid4(), uuid4())
    walls, cpus = [], []
    for _ in range(ROUNDS):
        wall_s = cpu_s = 0.0
        taken = 0
        while taken < TAKES:
            await limits.lease(key)
            before = (time.perf_counter(), time.process_time())
            for _ in range(1_000):
                if limits.take(key) is None:
                    break
                taken += 1
            wall_s += time.perf_counter() - before[0]
            cpu_s += time.process_time() - before[1]
        walls.append(1e6 * wall_s / taken)
        cpus.append(1e6 * cpu_s / taken)
    await limits.close()
    await pool.close()
    return median(walls), median(cpus)


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
        take_us, take_cpu_us = asyncio.run(taking(database))
        lease_ms = asyncio.run(leasing(database))
        make_time_pass(database.owner, SPEED)
        outputs = hammered(database, Path(name), seconds)
        came, passed = moments(outputs, "came"), moments(outputs, "passed")
        each = [moments([output], "came") for output in outputs]
        with psycopg.connect(database.owner) as owner:
            row = owner.execute("select pg_table_size('rate_limit_windows')").fetchone()
    best = ideal(came, LIMIT, WINDOW_S)
    over = max(worst(passed, WINDOW_S) - LIMIT, 0)
    under = 100 * (1 - len(passed) / best)
    split = sum(ideal(times, LIMIT // len(SHARES), WINDOW_S) for times in each)
    print_result(
        "limits",
        value=under,
        unit="% under an exact log",
        goal=f"<= {GOAL_UNDER} % under, 0 over, <= {GOAL_TAKE_US} µs a request",
        met=under <= GOAL_UNDER and over == 0 and take_us <= GOAL_TAKE_US,
        details={
            "over": over,
            "under_percent": under,
            "came": len(came),
            "passed": len(passed),
            "exact_log": best,
            "hours": (came[-1] - came[0]) / WINDOW_S,
            "share_for_each_under_percent": 100 * (1 - split / best),
            "fixed_window_over_percent": 100 * (worst(by_fixed_window(came), WINDOW_S) / LIMIT - 1),
            "take_us": take_us,
            "take_cpu_us": take_cpu_us,
            "lease_of_a_new_key_ms": lease_ms,
            "table_bytes": row[0] if row else None,
        },
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
