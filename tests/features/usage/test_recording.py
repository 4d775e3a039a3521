"""An event counts once, for the right organization, whoever sends it and however often."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import a_key, an_event, an_organization, decoded, events, moment
from tests.conftest import LOGIN_ROLE

from aurora.core import clock
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.usage.jobs import fold
from aurora.features.usage.model import Receipt
from aurora.features.usage.service import Sender, ensure_partitions, record_usage, summarise

SENDERS = 8
BATCH = 100
# The line that makes once mean once: without it every staged event is stored and counted.
CLAIM = "    where not exists ("
UNCLAIMED = "    where false and not exists ("


@dataclass(frozen=True)
class Hotel:
    """An organization with a production and a test key."""

    id: UUID
    key: UUID
    test_key: UUID

    @property
    def sender(self) -> Sender:
        return Sender(organization_id=self.id, key_id=self.key)


async def a_hotel(pool: Pool) -> Hotel:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        live = await a_key(conn, organization)
        test = await a_key(conn, organization, environment="test")
        await ensure_partitions(conn)
    return Hotel(organization.id, live.record.id, test.record.id)


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


async def record(pool: Pool, sender: Sender, *batch: dict[str, Any]) -> Receipt:
    async with transaction(pool, PLATFORM) as conn:
        return await record_usage(conn, decoded(list(batch)), sender)


async def value(pool: Pool, query: str, *parameters: object) -> Any:
    async with transaction(pool, PLATFORM) as conn:
        row = await (await conn.execute(query.encode(), parameters)).fetchone()
        assert row
        return row[0]


async def books(pool: Pool, organization_id: UUID) -> dict[str, int]:
    """What each of the four places says of how many events there were."""
    queries = {
        "rows": "select count(*) from usage_analytics where organization_id = %s",
        "ids": "select count(*) from usage_event_ids where organization_id = %s",
        "daily": "select coalesce(sum(requests), 0) from usage_daily_series "
        "where organization_id = %s and dimension = 'total'",
        "hourly": "select coalesce(sum(requests), 0) from usage_hourly_series "
        "where organization_id = %s and dimension = 'total'",
    }
    return {name: await value(pool, query, organization_id) for name, query in queries.items()}


async def overlapping_senders(dsn: str) -> None:
    """Eight senders send batches that share ids, in other orders; all books must agree."""
    pool = await open_pool(make_conninfo(dsn, user=LOGIN_ROLE), max_size=SENDERS, name="senders")
    try:
        hotel = await a_hotel(pool)
        stream = events(BATCH * 5)
        dice = random.Random(1)

        async def sender(number: int) -> Receipt:
            batch = stream[number // 2 * BATCH :][: BATCH * 2]
            dice.shuffle(batch)
            return await record(pool, hotel.sender, *batch)

        receipts = await asyncio.gather(*(sender(number) for number in range(SENDERS)))
        sent = {event["id"] for event in stream}
        assert sum(receipt.accepted for receipt in receipts) == len(sent)
        assert sum(receipt.duplicates for receipt in receipts) == SENDERS * BATCH * 2 - len(sent)
        expected = dict.fromkeys(("rows", "ids", "daily", "hourly"), len(sent))
        assert await books(pool, hotel.id) == expected
        assert await fold(pool) > 0
        assert await books(pool, hotel.id) == expected, "folding changed a sum"
    finally:
        await pool.close()


async def test_eight_senders_of_the_same_events_count_each_once(database: str) -> None:
    await overlapping_senders(database)


async def test_an_ingest_without_the_claim_is_caught(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        query = "select pg_get_functiondef('app.claim_usage_singly'::regproc)"
        row = await (await owner.execute(query)).fetchone()
        assert row
        assert row[0].count(CLAIM) == 1
        await owner.execute(row[0].replace(CLAIM, UNCLAIMED))
    with pytest.raises(AssertionError):
        await overlapping_senders(database)


async def test_the_same_event_again_is_a_duplicate_and_another_one_a_conflict(
    pool: Pool, hotel: Hotel
) -> None:
    first = an_event(id="once", metadata={"room": 7})
    other = {**first, "status_code": 500}
    assert (await record(pool, hotel.sender, first)).accepted == 1
    again = await record(pool, hotel.sender, first, other, first)
    assert (again.accepted, again.duplicates) == (0, 2)
    assert [(conflict.index, conflict.id) for conflict in again.conflicts] == [(1, "once")]
    within = await record(
        pool, hotel.sender, *[an_event(id="two"), an_event(id="two", endpoint="/")]
    )
    assert (within.accepted, len(within.conflicts)) == (1, 1)
    assert (await books(pool, hotel.id))["rows"] == 2
    status = "select status_code from usage_analytics where event_id = 'once'"
    assert await value(pool, status) == 200, "the first one stands"


async def test_how_an_event_is_written_is_no_other_content(pool: Pool, hotel: Hotel) -> None:
    at = clock.now().replace(microsecond=0)
    first = an_event(id="same", timestamp=moment(at))
    elsewhere = at.isoformat().replace("+00:00", "+00:00")
    again = {
        **dict(reversed(first.items())),
        "timestamp": elsewhere,
        "method": "GET",
        "metadata": {},
        "api_key_id": str(hotel.key),
        "organization_id": str(hotel.id),
    }
    assert (await record(pool, hotel.sender, first)).accepted == 1
    assert (await record(pool, hotel.sender, again)).duplicates == 1


async def test_source_and_id_are_the_identity_together(pool: Pool, hotel: Hotel) -> None:
    pairs = (("a", "b-c"), ("a-b", "c"), (None, "c"))
    batch = [an_event(id=event_id, source=source) for source, event_id in pairs]
    assert (await record(pool, hotel.sender, *batch)).accepted == 3


async def test_two_organizations_may_use_the_same_id(pool: Pool, hotel: Hotel) -> None:
    other = await a_hotel(pool)
    event = an_event(id="shared")
    assert (await record(pool, hotel.sender, event)).accepted == 1
    assert (await record(pool, other.sender, event)).accepted == 1


async def test_the_key_of_another_organization_is_as_unknown_as_none_at_all(
    pool: Pool, hotel: Hotel
) -> None:
    other = await a_hotel(pool)
    theirs, none = (an_event(api_key_id=str(key)) for key in (other.key, uuid4()))
    receipt = await record(pool, hotel.sender, theirs, an_event(), none)
    assert receipt.accepted == 1
    rejections = [(each.index, each.code, each.detail) for each in receipt.rejected]
    assert rejections[0][1:] == rejections[1][1:], "the answer tells that the key exists"
    assert [each[:2] for each in rejections] == [(0, "api_key_unknown"), (2, "api_key_unknown")]
    assert (await books(pool, other.id))["rows"] == 0


async def test_the_platform_sends_for_those_who_exist(pool: Pool, hotel: Hotel) -> None:
    named = an_event(organization_id=str(hotel.id))
    keyed = an_event(api_key_id=str(hotel.key))
    unknown = an_event(organization_id=str(uuid4()))
    receipt = await record(pool, Sender(), named, keyed, unknown, an_event())
    assert receipt.accepted == 2
    assert [each.code for each in receipt.rejected] == ["organization_unknown"] * 2


@pytest.mark.parametrize(
    ("changes", "is_billable"),
    [
        ({}, True),
        ({"status_code": 201}, True),
        ({"status_code": 304}, True),
        ({"status_code": 399}, True),
        ({"status_code": 199}, False),
        ({"status_code": 400}, False),
        ({"status_code": 404}, False),
        ({"status_code": 500}, False),
        ({"widget_impression": False}, False),
        ({"widget_type": None}, True),
        ({"cached": True}, True),
        ({"api_key_id": "test"}, False),
    ],
)
async def test_what_bills_is_a_successful_impression_on_a_production_key(
    changes: dict[str, Any], is_billable: bool, pool: Pool, hotel: Hotel
) -> None:
    if changes.get("api_key_id") == "test":
        changes = {"api_key_id": str(hotel.test_key)}
    await record(pool, hotel.sender, an_event(**changes))
    today = clock.now().date()
    async with transaction(pool, PLATFORM) as conn:
        _, _, (row,) = await summarise(
            conn, hotel.id, group_by="month", first_day=today - timedelta(days=1), last_day=today
        )
    assert (row.requests, row.billable_impressions) == (1, int(is_billable))


@pytest.mark.parametrize(
    ("away", "is_taken"),
    [
        (timedelta(days=-34, hours=-23), True),
        (timedelta(days=-35, minutes=-1), False),
        (timedelta(minutes=59), True),
        (timedelta(minutes=61), False),
    ],
)
async def test_an_event_may_be_35_days_late_and_an_hour_early(
    away: timedelta, is_taken: bool, pool: Pool, hotel: Hotel
) -> None:
    event = an_event(timestamp=moment(clock.now() + away))
    receipt = await record(pool, hotel.sender, event)
    assert receipt.accepted == int(is_taken)
    assert [each.code for each in receipt.quarantined] == (
        [] if is_taken else ["timestamp_out_of_range"]
    )
    assert receipt.rejected == []


async def test_a_rolled_back_batch_left_nothing_and_counts_when_it_comes_again(
    pool: Pool, hotel: Hotel
) -> None:
    batch = events(10)

    async def fail() -> None:
        async with transaction(pool, PLATFORM) as conn:
            assert (await record_usage(conn, decoded(batch), hotel.sender)).accepted == 10
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await fail()
    assert set((await books(pool, hotel.id)).values()) == {0}
    assert (await record(pool, hotel.sender, *batch)).accepted == 10
