"""The founding document word for word: its data, its queries for everybody, functions, triggers."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from tests.builders import a_key, a_subscription, an_event, an_organization, moment
from tests.db import founding_document as seed

from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.core.secrets import hash_key, is_well_formed
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, Connection, tenant, transaction
from aurora.features.usage.model import UsageEvent
from aurora.features.usage.service import record_usage
from aurora.features.usage.staging import Sender

DEMO = UUID(seed.DEMO_ORGANIZATION)
CENT = Decimal("0.01")


async def rows(conn: psycopg.AsyncConnection[Any], query: str, *parameters: object) -> list[Any]:
    # Without parameters nothing in a query is a placeholder: the document's text goes as it is.
    return await (await conn.execute(query.encode(), parameters or None)).fetchall()


async def value(conn: psycopg.AsyncConnection[Any], query: str, *parameters: object) -> Any:
    return (await rows(conn, query, *parameters))[0][0]


@pytest.mark.parametrize(("table", "column"), seed.VALUES)
async def test_a_column_takes_the_documents_values_and_no_other(
    table: str, column: str, connection: psycopg.AsyncConnection[Any]
) -> None:
    constraint = f"{table}_{column}_check"
    found = await rows(
        connection, "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"
        " and conrelid = to_regclass('public.' || %s)", constraint, table,
    )  # fmt: skip
    named = re.findall(r"'(\w+)'::text", found[0][0])
    assert sorted(named) == sorted(seed.VALUES[table, column].split())


# Statements


async def the_seeds_data(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute(seed.INSERT_ORGANIZATION.encode())
    await conn.execute(seed.with_the_valid_key(seed.INSERT_API_KEY).encode())
    await conn.execute(seed.INSERT_SUBSCRIPTION.encode())


async def test_the_seed_data_goes_in_as_it_is_written_but_for_the_key(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await the_seeds_data(conn)
        [(prefix, key_hash, is_active)] = await rows(
            conn, "select key_prefix, key_hash, status = 'active' from api_keys"
        )
        assert (prefix, key_hash) == (seed.VALID_KEY[:15], hash_key(seed.VALID_KEY))
        assert is_active
        [(anchor, next_billing_at, begins)] = await rows(
            conn,
            "select billing_anchor, next_billing_at, current_period_start from subscriptions",
        )
    assert anchor == begins.astimezone(next_billing_at.tzinfo).date() or anchor >= begins.date()
    assert next_billing_at <= begins < next_billing_at + timedelta(hours=25)


async def test_the_documents_own_key_is_refused_and_not_repeated_in_the_refusal(
    pool: Pool,
) -> None:
    statement = seed.INSERT_API_KEY.replace("digest('tro_demo_test_key', 'sha256')", "'\\x00'")
    with pytest.raises(AuroraError) as refused:
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute(seed.INSERT_ORGANIZATION.encode())
            await conn.execute(statement.encode())
    assert refused.value.code == "key_malformed"
    assert seed.DOCUMENTS_KEY not in str(refused.value)


# Queries


@dataclass(frozen=True)
class Customer:
    """An organization with a subscription, and two keys of its own."""

    id: UUID
    name: str
    included: int
    keys: tuple[UUID, UUID]


async def a_customer(conn: Connection, name: str, included: int) -> Customer:
    organization = await an_organization(conn, name=name)
    await a_subscription(conn, organization)
    await conn.execute(
        "update subscriptions set included_impressions = %s where organization_id = %s",
        (included, organization.id),
    )
    live = await a_key(conn, organization)
    test = await a_key(conn, organization, environment="test")
    return Customer(organization.id, name, included, (live.record.id, test.record.id))


def history(of: Customer, now: datetime, chance: random.Random) -> list[UsageEvent]:
    """Some hundreds of events of the last hundred days, none near a bound of the queries."""
    found = []
    for _ in range(250):
        hours = chance.choice([chance.randrange(1, 23), chance.randrange(25, 100 * 24)])
        at = now - timedelta(hours=hours, seconds=chance.randrange(60))
        fields: dict[str, Any] = {
            "timestamp": moment(at),
            "endpoint": chance.choice(["/api/aurora/now", "/api/aurora/tonight", "/widgets/map"]),
            "status_code": chance.choice([200, 200, 204, 304, 401, 404, 429, 500]),
            "response_time_ms": chance.choice([None, 0, chance.randrange(1, 900)]),
            "widget_impression": chance.random() < 0.6,
            "cached": chance.random() < 0.3,
            "api_key_id": str(chance.choice([*of.keys, of.keys[0]])),
        }
        found.append(msgspec.convert(an_event(**fields), UsageEvent))
    return found


@dataclass(frozen=True)
class World:
    """Two customers, what they used, and the moment up to which."""

    now: datetime
    usage: dict[Customer, list[UsageEvent]]

    def of(self, actor: Actor) -> dict[Customer, list[UsageEvent]]:
        """What somebody may see of it."""
        return {
            customer: events
            for customer, events in self.usage.items()
            if actor.organization_id in (None, customer.id)
        }


@pytest.fixture
async def world(pool: Pool) -> World:
    chance = random.Random(20251221)  # the document's date
    async with transaction(pool, PLATFORM) as conn:
        now = (await value(conn, "select now()")).astimezone(UTC)
        usage = {}
        for name, included in (("Radisson Blu Tromsø", 60), ("Lyngen Lodge", 100_000)):
            customer = await a_customer(conn, name, included)
            usage[customer] = history(customer, now, chance)
            places = list(enumerate(usage[customer]))
            receipt = await record_usage(
                conn, places, Sender(organization_id=customer.id, backfill=True)
            )
            assert receipt.accepted == len(places)
    return World(now, usage)


def acting(world: World) -> list[Actor]:
    return [PLATFORM, *(tenant(customer.id) for customer in world.usage)]


async def ask(pool: Pool, actor: Actor, query: str) -> list[Any]:
    async with transaction(pool, actor, read_only=True) as conn:
        await conn.execute("set local timezone = 'UTC'")
        return await rows(conn, query)


async def test_the_monthly_impressions_query_counts_each_organizations_months(
    pool: Pool, world: World
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        since = await value(conn, "select now() - interval '3 months'")
    for actor in acting(world):
        expected = []
        for customer, events in world.of(actor).items():
            months: dict[datetime, int] = defaultdict(int)
            for event in events:
                if event.timestamp >= since:
                    at = event.timestamp
                    months[datetime(at.year, at.month, 1, tzinfo=UTC)] += event.widget_impression
            expected += [
                (customer.name, month, n, customer.included, max(0, n - customer.included))
                for month, n in months.items()
            ]
        answer = await ask(pool, actor, seed.MONTHLY_IMPRESSIONS)
        assert sorted(answer) == sorted(expected)
        order = [(row[1], row[2]) for row in answer]
        assert order == sorted(order, reverse=True)
    assert len(expected) >= 3
    whole = await ask(pool, PLATFORM, seed.MONTHLY_IMPRESSIONS)
    assert any(row[4] > 0 for row in whole)
    assert any(row[4] == 0 for row in whole)


def percentile(values: Sequence[int], fraction: float) -> float | None:
    """Return the value at a fraction of the sorted list, between two places by a straight line."""
    if not values:
        return None
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


async def test_the_performance_query_measures_each_endpoint(pool: Pool, world: World) -> None:
    since = world.now - timedelta(hours=24)
    for actor in acting(world):
        by_endpoint: dict[str, list[UsageEvent]] = defaultdict(list)
        for events in world.of(actor).values():
            for event in events:
                if event.timestamp >= since:
                    by_endpoint[event.endpoint].append(event)
        answer = await ask(pool, actor, seed.PERFORMANCE_BY_ENDPOINT)
        assert {row[0] for row in answer} == set(by_endpoint)
        assert [row[1] for row in answer] == sorted((row[1] for row in answer), reverse=True)
        for endpoint, total, average, p95, errors, rate in answer:
            events = by_endpoint[endpoint]
            times = [e.response_time_ms for e in events if e.response_time_ms is not None]
            failed = sum(event.status_code >= 400 for event in events)
            assert (total, errors) == (len(events), failed)
            assert abs(average - Decimal(sum(times)) / len(times)) < Decimal("1e-9")
            assert p95 == pytest.approx(percentile(times, 0.95))
            percent = Decimal(100 * failed) / len(events)
            assert rate == percent.quantize(CENT, ROUND_HALF_UP)


async def test_nobody_without_an_organization_is_answered(pool: Pool, world: World) -> None:
    stranger = Actor("authenticated", claims={"sub": str(DEMO)})
    for query in (seed.MONTHLY_IMPRESSIONS, seed.PERFORMANCE_BY_ENDPOINT):
        assert await ask(pool, stranger, query) == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await ask(pool, Actor("anon"), query)


# Functions and triggers


@pytest.mark.parametrize("environment", ["production", "test"])
async def test_a_generated_key_goes_in_and_is_found_by_its_hash(
    pool: Pool, environment: str
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(seed.INSERT_ORGANIZATION.encode())
        key: str = await value(conn, "select generate_api_key(%s)", environment)
        assert is_well_formed(key)
        await conn.execute(
            "insert into api_keys (organization_id, key, name, environment)"
            " values (%s, %s, 'Made in SQL', %s)",
            (DEMO, key, environment),
        )
        kept = await rows(
            conn, "select key_prefix, status from api_keys where key_hash = %s", hash_key(key)
        )
    assert kept == [(key[:15], "active")]


async def test_tracked_usage_is_stored_summed_and_billed_once(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        customer = await a_customer(conn, "Hotel", 3)
        [start] = (
            await rows(
                conn,
                "select next_billing_at - interval '1 hour' from subscriptions"
                " where organization_id = %s", customer.id,
            )
        )[0]  # fmt: skip
        call = (
            "select track_usage(%s, %s, '/api/aurora/now', %s, p_widget_type => 'forecast',"
            " p_widget_impression => true, p_event_id => %s, p_timestamp => %s)"
        )
        # On some days of the year that is longer ago than an event may be late.
        oldest = clock.now() - timedelta(days=34)
        at = max(oldest, min(start, clock.now() - timedelta(minutes=1)))
        live, test = customer.keys
        assert await value(conn, call, customer.id, live, 200, "a", at) is True
        assert await value(conn, call, customer.id, live, 200, "a", at) is False
        assert await value(conn, call, customer.id, live, 500, "b", at) is True
        assert await value(conn, call, customer.id, test, 200, "c", at) is True
        assert await rows(
            conn, "select event_id, billable from usage_analytics order by event_id"
        ) == [("a", True), ("b", False), ("c", False)]
        assert await rows(
            conn,
            "select sum(total_requests)::int, sum(widget_impressions)::int,"
            " sum(successful_requests)::int, sum(failed_requests)::int from daily_usage_summary",
        ) == [(3, 3, 2, 1)]


@pytest.mark.parametrize(("used", "blocks"), [(0, 0), (7, 0), (8, 1), (1007, 1), (1008, 2)])
async def test_the_monthly_bill_is_the_fee_ahead_and_every_begun_thousand_over(
    pool: Pool, used: int, blocks: int
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        customer = await a_customer(conn, "Hotel", 7)
        first: date = await value(
            conn, "select billing_anchor from subscriptions where organization_id = %s", customer.id
        )
        await conn.execute(
            "insert into usage_hourly select %s, 'total', app.billing_moment(%s, 0, 'Europe/Oslo'), '',"
            " %s, %s, %s, %s, 0, 0, 0, 0",
            (customer.id, first, used, used, used, used),
        )
        call = "select kind, quantity, unit_price, amount from calculate_monthly_bill(%s, %s)"
        end = await value(conn, "select app.billing_moment(%s, 1, 'Europe/Oslo')", first)
        bill = await rows(conn, call, customer.id, end)
        again = await rows(conn, call, customer.id, end)
    fee = ("fee", Decimal(1), Decimal(3500), Decimal(3500))
    over = ("overage", Decimal(blocks), Decimal(50), Decimal(50 * blocks))
    assert bill == ([over] if blocks else []) + [fee]
    assert again == bill


TOUCHED = {
    "organizations": "phone = '+47 900 00 000'",
    "users": "name = 'Ola Nordmann'",
    "api_keys": "name = 'Renamed'",
    "subscriptions": "metadata = '{\"a\": 1}'",
    "invoices": "metadata = '{\"a\": 1}'",
    "plans": "sort_order = sort_order + 10",
    "coupons": "description = 'Spring'",
    "legal_entities": "phone = '+47 900 00 000'",
    "invitations": "name = 'Ola Nordmann'",
    "billing_profiles": "order_reference = '4500'",
}
INVOICE = (
    "insert into invoices (organization_id, due_date, period_start, period_end, subtotal,"
    " tax_amount, total, line_items, kind) values (%s, '2099-01-31', '2099-01-01', '2099-01-31',"
    " 100, 25, 125, '[{}]', 'manual')"
)


async def test_a_change_of_any_row_moves_its_updated_at(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        customer = await a_customer(conn, "Hotel", 1)
        await conn.execute(
            "insert into users (organization_id, email, name) values (%s, 'a@hotel.example', 'A')",
            (customer.id,),
        )
        await conn.execute(INVOICE, (customer.id,))
        await conn.execute("insert into coupons (id, percent) values ('SPRING', 10)")
        await conn.execute(
            "insert into billing_profiles (organization_id) values (%s)", (customer.id,)
        )
        await conn.execute(
            "insert into invitations (organization_id, email, name, token_hash, expires_at)"
            " values (%s, 'b@hotel.example', 'B', repeat('0', 64), now() + interval '1 day')",
            (customer.id,),
        )
    for table, change in TOUCHED.items():
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute(f"update {table} set {change}".encode())
            moved = await rows(conn, f"select updated_at = app.now() from {table}")
            assert moved
            assert all(row == (True,) for row in moved), table


async def test_no_control_plane_table_with_an_updated_at_is_forgotten(
    connection: psycopg.AsyncConnection[Any],
) -> None:
    found = await rows(
        connection,
        "select a.attrelid::regclass::text from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " where attname = 'updated_at' and relnamespace = 'public'::regnamespace and relkind = 'r'",
    )
    # The data plane has no triggers: whoever writes there writes the time too.
    assert {name for (name,) in found} - {"widget_instances", "usage_imports"} == set(TOUCHED)
