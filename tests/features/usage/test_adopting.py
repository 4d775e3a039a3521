"""A usage table in the founding shape is taken over whole, each row once, wherever it stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.features.usage.test_recording import CLAIM, UNCLAIMED, Hotel, a_hotel, books, value

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, tenant, transaction
from aurora.features.usage import keeping
from aurora.features.usage.jobs import count_visitors, fold, truncate_addresses
from aurora.features.usage.model import Adopted, AdoptionExpired, UsageTableInvalid

ROWS = 300
TABLE = "founding.usage_analytics"
# As the founding document has it, without the keys to tables that are elsewhere now.
SHAPE = """
create schema founding;
create table founding.usage_analytics (
  id bigserial primary key, timestamp timestamptz not null default now(),
  organization_id uuid not null, api_key_id uuid not null, endpoint text not null,
  method text not null default 'GET', status_code integer not null, response_time_ms integer,
  cached boolean default false, widget_type text, widget_impression boolean default false,
  origin text, user_agent text, ip_address inet, country_code text, metadata jsonb default '{}',
  date date not null default current_date
);
"""
FILL = """
insert into founding.usage_analytics (
  timestamp, organization_id, api_key_id, endpoint, status_code, response_time_ms, cached,
  widget_type, widget_impression, origin, ip_address, country_code, date
)
select t, %(organization)s, case when n %% 5 = 0 then %(test_key)s else %(key)s end,
  '/api/' || n %% 4, case when n %% 7 = 0 then 500 else 200 end, n * n %% 900, n %% 3 = 0,
  case when n %% 2 = 0 then 'map' end, n %% 2 = 0, 'https://' || n %% 3 || '.example',
  ('192.0.2.' || n %% 9)::inet, 'NO', (t at time zone 'UTC')::date
from generate_series(1, %(rows)s) n,
  lateral (
    select now() - interval '2 hours' - make_interval(days => n %% 75, mins => n) as t
  ) at
"""
# The founding document's view over the founding table, and Aurora's.
SUMMARY = """
select organization_id::text, api_key_id::text, date, count(*),
  count(*) filter (where widget_impression), count(*) filter (where status_code >= 400),
  count(*) filter (where cached), round(avg(response_time_ms), 6), count(distinct ip_address)
from founding.usage_analytics group by organization_id, api_key_id, date order by 1, 2, 3
"""
OURS = """
select organization_id::text, api_key_id::text, date, total_requests, widget_impressions,
  failed_requests, cached_requests, round(avg_response_time, 6), unique_visitors
from daily_usage_summary order by 1, 2, 3
"""
WHOLE_ADDRESSES = """
select count(*) from usage_analytics where date < current_date - 31 and masklen(ip_address) > 24
"""
BILLABLE = """
select count(*) from founding.usage_analytics f join api_keys k on k.id = f.api_key_id
where f.widget_impression and f.status_code < 400 and k.environment = 'production'
"""


@pytest.fixture
async def hotel(database: str, pool: Pool) -> Hotel:
    hotel = await a_hotel(pool)
    fill(database, hotel, SHAPE)
    fill(database, hotel, FILL)
    return hotel


def fill(database: str, hotel: Hotel, statement: str) -> None:
    with psycopg.connect(database) as owner:
        named = {"organization": hotel.id, "key": hotel.key, "test_key": hotel.test_key}
        owner.execute(statement.encode(), named | {"rows": ROWS} if "%(" in statement else None)


async def step(pool: Pool, limit: int = 70) -> Adopted:
    async with transaction(pool, PLATFORM) as conn:
        return await keeping.adopt_usage(conn, TABLE, limit)


async def interrupted(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        assert (await keeping.adopt_usage(conn, TABLE, 70)).accepted == 70
        raise ZeroDivisionError


async def adopt(pool: Pool) -> list[Adopted]:
    done: list[Adopted] = []
    while not done or not done[-1].is_finished:
        done.append(await step(pool))
        assert len(done) < 30
    await fold(pool)
    await count_visitors(pool)
    return done


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as owner:
        return owner.execute(query.encode()).fetchall()


async def test_every_row_is_counted_once_on_its_own_day_and_sums_are_as_they_were(
    database: str, pool: Pool, hotel: Hotel
) -> None:
    # A step that does not come to its end leaves nothing behind.
    with pytest.raises(ZeroDivisionError):
        await interrupted(pool)
    done = await adopt(pool)
    assert [each.looked_at for each in done] == [70, 70, 70, 70, 20, 0]
    assert set((await books(pool, hotel.id)).values()) == {ROWS}
    assert rows(database, SUMMARY) == rows(database, OURS)
    assert rows(database, BILLABLE) == rows(
        database, "select count(*) from usage_analytics where billable"
    )
    today = clock.now().date()
    async with transaction(pool, PLATFORM) as conn:
        assert await keeping.verify_usage(conn, hotel.id, today - timedelta(days=90), today) == []
    # It is the organization's own now.
    async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
        row = await (await conn.execute("select count(*) from usage_analytics")).fetchone()
    assert row == (ROWS,)
    await truncate_addresses(pool)
    assert await value(pool, WHOLE_ADDRESSES) == 0


async def taken_again(database: str, pool: Pool) -> None:
    """Write a row behind the back of a finished pass, and go on."""
    await adopt(pool)
    with psycopg.connect(database) as owner:
        owner.execute("insert into founding.usage_analytics select -1, timestamp, organization_id,"
                      " api_key_id, endpoint, method, status_code from founding.usage_analytics"
                      " where id = 1")  # fmt: skip
    assert not (await step(pool)).is_finished, "a row is missing, and was not looked for"
    done = await adopt(pool)
    assert sum(each.looked_at for each in done) == ROWS + 1


async def test_a_row_that_came_behind_its_back_is_found_and_no_other_counted_again(
    database: str, pool: Pool, hotel: Hotel
) -> None:
    await taken_again(database, pool)
    assert set((await books(pool, hotel.id)).values()) == {ROWS + 1}
    with psycopg.connect(database) as owner:
        owner.execute("update app.usage_adoptions set started_at = now() - interval '91 days'")
        owner.execute("delete from founding.usage_analytics where id = -1")
    with pytest.raises(AdoptionExpired):
        await step(pool)


async def test_without_claims_a_second_pass_counts_twice(
    database: str, pool: Pool, hotel: Hotel
) -> None:
    with psycopg.connect(database) as owner:
        found = owner.execute(
            "select pg_get_functiondef('app.claim_usage_singly'::regproc)"
        ).fetchone()
        assert found
        assert CLAIM in found[0]
        owner.execute(found[0].replace(CLAIM, UNCLAIMED))
    await taken_again(database, pool)
    assert (await books(pool, hotel.id))["rows"] > 2 * ROWS


async def test_rows_that_cannot_be_taken_are_counted_and_stay_where_they_are(
    database: str, pool: Pool, hotel: Hotel
) -> None:
    wrong = (
        "status_code = 99999", "response_time_ms = -1", "widget_type = 'radar'",
        "organization_id = gen_random_uuid()", "api_key_id = gen_random_uuid()",
        "timestamp = 'infinity'", "timestamp = '1999-12-31'",
        "timestamp = now() + interval '2 hours'",
    )  # fmt: skip
    with psycopg.connect(database) as owner:
        for number, change in enumerate(wrong, start=50):
            owner.execute(
                f"update founding.usage_analytics set {change} where id = {number}".encode()
            )
    done = await adopt(pool)
    assert sum(each.refused for each in done) == 8
    assert (await books(pool, hotel.id))["rows"] == ROWS - 8
    assert rows(database, "select count(*) from founding.usage_analytics") == [(ROWS,)]


@pytest.mark.parametrize(
    ("table", "lacks"),
    [
        ("public.usage_analytics", "not Aurora"),
        ("public.organizations", "lacks .*timestamp"),
        ("pg_catalog.pg_class", "not Aurora"),
        ("founding.keyless", "no unique index"),
        ("founding.a_view", "not Aurora"),
        ("founding.nothing", "no table"),
    ],
)
async def test_what_is_no_table_of_usage_is_refused(
    table: str, lacks: str, database: str, pool: Pool, hotel: Hotel
) -> None:
    with psycopg.connect(database) as owner:
        owner.execute("create table founding.keyless as select * from founding.usage_analytics")
        owner.execute("create view founding.a_view as select * from founding.usage_analytics")
    with pytest.raises(UsageTableInvalid, match=lacks):
        async with transaction(pool, PLATFORM) as conn:
            await keeping.adopt_usage(conn, table, 10)
