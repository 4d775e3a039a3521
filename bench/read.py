"""Measures the dashboard's reads where there are many rows beside where there are few.

Run it with `python -m bench.read [--small N] [--large N]`; the last line is JSON. Two databases on
one server hold the same forty days of the same organizations, one with more traffic: raw rows,
their ids, and rollups that are folded. The reads are the service's own, as the tenant, and take
turns. The value is the worst ratio of medians. `--large 10000000` takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import psycopg
from bench.rig.measure import median, print_result
from bench.rig.server import LOGIN, a_database
from bench.rig.traffic import fill_usage, organization_numbered
from psycopg.conninfo import make_conninfo

from aurora.core import clock
from aurora.db.migrator import migrate
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import Connection, tenant, transaction
from aurora.features.usage import reading
from aurora.features.usage.service import summarise

GOAL: Final = 1.2
GOAL_P95_MS: Final = 50.0
SMALL: Final = 1_000_000
LARGE: Final = 4_000_000
MAX_ROWS: Final = 50_000_000
ORGANIZATIONS: Final = 20
ROUNDS: Final = 60
P95: Final = 0.95
MINE: Final = organization_numbered(10)

Read = Callable[[Connection], Awaitable[Any]]


def reads() -> dict[str, Read]:
    """Return what a dashboard asks."""
    now = clock.now()
    month = now.date() - timedelta(days=29)

    async def summary(conn: Connection, group_by: Any) -> Any:
        return await summarise(conn, MINE, group_by=group_by, first_day=month, last_day=None)

    async def series(conn: Connection, **asked: Any) -> Any:
        return await reading.list_series(
            conn, MINE, reading.SeriesAsked(**asked), cursor=None, limit=5_000
        )

    async def performance(conn: Connection, days: int) -> Any:
        return await reading.measure_performance(
            conn, MINE, starts_at=now - timedelta(days=days), ends_at=None
        )

    async def origins(conn: Connection) -> Any:
        return await reading.list_origins(
            conn, MINE, first_day=month, last_day=None, order_by="impressions", limit=20
        )

    async def behind(conn: Connection, **asked: Any) -> Any:
        figure = reading.FigureAsked(day=now.date() - timedelta(days=3), **asked)
        return await reading.explain_figure(conn, MINE, figure, cursor=None, limit=50)

    return {
        "days of a month": lambda conn: summary(conn, "day"),
        "endpoints of a month": lambda conn: summary(conn, "endpoint"),
        "origins of a month": lambda conn: summary(conn, "origin"),
        "largest origins of a month": origins,
        "hours of two days by status": lambda conn: series(
            conn, granularity="hour", dimension="status_class",
            first_day=now.date() - timedelta(days=1),
        ),
        "days of a month by country": lambda conn: series(conn, dimension="country"),
        "performance of a day": lambda conn: performance(conn, 1),
        "performance of a month": lambda conn: performance(conn, 30),
        "first events behind a day": behind,
    }  # fmt: skip


async def timed(pool: Pool, read: Read) -> float:
    """Return how long a read takes, its transaction included, in milliseconds."""
    began = time.perf_counter()
    async with transaction(pool, tenant(MINE), read_only=True) as conn:
        await read(conn)
    return (time.perf_counter() - began) * 1000


async def measure(dsns: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Return every time of each read, in turn over both databases."""
    pools = {name: await open_pool(dsn, name=name) for name, dsn in dsns.items()}
    took: dict[str, dict[str, list[float]]] = {}
    for turn in range(ROUNDS + 5):
        for name, read in reads().items():
            for size, pool in pools.items():
                ms = await timed(pool, read)
                if turn >= 5:
                    took.setdefault(name, {}).setdefault(size, []).append(ms)
    for pool in pools.values():
        await pool.close()
    return took


def p95_of(times: list[float]) -> float:
    """Return the time that 95 of 100 reads do not pass."""
    return sorted(times)[int(len(times) * P95)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--small", type=int, default=SMALL)
    parser.add_argument("--large", type=int, default=LARGE)
    asked = parser.parse_args()
    if not 1 <= asked.small <= asked.large <= MAX_ROWS:
        parser.error(f"1 <= small <= large <= {MAX_ROWS:,}")
    settings = {"fsync": "off", "shared_buffers": "1GB", "jit": "off", "max_wal_size": "8GB"}
    with a_database(**settings) as database:
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute("create database large")
        large = make_conninfo(database.owner, dbname="large")
        asyncio.run(migrate(large))
        filled_s = {}
        for name, dsn, rows in (
            ("small", database.owner, asked.small), ("large", large, asked.large),
        ):  # fmt: skip
            filled_s[name] = fill_usage(dsn, rows, organizations=ORGANIZATIONS)
            print(f"{name}: {rows:,} rows filled in {filled_s[name]}", flush=True)
        took = asyncio.run(
            measure({
                "small": database.application, "large": make_conninfo(large, user=LOGIN),
            })
        )  # fmt: skip
    ratios: dict[str, float] = {}
    details: dict[str, Any] = {"small_rows": asked.small, "large_rows": asked.large}
    worst_p95 = 0.0
    for name, sides in took.items():
        ratios[name] = median(sides["large"]) / median(sides["small"])
        p95 = p95_of(sides["large"])
        worst_p95 = max(worst_p95, p95)
        details[name] = {
            "small_ms": round(median(sides["small"]), 2),
            "large_ms": round(median(sides["large"]), 2),
            "large_p95_ms": round(p95, 2),
            "ratio": round(ratios[name], 2),
        }
        print(f"{name}: {details[name]}")
    value = max(ratios.values())
    print_result(
        "read", value=value,
        unit=f"times as long for {asked.large:,} rows as for {asked.small:,}",
        goal=f"<= {GOAL} and p95 <= {GOAL_P95_MS:.0f} ms",
        met=value <= GOAL and worst_p95 <= GOAL_P95_MS,
        details={**details, "worst_p95_ms": worst_p95, "rounds": ROUNDS, "filled_s": filled_s},
    )  # fmt: skip


if __name__ == "__main__":
    main()
