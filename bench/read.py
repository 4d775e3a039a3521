"""Measures the dashboard's reads of ten million rows beside one million.

Run it with `python -m bench.read`; the last line is JSON. Two databases on one server hold the same
forty days of the same hundred organizations, one with ten times the traffic; a thousand rows in a
row are one sender's batch. The reads are the
service's own, as the tenant, and take turns. The value is the worst ratio of medians.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from bench.rig.measure import median, print_result
from bench.rig.server import LOGIN, a_database
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
LARGE: Final = 10_000_000
ORGANIZATIONS: Final = 100
ROUNDS: Final = 60
P95: Final = 0.95
MINE: Final = UUID("00000000-0000-4000-8000-000000000050")

ROWS: Final = """
insert into usage_analytics (
  timestamp, date, organization_id, api_key_id, endpoint, status_code, response_time_ms,
  widget_impression, origin, country_code
)
select t, (t at time zone 'UTC')::date,
  ('00000000-0000-4000-8000-' || lpad((1 + n / 1000 %% %(organizations)s)::text, 12, '0'))::uuid,
  ('00000000-0000-4000-9000-' || lpad((n %% 2)::text, 12, '0'))::uuid,
  '/api/aurora/' || (12 * power(random(), 3))::int,
  case when n %% 47 = 0 then 500 else 200 end,
  (exp(random() * 6) * 5)::int, n %% 3 = 0, 'https://' || n %% 2 || '.example',
  (array['NO', 'SE', 'DE', 'GB', 'US', 'FR'])[1 + (5 * power(random(), 3))::int]
from generate_series(1::bigint, %(rows)s) n,
  lateral (select now() - make_interval(secs => n * 3456000.0 / %(rows)s) as t) as moment
"""
DELTAS: Final = """
insert into usage_deltas (
  organization_id, hour, api_key_id, endpoint, widget_type, country_code, status_class, origin,
  requests, impressions, billable, cached, response_time_ms_sum, response_time_count,
  response_times
)
select organization_id, date_trunc('hour', timestamp, 'UTC'), api_key_id, endpoint, '',
  country_code, status_code / 100, origin,
  count(*), count(*) filter (where widget_impression), 0, 0,
  sum(response_time_ms), count(*), array_agg(app.latency_bucket(response_time_ms))
from usage_analytics group by 1, 2, 3, 4, 5, 6, 7, 8
"""

Read = Callable[[Connection], Awaitable[Any]]


def furnish(dsn: str, rows: int) -> float:
    """Fill a database; return how many events a second were folded."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("select app.ensure_usage_partitions(current_date - 45, current_date)")
        owner.execute(ROWS.replace("%(organizations)s", str(ORGANIZATIONS)).replace(
            "%(rows)s", str(rows)).replace("%%", "%").encode())  # fmt: skip
        owner.execute(DELTAS.encode())
        owner.execute("analyze")
        began = time.perf_counter()
        while True:
            row = owner.execute("select app.fold_usage(50000)").fetchone()
            if row is None or not row[0]:
                break
        took_s = time.perf_counter() - began
        owner.execute("vacuum (analyze)")
    return rows / took_s


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

    return {
        "days of a month": lambda conn: summary(conn, "day"),
        "endpoints of a month": lambda conn: summary(conn, "endpoint"),
        "origins of a month": lambda conn: summary(conn, "origin"),
        "hours of two days by status": lambda conn: series(
            conn, granularity="hour", dimension="status_class",
            first_day=now.date() - timedelta(days=1),
        ),
        "days of a month by country": lambda conn: series(conn, dimension="country"),
        "performance of a day": lambda conn: performance(conn, 1),
        "performance of a month": lambda conn: performance(conn, 30),
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
    with a_database(fsync="off", shared_buffers="1GB", jit="off", max_wal_size="8GB") as database:
        with psycopg.connect(database.owner, autocommit=True) as owner:
            owner.execute("create database large")
        large = make_conninfo(database.owner, dbname="large")
        asyncio.run(migrate(large))
        folded = {"1M": furnish(database.owner, SMALL), "10M": furnish(large, LARGE)}
        took = asyncio.run(
            measure({
                "1M": database.application, "10M": make_conninfo(large, user=LOGIN),
            })
        )  # fmt: skip
    ratios: dict[str, float] = {}
    details: dict[str, Any] = {"folded_events_per_s": {k: round(v) for k, v in folded.items()}}
    worst_p95 = 0.0
    for name, sides in took.items():
        ratios[name] = median(sides["10M"]) / median(sides["1M"])
        p95 = p95_of(sides["10M"])
        worst_p95 = max(worst_p95, p95)
        details[name] = {
            "1M_ms": round(median(sides["1M"]), 2),
            "10M_ms": round(median(sides["10M"]), 2),
            "10M_p95_ms": round(p95, 2),
        }
        print(f"{name}: {details[name]}")
    value = max(ratios.values())
    print_result(
        "read", value=value, unit="times as long for 10M rows as for 1M",
        goal=f"<= {GOAL} and p95 <= {GOAL_P95_MS:.0f} ms",
        met=value <= GOAL and worst_p95 <= GOAL_P95_MS,
        details={**details, "worst_p95_ms": worst_p95, "rounds": ROUNDS},
    )  # fmt: skip


if __name__ == "__main__":
    main()
