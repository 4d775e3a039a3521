"""What rollups can answer touches no raw row, and no more of the rollups than was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.builders import an_event, moment
from tests.features.usage.test_recording import Hotel, a_hotel, record

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import Connection, tenant, transaction
from aurora.features.usage import reading, store
from aurora.features.usage.covering import cover
from aurora.features.usage.jobs import fold
from aurora.features.usage.service import summarise

DAYS = 40
# As a newcomer would join the ranges: one condition, which no index finds.
BY_CASE = """
with times as (
  select endpoint, bucket, count from usage_latency_rows
  where organization_id = %(organization_id)s::uuid
    and case when span = 'day' then starts_at >= %(days_from)s and starts_at < %(days_to)s
      else starts_at >= %(starts_at)s and starts_at < %(ends_at)s end
)
select * from times limit %(limit)s
"""


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


async def read_everything(conn: Connection, hotel: Hotel) -> list[int]:
    """Read every figure of today that a dashboard shows; return how many requests each names."""
    today = clock.now().date()
    found: list[int] = []
    for group_by in ("day", "month", "endpoint", "api_key", "country", "origin"):
        _, _, rows = await summarise(
            conn, hotel.id, group_by=group_by, first_day=today, last_day=today
        )
        found.append(sum(row.requests for row in rows))
    for granularity in ("hour", "day", "month"):
        asked = reading.SeriesAsked(granularity=granularity, dimension="endpoint")
        page = await reading.list_series(conn, hotel.id, asked, cursor=None, limit=100)
        found.append(sum(point.requests for point in page.items))
    _, _, endpoints = await reading.measure_performance(
        conn, hotel.id, starts_at=None, ends_at=None
    )
    found.append(sum(each.requests for each in endpoints))
    _, _, origins = await reading.list_origins(
        conn, hotel.id, first_day=None, last_day=None, order_by="requests", limit=9
    )
    found.append(sum(each.requests for each in origins))
    return found


@pytest.mark.parametrize("is_folded", [False, True])
async def test_figures_are_read_without_a_right_to_raw_rows(
    is_folded: bool, pool: Pool, database: str, hotel: Hotel
) -> None:
    now = moment(clock.now())
    await record(pool, hotel.sender, *[an_event(timestamp=now, origin="https://a.example")] * 1)
    await record(pool, hotel.sender, an_event(timestamp=now, endpoint="/b"))
    if is_folded:
        await fold(pool)
    with psycopg.connect(database) as owner:
        owner.execute("revoke select on usage_analytics from tenant")
    async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
        assert await read_everything(conn, hotel) == [2] * 11
    # What is explained by raw rows is not: so it would have been seen.
    asked = reading.FigureAsked(day=clock.now().date())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
            await reading.explain_figure(conn, hotel.id, asked, cursor=None, limit=1)


@pytest.fixture
def long_kept(database: str, hotel: Hotel) -> int:
    """Hours and days of forty days; return how many rows of response times there are."""
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            "insert into usage_latencies"
            " select %s, span, t, '/' || n, '{1,2}', '{1,1}'"
            " from (values ('hour'), ('day')) s (span), generate_series(1, 3) n,"
            " generate_series(date_trunc('day', now(), 'UTC') - make_interval(days => %s),"
            " now(), ('1 ' || span)::interval) t",
            (hotel.id, DAYS),
        )
        # Without a request no percentile is looked for.
        for table, column in (("usage_hourly", "hour"), ("usage_daily", "date")):
            statement = (
                f"insert into {table} (organization_id, dimension, {column}, value, requests,"
                " impressions, billable, successful, failed, cached, response_time_ms_sum,"
                " response_time_count)"
                " select organization_id, 'endpoint', starts_at, endpoint, 2, 0, 0, 2, 0, 0, 2, 2"
                " from usage_latencies where span = %s"
            )
            owner.execute(statement.encode(), ("hour" if column == "hour" else "day",))
        owner.execute("analyze usage_latencies, usage_hourly, usage_daily")
        row = owner.execute("select count(*) from usage_latencies").fetchone()
    assert row
    return int(row[0])


def scanned(plan: dict[str, Any]) -> Iterator[int]:
    """Yield how many rows of usage_latencies each part of a plan has looked at."""
    if plan.get("Relation Name") == "usage_latencies":
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        yield round(looked_at * plan["Actual Loops"])
    for part in plan.get("Plans", ()):
        yield from scanned(part)


async def looked_at(pool: Pool, hotel: Hotel, query: str, days: int) -> int:
    ends = datetime.combine(clock.now().date(), datetime.min.time(), UTC) - timedelta(hours=4)
    starts = ends - timedelta(days=days)
    spans = cover(starts, ends, clock.now())._asdict()
    asked = {
        "organization_id": hotel.id, "starts_at": starts, "ends_at": ends, "limit": 10_000, **spans,
    }  # fmt: skip
    async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
        explained = "explain (analyze, format json) " + query
        row = await (await conn.execute(explained.encode(), asked)).fetchone()
    assert row
    plans = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return sum(scanned(plans[0]["Plan"]))


async def test_a_short_time_is_read_as_quickly_after_years(
    pool: Pool, hotel: Hotel, long_kept: int
) -> None:
    query = store.QUERIES["list_usage_performance"].text
    # From 20:00 to 20:00: four hours of the one day, and the other without its last four.
    assert await looked_at(pool, hotel, query, days=1) == (4 + 1 + 4) * 3
    assert await looked_at(pool, hotel, query, days=10) == (4 + 10 + 4) * 3
    assert await looked_at(pool, hotel, BY_CASE, days=1) == long_kept
