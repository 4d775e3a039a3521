"""What else was shown wrong in the founding schema, tenancy of rows and garbage, is refused now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, UniqueViolation
from tests.builders import an_event, decoded, moment
from tests.conftest import Postgres
from tests.db.two_hotels import (
    INVOICE,
    OPERATOR,
    Hotel,
    ask,
    change,
    shared_hotels,
    track,
    two_hotels,
    value,
)

from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, person, transaction
from aurora.features.usage.service import record_usage
from aurora.features.usage.staging import Sender

Hotels = tuple[Hotel, Hotel]
SUMMARY = (
    "select coalesce(sum(successful_requests), 0)::int, coalesce(sum(failed_requests), 0)::int"
    " from daily_usage_summary"
)
BILLABLE = "select app.count_billable(%(a)s, now() - interval '2 days', now() + interval '2 hours')"


Shared = tuple[Pool, Hotels]


@pytest.fixture(scope="module")
async def shared(postgres: Postgres, template: str) -> AsyncIterator[Shared]:
    async with shared_hotels(postgres, template) as world:
        yield world


@pytest.fixture
async def hotels(pool: Pool) -> Hotels:
    return await two_hotels(pool)


# S0 8. Rows that belonged to two organizations at once were taken.


async def test_no_row_belongs_to_two_organizations(shared: Shared) -> None:
    pool, hotels = shared
    a, b = hotels
    async with transaction(pool, PLATFORM) as conn:
        for statement in (
            "update api_keys set created_by = %(user)s where id = %(key)s",
            "insert into invitations (organization_id, invited_by, email, name, token_hash,"
            " expires_at) values (%(a)s, %(user)s, 'x@a.example', 'X', repeat('0', 64), now())",
            INVOICE.replace("'2026-01-01'", "'2026-01-02'"),
        ):
            with pytest.raises(ForeignKeyViolation):
                async with conn.transaction():
                    await conn.execute(
                        statement.encode(),
                        {
                            "a": a.id, "user": b.users["owner"], "key": a.live_key,
                            "organization": a.id, "subscription": b.subscription,
                        },
                    )  # fmt: skip


async def test_usage_of_another_organizations_key_is_refused_at_both_doors(shared: Shared) -> None:
    pool, hotels = shared
    a, b = hotels
    with pytest.raises(AuroraError) as refused:
        async with transaction(pool, PLATFORM) as conn:
            await track(conn, a.id, b.live_key)
    assert refused.value.code == "api_key_unknown"
    async with transaction(pool, PLATFORM) as conn:
        batch = decoded([an_event(api_key_id=str(b.live_key))])
        receipt = await record_usage(conn, batch, Sender(organization_id=a.id))
    assert (receipt.accepted, [each.code for each in receipt.rejected]) == (0, ["api_key_unknown"])


async def test_members_alone_are_told_what_concerns_their_organization(
    pool: Pool, hotels: Hotels
) -> None:
    a, _ = hotels
    await ask(pool, PLATFORM, "select app.notify_members(%(a)s, 'billing', 'T', 'M')", a=a.id)
    told = await ask(pool, PLATFORM, "select organization_id, user_id from notifications")
    active = {user for role, user in a.users.items() if role != "inactive"}
    assert set(told) == {(a.id, user) for user in active}


# S0 9 and 10. Test keys, failures, and retries were billed.


@pytest.mark.parametrize(
    ("key", "status", "billed"),
    [
        ("live", 200, 1), ("live", 201, 1), ("live", 204, 1), ("live", 304, 1),
        ("live", 400, 0), ("live", 429, 0), ("live", 500, 0), ("test", 200, 0), (None, 200, 0),
    ],
)  # fmt: skip
async def test_a_production_key_with_a_success_bills_and_nothing_else(
    shared: Shared, key: str | None, status: int, billed: int
) -> None:
    pool, hotels = shared
    a, _ = hotels
    [(before,)] = await ask(pool, PLATFORM, BILLABLE, a=a.id)
    async with transaction(pool, PLATFORM) as conn:
        given = {"live": a.live_key, "test": a.test_key}.get(key or "")
        assert await track(conn, a.id, given, status)
    assert await ask(pool, PLATFORM, BILLABLE, a=a.id) == [(before + billed,)]


async def test_a_retry_bills_once_whatever_its_timestamp(pool: Pool, hotels: Hotels) -> None:
    a, b = hotels
    for late in (0, 1, 20):
        at = clock.now() - timedelta(days=late, minutes=1)
        async with transaction(pool, PLATFORM) as conn:
            counted = await track(
                conn, a.id, a.live_key, p_event_id="retried", p_timestamp=at
            )  # fmt: skip
        assert counted is (late == 0)
    async with transaction(pool, PLATFORM) as conn:
        assert await track(conn, b.id, b.live_key, p_event_id="retried")
    assert await ask(pool, PLATFORM, BILLABLE, a=a.id) == [(2,)]


# S0 12. An error told one organization of another's people.


async def test_no_refusal_names_another_organizations_people(pool: Pool, hotels: Hotels) -> None:
    a, _b = hotels
    invite = (
        "insert into users (organization_id, email, name, status)"
        " values (%(a)s, %(email)s, 'N', 'invited')"
    )
    # Known over there: here it is as good as any other.
    assert await change(pool, a.acts_as("admin"), invite, a=a.id, email="owner@b.example") == 1
    with pytest.raises(AuroraError) as refused:
        await change(pool, a.acts_as("admin"), invite, a=a.id, email="OWNER@A.example")
    assert refused.value.status == 409
    assert "example" not in str(refused.value)


async def test_an_address_is_one_membership_whatever_its_case_and_a_person_may_have_several(
    pool: Pool, hotels: Hotels
) -> None:
    a, b = hotels
    owner = a.people["owner"]
    async with transaction(pool, PLATFORM) as conn:
        for statement in (
            "insert into users (organization_id, email, name) values (%(a)s, 'OWNER@A.EXAMPLE', 'N')",
            "update users set auth_id = %(owner)s where email = 'viewer@a.example'",
        ):
            with pytest.raises(UniqueViolation):
                async with conn.transaction():
                    await conn.execute(statement.encode(), {"a": a.id, "owner": owner})
        await conn.execute(
            "insert into users (organization_id, email, name, auth_id)"
            " values (%s, 'owner@a.example', 'N', %s)",
            (b.id, owner),
        )
    seen = await ask(pool, person(owner), "select id from organizations")
    assert set(seen) == {(a.id,), (b.id,)}


# S1. Only SELECT policies: what may be changed is changed, and the operator sees everything.


async def test_an_admin_changes_what_is_his_to_change(pool: Pool, hotels: Hotels) -> None:
    a, b = hotels
    admin = a.acts_as("admin")
    revoke = "update api_keys set status = 'revoked' where id = %(id)s"
    assert await change(pool, admin, "update organizations set phone = '+47 22 00 00 00'") == 1
    assert await change(pool, admin, revoke, id=a.live_key) == 1
    assert await change(pool, admin, revoke, id=b.live_key) == 0
    operator = await ask(pool, person(OPERATOR), "select count(*) from organizations")
    assert operator == [(2,)]


# S1. What was counted wrong.


async def test_every_answer_is_a_success_or_a_failure(pool: Pool, hotels: Hotels) -> None:
    a, _ = hotels
    before = (await ask(pool, a.itself, SUMMARY))[0]
    async with transaction(pool, PLATFORM) as conn:
        for status in (200, 201, 204, 301, 304, 400, 401, 404, 429, 500, 599):
            await track(conn, a.id, None if status == 401 else a.live_key, status)
    after = (await ask(pool, a.itself, SUMMARY))[0]
    assert (after[0] - before[0], after[1] - before[1]) == (5, 6)


async def test_averages_of_months_are_of_requests_and_not_of_averages(
    pool: Pool, hotels: Hotels
) -> None:
    a, _ = hotels
    async with transaction(pool, PLATFORM) as conn:
        await track(conn, a.id, a.live_key, p_response_time_ms=1000)
        for _ in range(9):
            at = clock.now() - timedelta(days=1)
            await track(conn, a.id, a.live_key, p_response_time_ms=100, p_timestamp=at)
    [(average,)] = await ask(
        pool, a.itself,
        "select sum(response_time_ms_sum) / sum(response_time_count) from usage_daily_series"
        " where dimension = 'total'",
    )  # fmt: skip
    assert average == Decimal(190)


async def test_the_sessions_time_zone_moves_no_event(pool: Pool, hotels: Hotels) -> None:
    a, _ = hotels
    at = datetime.combine(clock.now().date() - timedelta(days=2), datetime.min.time(), UTC)
    for number, zone in enumerate(("UTC", "Pacific/Kiritimati", "America/Adak")):
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute(f"set local timezone = '{zone}'".encode())
            await track(conn, a.id, a.live_key, p_event_id=f"{number}", p_timestamp=at)
            batch = decoded([an_event(api_key_id=str(a.live_key), timestamp=moment(at))])
            await record_usage(conn, batch, Sender(organization_id=a.id))
            summed = "select total_requests from daily_usage_summary where date = %(day)s"
            assert await value(conn, summed, day=at.date()) == 2 * number + 2
    stored = "select distinct date from usage_analytics where timestamp = %(at)s"
    assert await ask(pool, PLATFORM, stored, at=at) == [(at.date(),)]


async def test_a_date_that_contradicts_its_timestamp_is_refused(shared: Shared) -> None:
    pool, hotels = shared
    a, _ = hotels
    statement = (
        "insert into usage_analytics (organization_id, endpoint, status_code, timestamp, date)"
        " values (%(a)s, '/', 200, now(), (now() at time zone 'UTC')::date - 1)"
    )
    with pytest.raises(CheckViolation):
        await change(pool, PLATFORM, statement, a=a.id)


async def test_a_request_without_a_key_is_recorded(pool: Pool, hotels: Hotels) -> None:
    a, _ = hotels
    async with transaction(pool, PLATFORM) as conn:
        assert await track(conn, a.id, None, 401)
    unknown = (
        "select total_requests, failed_requests from daily_usage_summary where api_key_id is null"
    )
    assert await ask(pool, a.itself, unknown) == [(1, 1)]


async def test_periods_keep_their_anchor(pool: Pool) -> None:
    [(moments,)] = await ask(
        pool, PLATFORM,
        "select array_agg((app.billing_moment('2026-01-31', n, 'Europe/Oslo')"
        " at time zone 'Europe/Oslo')::date::text order by n) from generate_series(0, 3) n",
    )  # fmt: skip
    assert moments == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]


async def test_a_key_past_its_time_is_written_down_as_expired(pool: Pool, hotels: Hotels) -> None:
    a, _ = hotels
    expire = "update api_keys set expires_at = now() - interval '1 second' where id = %(id)s"
    await change(pool, PLATFORM, expire, id=a.live_key)
    assert await ask(pool, PLATFORM, "select app.expire_api_keys()") == [(1,)]
    stands = await ask(
        pool, PLATFORM, "select status from api_keys where id = %(id)s", id=a.live_key
    )
    assert stands == [("expired",)]


async def test_the_note_that_a_key_was_used_touches_no_index(shared: Shared) -> None:
    pool, hotels = shared
    a, _ = hotels
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute("update api_keys set last_used_at = now() where id = %s", (a.live_key,))
        hot = "select pg_stat_get_xact_tuples_hot_updated('api_keys'::regclass)"
        assert await value(conn, hot) == 1


async def test_a_changed_plan_rewrites_nothing_that_was_bought(pool: Pool, hotels: Hotels) -> None:
    terms = "select price_monthly, included_impressions, overage_rate from subscriptions"
    before = await ask(pool, PLATFORM, terms)
    await change(
        pool, PLATFORM,
        "update plans set price_monthly = 1, included_impressions = 1, overage_rate = 1",
    )  # fmt: skip
    assert await ask(pool, PLATFORM, terms) == before


# S1. Garbage was taken, and what is valid refused.

GARBAGE = {
    "a test key in production": "update api_keys set environment = 'production' where id = %(test)s",
    "a live key that is for tests": "update api_keys set environment = 'test' where id = %(live)s",
    "a rate below nothing": "update api_keys set rate_limit_per_hour = -5",
    "scopes that are no list": "update api_keys set scopes = '\"aurora:read\"'",
    "origins that are no list": "update api_keys set allowed_origins = '{}'",
    "a status code of five digits": (
        "insert into usage_analytics (organization_id, endpoint, status_code)"
        " values (%(a)s, '/', 99999)"
    ),
    "a negative latency": (
        "insert into usage_analytics (organization_id, endpoint, status_code, response_time_ms)"
        " values (%(a)s, '/', 200, -1)"
    ),
    "a currency of words": "update subscriptions set currency = 'kroner'",
    "a period that ends before it begins": (
        "update subscriptions set current_period_end = current_period_start"
    ),
    "an empty slug": "update organizations set slug = '' where id = %(a)s",
    "an address of dots": "update organizations set email = '.@-.aa'",
    "an address without a domain": "update organizations set email = 'a@'",
    "two addresses in one": "update organizations set email = 'a@b.no, c@d.no'",
    "a name of spaces": "update organizations set name = '   '",
    "a country of words": "update organizations set country = 'Norge'",
    "settings that are no object": "update organizations set settings = '[]'",
}


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_refused(shared: Shared, garbage: str) -> None:
    pool, hotels = shared
    a, _ = hotels
    named = {"a": a.id, "live": a.live_key, "test": a.test_key}
    with pytest.raises((CheckViolation, AuroraError)) as refused:
        await change(pool, PLATFORM, GARBAGE[garbage], **named)
    if isinstance(refused.value, AuroraError):
        assert refused.value.status == 422


VALID: dict[str, tuple[str, Any]] = {
    "an address in Norwegian": ("organizations set email", "post@blåbær.no"),
    "an address with an apostrophe": ("organizations set email", "o'brien@hotel.ie"),
    "an address of one letter": ("organizations set email", "a@b.no"),
    "more impressions than an int4 holds": (
        "subscriptions set included_impressions", 5_000_000_000,
    ),
    "a price past a hundred million": ("subscriptions set price_monthly", Decimal("250000000.00")),
    "a slug of one letter": ("organizations set slug", "x"),
}  # fmt: skip


@pytest.mark.parametrize("valid", VALID)
async def test_what_is_valid_is_taken(shared: Shared, valid: str) -> None:
    pool, hotels = shared
    a, _ = hotels
    assignment, given = VALID[valid]
    column = "organization_id" if assignment.startswith("subscriptions") else "id"
    statement = f"update {assignment} = %(given)s where {column} = %(a)s"
    assert await change(pool, PLATFORM, statement, given=given, a=a.id) == 1
