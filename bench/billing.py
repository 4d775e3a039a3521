"""Measures the billing run: invoices a second, what a kill costs, and whether events cost anything.

Run it with `python -m bench.billing`; the last line is JSON. Two runners of their own processes
bill everything that is due, without PDF; the value is how many invoices a second are numbered and
committed, durably. What PostgreSQL commits at all with as many empty transactions stands beside it.

Then the same with a kill -9 of a runner every fraction of a second, over months of billing, at a
reduced size; afterwards an arithmetic of its own, in Decimal, says what should have been billed.
The full size is `--subscriptions 10000 --months 12`. Last, the cost of a bill over ten times as
many events.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
from bench.rig.measure import median, print_result
from bench.rig.server import Bench, a_database

from aurora.db.pool import open_pool
from aurora.features.invoices.billing_run import run_billing
from aurora.integrations import jobs

GOAL: Final = 300
GOAL_EVENTS: Final = 1.1
ROUNDS: Final = 3
RATE_SUBSCRIPTIONS: Final = 1_500
FEE: Final = Decimal(3500)
INCLUDED: Final = 50_000
BLOCK: Final = Decimal(50)
VAT: Final = Decimal("1.25")
OSLO: Final = ZoneInfo("Europe/Oslo")
SOLD: Final = """
with made as (
  insert into organizations (name, slug, email, address, postal_code, city, status)
  select 'Hotel ' || n, 'h-' || %(from)s + n, 'post@hotel.example', 'Gata 1', '9008', 'Tromsø',
    'active'
  from generate_series(1, %(count)s) n returning id
)
insert into subscriptions (
  organization_id, plan_id, plan_name, price_monthly, included_impressions, overage_rate,
  current_period_start, current_period_end
)
select id, 'basic', 'Basic Plan', 3500, 50000, 50,
  %(anchor)s::date::timestamp at time zone 'Europe/Oslo',
  (%(anchor)s::date + interval '1 month') at time zone 'Europe/Oslo'
from made
"""
# Each organization has used something of its own in each month: a known number of impressions.
USED: Final = """
insert into usage_hourly (organization_id, dimension, hour, value, requests, impressions, billable,
  successful, failed, cached, response_time_ms_sum, response_time_count)
select s.organization_id, 'total', m + interval '10 days', '', u.used, u.used, u.used, u.used,
  0, 0, 0, 0
from (select *, row_number() over (order by id) as n from subscriptions) s,
  generate_series(0, %(months)s - 1) k,
  lateral (select (s.billing_anchor + make_interval(months => k)) at time zone 'UTC' as m) at,
  lateral (select ((s.n * 7919 + k * 104729) %% 120000)::bigint as used) u
"""


def today() -> date:
    """Return the day in the seller's zone."""
    return datetime.now(OSLO).date()


def months_before(day: date, months: int) -> date:
    """Return a day so many months before, on the first of the month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, 1)


async def bill(dsn: str) -> None:
    """Bill what is due, as one runner does."""
    pool = await open_pool(dsn, max_size=1, name="bench-billing")
    try:
        await run_billing(pool, as_of=today())
    finally:
        await pool.close()


def runner(dsn: str) -> subprocess.Popen[bytes]:
    """Start a runner in a process of its own, in a group of its own."""
    command = (sys.executable, "-m", "bench.billing", "--runner")
    return subprocess.Popen(
        command, env={**os.environ, "BENCH_DSN": dsn}, start_new_session=True,
    )  # fmt: skip


def one(owner: psycopg.Connection[Any], query: str, *values: object) -> Any:
    """Return the only column of the only row."""
    row = owner.execute(query.encode(), values or None).fetchone()
    return None if row is None else row[0]


def rate(database: Bench, owner: psycopg.Connection[Any], count: int, place: int) -> float:
    """Sell to `count` organizations and bill them with two runners; return invoices a second."""
    values = {"from": place, "count": count, "anchor": today()}
    owner.execute(SOLD.encode(), values)
    owner.execute("analyze subscriptions")
    before = one(owner, "select count(*) from invoices")
    owner.execute("create table if not exists gate (open boolean)")
    both = [runner(database.application) for _ in range(2)]
    # Programs take a second to start, which is not what is measured: it begins with the first bill.
    began = 0.0
    while any(each.poll() is None for each in both):
        if not began and one(owner, "select count(*) from invoices") > before:
            began = time.perf_counter()
            first = one(owner, "select count(*) from invoices")
        time.sleep(0.01 if not began else 0.1)
        if began and one(owner, "select count(*) from invoices") >= before + count:
            break
    ended = time.perf_counter()
    for each in both:
        each.wait()
    billed: int = before + count - first
    return billed / (ended - began)


def commits(database: Bench, owner: psycopg.Connection[Any], seconds: float = 3.0) -> float:
    """Return how many one-row transactions a second two connections commit: the physical limit."""
    owner.execute("create table if not exists pulse (n integer); grant insert on pulse to public")

    async def one_of_two(until: float) -> int:
        async with await psycopg.AsyncConnection.connect(
            database.application, autocommit=True
        ) as conn:
            done = 0
            while time.perf_counter() < until:
                await conn.execute("insert into pulse values (1)")
                done += 1
            return done

    async def both() -> int:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(one_of_two(until), one_of_two(until)))

    return asyncio.run(both()) / seconds


def with_kills(database: Bench, owner: psycopg.Connection[Any], kills: int) -> dict[str, Any]:
    """Bill months with runners that are killed at random moments; return what the books say."""
    chance = random.Random(7)
    killed = 0
    began = time.perf_counter()
    running = [runner(database.application) for _ in range(2)]
    while killed < kills:
        time.sleep(chance.uniform(0.9, 1.6))
        victim = chance.randrange(2)
        if running[victim].poll() is None:
            os.killpg(running[victim].pid, signal.SIGKILL)
            running[victim].wait()
            killed += 1
        elif all(each.poll() is not None for each in running):
            # Everything was billed before as many kills: told as it is.
            break
        running[victim] = runner(database.application)
    for each in running:
        each.wait()
    asyncio.run(bill(database.application))
    return {"kills": killed, "kill_s": time.perf_counter() - began, **books(owner)}


def books(owner: psycopg.Connection[Any]) -> dict[str, Any]:
    """Compare what was billed with an arithmetic of its own: duplicates, gaps, and the sum."""
    numbers = [
        int(row[0].rsplit("-", 1)[1])
        for row in owner.execute("select invoice_number from invoices order by invoice_number")
    ]
    gaps = len(set(range(1, len(numbers) + 1)) - set(numbers))
    moments = Counter(owner.execute("select subscription_id, billed_at from invoices").fetchall())
    expected = Decimal(0)
    anchors = owner.execute(
        "select row_number() over (order by id), billing_anchor from subscriptions"
    ).fetchall()
    for place, anchor in anchors:
        month, k = anchor, 0
        while month <= today():
            net = FEE
            if k:
                used = (place * 7919 + (k - 1) * 104729) % 120_000 if k <= MONTHS[0] else 0
                over = max(0, used - INCLUDED)
                net += (Decimal(over) / 1000).to_integral_value(ROUND_CEILING) * BLOCK
            expected += net * VAT
            month = (month.replace(day=28) + timedelta(days=4)).replace(day=1)
            k += 1
    total = one(owner, "select sum(total) from invoices")
    return {
        "invoices": len(numbers),
        "duplicate_numbers": len(numbers) - len(set(numbers)),
        "duplicate_moments": sum(n - 1 for n in moments.values()),
        "gaps": gaps,
        "difference": str(Decimal(total) - expected),
    }


MONTHS: Final = [0]


def cost_of(owner: psycopg.Connection[Any], events: int) -> float:
    """Return seconds of one bill over a month of so many events."""
    owner.execute("begin")
    organization = one(
        owner,
        "insert into organizations (name, slug, email) values ('E', %s, 'e@e.example')"
        " returning id",
        f"events-{events}-{time.monotonic_ns()}",
    )
    anchor = months_before(today(), 1)
    owner.execute(
        "insert into subscriptions (organization_id, plan_id, plan_name, price_monthly,"
        " included_impressions, overage_rate, current_period_start, current_period_end,"
        " months_billed) values (%s, 'basic', 'Basic', 3500, 50000, 50, %s, %s, 1)",
        (organization, anchor, anchor + timedelta(days=28)),
    )
    owner.execute(
        "insert into usage_hourly (organization_id, dimension, hour, value, requests, impressions,"
        " billable, successful, failed, cached, response_time_ms_sum, response_time_count)"
        " select %s, 'total', %s::timestamptz + n * interval '1 hour', '', %s, %s, %s, %s, 0, 0,"
        " 0, 0 from generate_series(0, 671) n",
        (organization, anchor, *(events // 672,) * 4),
    )
    times = []
    for _ in range(15):
        began = time.perf_counter()
        owner.execute("select * from calculate_monthly_bill(%s)", (organization,))
        times.append(time.perf_counter() - began)
    owner.execute("rollback")
    return median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", action="store_true")
    parser.add_argument("--subscriptions", type=int, default=1_600)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--kills", type=int, default=50)
    asked = parser.parse_args()
    if asked.runner:
        asyncio.run(bill(os.environ["BENCH_DSN"]))
        return
    settings = {"shared_buffers": "256MB", "jit": "off", "max_wal_size": "2GB"}
    with (
        a_database(**settings) as database,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):
        asyncio.run(jobs.install(database.owner))
        rates = [
            rate(database, owner, RATE_SUBSCRIPTIONS, n * RATE_SUBSCRIPTIONS) for n in range(ROUNDS)
        ]
        limit = commits(database, owner)
        few, many = [], []
        for _ in range(ROUNDS):
            few.append(cost_of(owner, 1_000_000))
            many.append(cost_of(owner, 10_000_000))
    with (
        a_database(**settings) as database,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):
        asyncio.run(jobs.install(database.owner))
        MONTHS[0] = asked.months
        anchor = months_before(today(), asked.months - 1)
        values = {"from": 0, "count": asked.subscriptions, "anchor": anchor}
        owner.execute(SOLD.encode(), values)
        owner.execute(USED.encode(), {"months": asked.months})
        owner.execute("analyze")
        killed = with_kills(database, owner, asked.kills)
    value = median(rates)
    ratio = median(many) / median(few)
    whole = killed["kills"] >= asked.kills and killed["difference"] == "0.00" and not any(
        killed[name] for name in ("duplicate_numbers", "duplicate_moments", "gaps")
    )  # fmt: skip
    print_result(
        "billing", value=value, unit="invoices/s", goal=f">= {GOAL:,}",
        met=value >= GOAL and ratio <= GOAL_EVENTS and whole,
        details={
            "runs": rates, "empty_commits_per_s": limit, "runners": 2, "durable": True,
            "bill_ms_1M_events": median(few) * 1000, "bill_ms_10M_events": median(many) * 1000,
            "events_ratio": ratio, "subscriptions": asked.subscriptions, "months": asked.months,
            "full_size": "--subscriptions 10000 --months 12 --kills 50", **killed,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
