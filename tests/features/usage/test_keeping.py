"""Retention takes what it says and nothing else; the quarantine gives back what it holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.builders import an_event, events, moment
from tests.features.usage.test_recording import Hotel, a_hotel, books, record, value

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.usage import jobs, keeping
from aurora.features.usage.service import Sender

WHOLE = "select count(*) from usage_analytics where masklen(ip_address) in (32, 128)"


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


async def differences(pool: Pool, hotel: Hotel, days: int = 60) -> list[Any]:
    async with transaction(pool, PLATFORM) as conn:
        first = clock.now().date() - timedelta(days=days)
        return list(await keeping.verify_usage(conn, hotel.id, first, None))


async def backfill(pool: Pool, hotel: Hotel, *batch: dict[str, Any]) -> None:
    await record(pool, Sender(organization_id=hotel.id, key_id=hotel.key, backfill=True), *batch)


async def test_a_month_that_is_kept_no_longer_goes_and_its_sums_stay(
    pool: Pool, hotel: Hotel
) -> None:
    today = clock.now()
    old = (today.replace(day=1) - timedelta(days=26 * 31)).replace(day=5)
    kept = today.replace(day=1) - timedelta(days=24 * 28)
    await backfill(pool, hotel, an_event(timestamp=moment(old)), an_event(timestamp=moment(kept)))
    async with transaction(pool, PLATFORM) as conn:
        # Not before it is folded.
        assert await keeping.drop_month(conn) == 0
    before = await value(pool, "select count(*) from pg_inherits")
    assert await jobs.drop_months(pool) >= 1
    assert await value(pool, "select count(*) from pg_inherits") < before
    assert await books(pool, hotel.id) == {"rows": 1, "ids": 2, "daily": 2, "hourly": 2}
    assert await jobs.drop_months(pool) == 0


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8:1:2::3"])
async def test_addresses_become_networks_after_thirty_days_and_visitors_stay(
    address: str, pool: Pool, hotel: Hotel
) -> None:
    ages = (1, 29, 31, 34)
    batch = [
        an_event(timestamp=moment(clock.now() - timedelta(days=age)), ip_address=address)
        for age in ages
    ]
    await record(pool, hotel.sender, *batch)
    await jobs.fold(pool)
    await jobs.count_visitors(pool)
    await jobs.truncate_addresses(pool)
    assert await value(pool, WHOLE) == 2
    # A late event falls on a day that was truncated already.
    late = an_event(timestamp=batch[3]["timestamp"], ip_address=address.replace("7", "8"))
    await record(pool, hotel.sender, late)
    await jobs.fold(pool)
    await jobs.truncate_addresses(pool)
    assert await value(pool, WHOLE) == 2
    assert await jobs.truncate_addresses(pool) == 0
    assert await differences(pool, hotel) == []
    visitors = "select sum(unique_visitors)::int from daily_usage_summary"
    assert await value(pool, visitors) == (5 if "7" in address else 4)


async def test_hourly_sums_by_dimension_go_and_bills_stay(pool: Pool, hotel: Hotel) -> None:
    at = clock.now() - timedelta(days=120)
    await backfill(pool, hotel, an_event(timestamp=moment(at)))
    await jobs.fold(pool)
    count = "select app.count_billable(%s, now() - interval '200 days', now() - interval '1 day')"
    assert await jobs.drop_hours(pool) > 0
    assert await value(pool, count, hotel.id) == 1
    left = "select string_agg(distinct dimension, ' ') from usage_hourly"
    assert await value(pool, left) == "total"
    assert await differences(pool, hotel, days=130) == []


async def test_a_replayed_event_is_counted_once_on_its_own_day_and_audited(
    pool: Pool, hotel: Hotel
) -> None:
    at = clock.now() - timedelta(days=50)
    batch = events(3, timestamp=moment(at), ip_address="192.0.2.1")
    assert len((await record(pool, hotel.sender, *batch)).quarantined) == 3
    async with transaction(pool, PLATFORM) as conn:
        held = await keeping.list_quarantine(conn, hotel.id)
        receipt = await keeping.replay_quarantine(conn, held, reason="a clock was wrong")
        assert (receipt.accepted, await keeping.list_quarantine(conn, hotel.id)) == (3, [])
    day = "select sum(total_requests)::int from daily_usage_summary where date = %s"
    assert await value(pool, day, at.date()) == 3
    audit = "select after ->> 'reason' from audit_events where action = 'usage.backfilled'"
    assert await value(pool, audit) == "a clock was wrong"
    # Sent again it is quarantined again, and replayed again it is a duplicate.
    await record(pool, hotel.sender, batch[0])
    async with transaction(pool, PLATFORM) as conn:
        again = await keeping.list_quarantine(conn, hotel.id)
        assert (await keeping.replay_quarantine(conn, again, reason="again")).duplicates == 1
    assert (await books(pool, hotel.id))["daily"] == 3


async def test_what_a_replay_cannot_count_stays_in_quarantine_and_says_why(
    pool: Pool, hotel: Hotel
) -> None:
    now = clock.now()
    late, early = moment(now - timedelta(days=50)), moment(now + timedelta(days=10))
    batch = [
        an_event(id="late", timestamp=late),
        an_event(id="early", timestamp=early),
        an_event(id="used", timestamp=late),
        an_event(id="back", timestamp=late, reverses="nobody"),
    ]
    assert len((await record(pool, hotel.sender, *batch)).quarantined) == 4
    await record(pool, hotel.sender, an_event(id="used", endpoint="/another"))
    async with transaction(pool, PLATFORM) as conn:
        held = await keeping.list_quarantine(conn, hotel.id)
        done = await keeping.replay_quarantine(conn, held, reason="a clock was wrong")
        left = await keeping.list_quarantine(conn, hotel.id)
    kept = {"early": "timestamp_out_of_range", "used": "id_conflict", "back": "reverses_unknown"}
    assert (done.accepted, done.duplicates) == (1, 0)
    assert {each.id: each.code for each in done.kept} == kept
    assert {each.event["id"] for each in left} == set(kept)
    audit = "select after ->> 'last_day' from audit_events where action = 'usage.backfilled'"
    assert await value(pool, audit) == late[:10], "the audit tells the days of what was counted"
    async with transaction(pool, PLATFORM) as conn:
        first = await keeping.list_quarantine(conn, hotel.id, limit=1)
        rest = await keeping.list_quarantine(conn, hotel.id, after=first[0].event_key)
    assert [*first, *rest] == left


async def test_a_dropped_event_is_gone_and_audited(pool: Pool, hotel: Hotel) -> None:
    at = moment(clock.now() - timedelta(days=50))
    await record(pool, hotel.sender, *events(2, timestamp=at))
    async with transaction(pool, PLATFORM) as conn:
        held = await keeping.list_quarantine(conn, hotel.id)
        assert await keeping.drop_quarantine(conn, held, reason="a test") == 2
        assert await keeping.list_quarantine(conn, hotel.id) == []
    audit = "select (after ->> 'events')::int from audit_events"
    assert await value(pool, audit + " where action = 'usage_quarantine.dropped'") == 2


@pytest.mark.parametrize(
    "damage",
    [
        "update usage_daily set requests = requests + 1 where dimension = 'country'",
        "update usage_hourly set billable = 0 where dimension = 'total'",
        "update usage_latencies set counts[1] = counts[1] + 1 where span = 'day'",
        "delete from usage_analytics where event_id = 'one'",
        "update usage_visitors set visitors = 7",
    ],
)
async def test_a_recount_finds_what_is_wrong(damage: str, pool: Pool, hotel: Hotel) -> None:
    at = moment(clock.now() - timedelta(days=2))
    batch = [an_event(id=name, timestamp=at, ip_address="192.0.2.1") for name in ("one", "two")]
    await record(pool, hotel.sender, *batch)
    await jobs.fold(pool)
    await jobs.count_visitors(pool)
    assert await differences(pool, hotel) == []
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(damage.encode())
    assert await differences(pool, hotel) != []


async def test_retention_has_bounds_and_a_change_is_audited(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        changed = await keeping.set_retention(conn, keep_months=13)
        assert (changed.keep_months, changed.address_days) == (13, 30)
    action = "select count(*) from audit_events where action = 'usage_retention.changed'"
    assert await value(pool, action) == 1
    with pytest.raises(psycopg.errors.CheckViolation):
        async with transaction(pool, PLATFORM) as conn:
            await keeping.set_retention(conn, keep_months=3)
