"""Quotas at the gate: hard ones stop, soft ones warn, once, and within a second of the commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from tests.builders import a_key, a_subscription, a_user, an_organization, decoded, events
from tests.features.limits.keys import AKey

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys.model import NewApiKey
from aurora.features.limits.limiter import LimiterAway
from aurora.features.limits.model import Taken
from aurora.features.limits.quotas import FRESH_S
from aurora.features.limits.taking import Limits
from aurora.features.organizations.model import Organization
from aurora.features.usage.service import Sender, record_usage

INCLUDED = 100
PATIENCE_S = 10.0
"""On a busy machine; that what is known is never older than a second is asked of a played clock."""


class Hotel:
    """An organization with a plan of a hundred impressions a month, and its keys."""

    def __init__(self, pool: Pool, organization: Organization, keys: dict[str, NewApiKey]) -> None:
        self.pool, self.id, self._keys = pool, organization.id, keys

    def key(self, environment: str = "production", kind: str = "secret") -> AKey:
        """Return the gate's view of a key."""
        return AKey(
            id=self._keys[environment].record.id,
            organization_id=self.id,
            rate_limit_per_hour=100_000,
            environment=environment,
            kind=kind,
        )

    async def impress(self, how_many: int, environment: str = "production") -> None:
        """Record impressions."""
        async with transaction(self.pool, PLATFORM) as conn:
            sender = Sender(organization_id=self.id, key_id=self._keys[environment].record.id)
            receipt = await record_usage(conn, decoded(events(how_many)), sender)
        assert receipt.accepted == how_many

    async def set(self, assignment: str) -> None:
        """Change the subscription."""
        async with transaction(self.pool, PLATFORM) as conn:
            await conn.execute(
                f"update subscriptions set {assignment} where organization_id = %s".encode(),
                (self.id,),
            )

    async def told(self) -> list[tuple[str, int]]:
        """Return the titles of what people were told, and how many were."""
        async with transaction(self.pool, PLATFORM, read_only=True) as conn:
            found = await conn.execute(
                "select title, count(*) from notifications where type = 'usage_limit'"
                " group by title order by title"
            )
            return [(title, count) for title, count in await found.fetchall()]


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization)
        keys = {
            environment: await a_key(conn, organization, environment=environment)
            for environment in ("production", "test")
        }
        await a_subscription(conn, organization)
    hotel = Hotel(pool, organization, keys)
    await hotel.set(f"included_impressions = {INCLUDED}, quota_mode = 'hard'")
    return hotel


@pytest.fixture
async def limits(pool: Pool) -> AsyncIterator[Limits]:
    limits = Limits(pool)
    yield limits
    await limits.close()


async def ask(limits: Limits, key: AKey, scope: str | None = None) -> Taken:
    return limits.take(key, scope) or await limits.lease(key, scope)


async def within(seconds: float, true: Any) -> None:
    """Wait until it is true."""
    began = time.monotonic()
    while not await true():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)


async def test_what_is_known_is_used_for_less_than_a_second(pool: Pool, hotel: Hotel) -> None:
    now_s = 0.0
    limits = Limits(pool, steady=lambda: now_s)
    key = hotel.key()
    assert (await ask(limits, key)).quota_used == 0
    await hotel.impress(INCLUDED)
    # So fast a clock that nothing was asked meanwhile: the lease of the limit is alive, and yet
    # what was heard of the quota is not used any more.
    now_s = FRESH_S
    assert FRESH_S < 1
    assert limits.take(key) is None
    assert (await limits.lease(key)).code == "QUOTA_EXCEEDED"
    await limits.close()


async def test_a_hard_quota_stops_where_all_of_it_is_used(limits: Limits, hotel: Hotel) -> None:
    key = hotel.key()
    await hotel.impress(INCLUDED - 1)
    taken = await ask(limits, key)
    assert (taken.code, taken.quota_used, taken.quota_included) == ("VALID", 99, 100)
    await hotel.impress(1)

    async def is_exceeded() -> bool:
        return (await ask(limits, key)).code == "QUOTA_EXCEEDED"

    await within(PATIENCE_S, is_exceeded)
    refused = await ask(limits, key)
    assert (refused.quota_used, refused.quota_included) == (100, 100)
    # Until the month of the subscription is over.
    assert refused.retry_after_s is not None
    assert 0 < refused.retry_after_s <= 31 * 86_400


async def test_what_a_quota_refuses_takes_nothing_of_the_hour(
    limits: Limits, hotel: Hotel, pool: Pool
) -> None:
    await hotel.impress(INCLUDED)
    for _ in range(5):
        assert (await ask(limits, hotel.key())).code == "QUOTA_EXCEEDED"
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await conn.execute("select count(*) from rate_limit_windows")
        assert await found.fetchone() == (0,)


async def test_widgets_and_test_keys_pass_where_a_hard_quota_is_used(
    limits: Limits, hotel: Hotel
) -> None:
    await hotel.impress(INCLUDED)
    shown = await ask(limits, hotel.key(kind="publishable"))
    # With its badge: the page knows by these.
    assert (shown.code, shown.quota_used, shown.quota_included) == ("VALID", 100, 100)
    assert (await ask(limits, hotel.key(), "widgets:embed")).code == "VALID"
    tested = await ask(limits, hotel.key("test"))
    assert (tested.code, tested.quota_used) == ("VALID", None)


async def test_test_keys_use_nothing_of_a_quota(limits: Limits, hotel: Hotel) -> None:
    await hotel.impress(3 * INCLUDED, "test")
    assert (await ask(limits, hotel.key())).quota_used == 0
    assert await hotel.told() == []


async def test_a_soft_quota_never_stops(limits: Limits, hotel: Hotel) -> None:
    await hotel.set("quota_mode = 'soft'")
    await hotel.impress(2 * INCLUDED)
    assert (await ask(limits, hotel.key())).code == "VALID"


async def test_a_larger_plan_opens_within_a_second(limits: Limits, hotel: Hotel) -> None:
    await hotel.impress(INCLUDED)
    assert (await ask(limits, hotel.key())).code == "QUOTA_EXCEEDED"
    await hotel.set(f"included_impressions = {INCLUDED + 1}")

    async def is_open() -> bool:
        return (await ask(limits, hotel.key())).code == "VALID"

    await within(PATIENCE_S, is_open)


async def test_people_are_told_at_80_and_100_per_cent_by_whatever_passes(
    limits: Limits, hotel: Hotel
) -> None:
    key = hotel.key()
    await hotel.impress(79)
    await ask(limits, key)
    assert await hotel.told() == []
    for more, thresholds in ((1, (80,)), (20, (100, 80))):
        await hotel.impress(more)

        async def are_told(expected: tuple[int, ...] = thresholds) -> bool:
            await ask(limits, key)
            return [title.split()[0] for title, _ in await hotel.told()] == [
                str(each) for each in expected
            ]

        await within(PATIENCE_S, are_told)
    assert [count for _, count in await hotel.told()] == [1, 1]


async def test_people_are_told_where_usage_is_only_recorded(limits: Limits, hotel: Hotel) -> None:
    await hotel.impress(90)
    limits.recorded([hotel.id])

    async def are_told() -> bool:
        return len(await hotel.told()) == 1

    await within(PATIENCE_S, are_told)


async def test_racing_processes_tell_everybody_once(pool: Pool, hotel: Hotel) -> None:
    await hotel.impress(INCLUDED)
    processes = [Limits(pool) for _ in range(6)]

    async def warn() -> int:
        async with transaction(pool, PLATFORM) as conn:
            found = await conn.execute("select app.warn_of_quotas()")
            row = await found.fetchone()
            assert row is not None
            return int(row[0])

    asked = [ask(each, hotel.key()) for each in processes]
    told = [warn() for _ in range(4)]
    await asyncio.gather(*asked, *told)
    assert [count for _, count in await hotel.told()] == [1, 1]
    for each in processes:
        await each.close()


async def test_a_new_month_is_told_of_anew(pool: Pool, hotel: Hotel) -> None:
    await hotel.impress(INCLUDED)
    limits = Limits(pool)
    await ask(limits, hotel.key())
    await limits.close()
    assert [count for _, count in await hotel.told()] == [1, 1]
    # The anchor moves by ten days, and the running month with it; the usage is in both.
    await hotel.set("billing_anchor = billing_anchor - 10")
    limits = Limits(pool)
    await ask(limits, hotel.key())
    await limits.close()
    assert [count for _, count in await hotel.told()] == [2, 2]


async def test_without_postgresql_a_quota_is_not_guessed(pool: Pool, hotel: Hotel) -> None:
    now_s = 0.0
    limits = Limits(pool, steady=lambda: now_s)
    assert (await ask(limits, hotel.key())).code == "VALID"
    await pool.close()
    now_s = 1.0
    assert limits.take(hotel.key()) is None
    with pytest.raises(LimiterAway):
        await limits.lease(hotel.key())
    await limits.close()


async def test_many_requests_ask_for_a_quota_once(pool: Pool, hotel: Hotel) -> None:
    limits = Limits(pool)
    asked: list[UUID] = []
    find = limits.quotas._find

    async def counting(organization_id: UUID) -> Any:
        asked.append(organization_id)
        return await find(organization_id)

    limits.quotas._find = counting
    await asyncio.gather(*(limits.lease(hotel.key()) for _ in range(50)))
    assert asked == [hotel.id]
    await limits.close()
