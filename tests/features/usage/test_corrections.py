"""An event is taken back exactly once, and one that came out of time is kept and not counted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import an_event, events, moment
from tests.conftest import LOGIN_ROLE
from tests.features.usage.test_recording import Hotel, a_hotel, books, record, value

from aurora.core import clock
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.usage.jobs import fold
from aurora.features.usage.service import Sender

SENDERS = 6
# The line that makes once mean once.
ONCE = "on conflict (organization_id, event_key) do nothing\n    returning x.organization_id"


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


def a_reversal(of: str, **fields: Any) -> dict[str, Any]:
    """An event that takes another one back."""
    return an_event(id=f"back-{of}", reverses=of, widget_impression=False) | fields


async def billable(pool: Pool, hotel: Hotel) -> int:
    query = "select app.count_billable(%s, now() - interval '90 days', now() + interval '1 day')"
    return int(await value(pool, query, hotel.id))


async def test_a_reversal_takes_back_what_was_counted_and_keeps_the_row(
    pool: Pool, hotel: Hotel
) -> None:
    late = moment(clock.now() - timedelta(days=20))
    await record(pool, hotel.sender, an_event(id="a", timestamp=late), an_event(id="b"))
    await fold(pool)
    receipt = await record(pool, hotel.sender, a_reversal("a"))
    assert (receipt.accepted, receipt.duplicates, receipt.conflicts, receipt.rejected) == (
        1, 0, [], [],
    )  # fmt: skip
    expected = {"rows": 2, "ids": 3, "daily": 1, "hourly": 1}
    for _ in range(2):
        assert await books(pool, hotel.id) == expected
        assert await billable(pool, hotel) == 1
        days = "select count(*) from daily_usage_summary where organization_id = %s"
        assert await value(pool, days, hotel.id) == 1, "the day of the reversed event is empty"
        await fold(pool)


async def test_a_reversal_sent_again_is_a_duplicate_and_a_second_one_a_conflict(
    pool: Pool, hotel: Hotel
) -> None:
    back = a_reversal("a")
    # In one batch with what it takes back, it comes after it.
    assert (await record(pool, hotel.sender, back, an_event(id="a"))).accepted == 2
    assert (await record(pool, hotel.sender, back)).duplicates == 1
    second = await record(pool, hotel.sender, a_reversal("a", id="again"), a_reversal("back-a"))
    assert [each.id for each in second.conflicts] == ["again"]
    assert [each.code for each in second.rejected] == ["reverses_unknown"]
    other = await record(pool, hotel.sender, {**back, "metadata": {"why": "another"}})
    assert [each.id for each in other.conflicts] == ["back-a"]
    assert (await books(pool, hotel.id))["daily"] == 0


async def test_a_reversal_of_nothing_is_rejected_and_may_come_again_after_its_event(
    pool: Pool, hotel: Hotel
) -> None:
    back = a_reversal("a")
    early = await record(pool, hotel.sender, back)
    assert [(each.index, each.code) for each in early.rejected] == [(0, "reverses_unknown")]
    await record(pool, hotel.sender, an_event(id="a"))
    assert (await record(pool, hotel.sender, back)).accepted == 1


async def test_of_rivals_in_a_batch_the_first_takes_back_and_its_repeats_alone_are_duplicates(
    pool: Pool, hotel: Hotel
) -> None:
    batch = events(30)
    await record(pool, hotel.sender, *batch)
    for event in batch:
        # Identities are digests, so which of the two comes first in their order is chance.
        first, second = (a_reversal(event["id"], id=f"{n}-{event['id']}") for n in (1, 2))
        receipt = await record(pool, hotel.sender, first, second, first, second)
        assert (receipt.accepted, receipt.duplicates) == (1, 1)
        assert [(each.index, each.id) for each in receipt.conflicts] == [
            (1, second["id"]),
            (3, second["id"]),
        ]
    nothing = a_reversal("nobody")
    receipt = await record(pool, hotel.sender, nothing, nothing)
    assert (receipt.duplicates, [each.index for each in receipt.rejected]) == (0, [0, 1])


async def test_a_reversal_that_names_what_is_no_text_costs_itself_alone(
    pool: Pool, hotel: Hotel
) -> None:
    back = a_reversal("a\0", id="back")
    receipt = await record(pool, hotel.sender, back, an_event(id="b"))
    assert (receipt.accepted, [each.code for each in receipt.rejected]) == (1, ["event_invalid"])


async def test_nobody_takes_back_another_organizations_event(pool: Pool, hotel: Hotel) -> None:
    other = await a_hotel(pool)
    await record(pool, hotel.sender, an_event(id="a"))
    receipt = await record(pool, other.sender, a_reversal("a"))
    assert [each.code for each in receipt.rejected] == ["reverses_unknown"]
    assert (await books(pool, hotel.id))["daily"] == 1


async def test_the_source_is_part_of_what_is_taken_back(pool: Pool, hotel: Hotel) -> None:
    await record(pool, hotel.sender, an_event(id="a", source="web"))
    assert (await record(pool, hotel.sender, a_reversal("a"))).accepted == 0
    assert (await record(pool, hotel.sender, a_reversal("a", source="web"))).accepted == 1


async def racing_reversals(dsn: str) -> None:
    """Six senders take the same events back, each under ids of its own, while others fold."""
    pool = await open_pool(make_conninfo(dsn, user=LOGIN_ROLE), max_size=SENDERS + 1, name="race")
    try:
        hotel = await a_hotel(pool)
        batch = events(20)
        await record(pool, hotel.sender, *batch)

        async def sender(number: int) -> int:
            mine = [
                a_reversal(each["id"], id=f"{number}-{each['id']}")
                for each in (batch if number % 2 else reversed(batch))
            ]
            return (await record(pool, hotel.sender, *mine)).accepted

        accepted, _ = await asyncio.gather(
            asyncio.gather(*(sender(number) for number in range(SENDERS))), fold(pool)
        )
        assert sum(accepted) == len(batch)
        assert await books(pool, hotel.id) == {"rows": 20, "ids": 40, "daily": 0, "hourly": 0}
        assert await billable(pool, hotel) == 0
    finally:
        await pool.close()


async def test_many_who_take_the_same_events_back_do_it_once(database: str) -> None:
    await racing_reversals(database)


async def test_a_reversal_that_is_not_claimed_is_caught(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        query = "select pg_get_functiondef('app.reverse_usage(jsonb)'::regprocedure)"
        row = await (await owner.execute(query.encode())).fetchone()
        assert row
        assert row[0].count(ONCE) == 1
        wrong = ONCE.replace("do nothing", "do update set reversal_key = excluded.reversal_key")
        await owner.execute(row[0].replace(ONCE, wrong))
    with pytest.raises(AssertionError):
        await racing_reversals(database)


@pytest.mark.parametrize("days", [-799, -36, 1, 30])
async def test_what_comes_out_of_time_is_kept_once_and_not_counted(
    days: int, pool: Pool, hotel: Hotel
) -> None:
    event = an_event(id="odd", timestamp=moment(clock.now() + timedelta(days=days)))
    for _ in range(2):
        receipt = await record(pool, hotel.sender, event)
        assert (receipt.accepted, receipt.rejected) == (0, [])
        assert [(each.index, each.code) for each in receipt.quarantined] == [
            (0, "timestamp_out_of_range")
        ]
    other = await record(pool, hotel.sender, {**event, "status_code": 500})
    assert [each.id for each in other.conflicts] == ["odd"]
    held = "select event ->> 'id' from usage_quarantine where organization_id = %s"
    assert await value(pool, held, hotel.id) == "odd"
    assert set((await books(pool, hotel.id)).values()) == {0}


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2019-05-01T00:00:00Z"]
)
async def test_a_date_that_means_nothing_is_rejected(at: str, pool: Pool, hotel: Hotel) -> None:
    receipt = await record(pool, hotel.sender, an_event(timestamp=at), an_event())
    assert receipt.accepted == 1
    assert [each.code for each in receipt.rejected] == ["timestamp_out_of_range"]


async def test_a_full_quarantine_rejects(
    pool: Pool, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora.features.usage.store.MAX_QUARANTINED", 3)
    at = moment(clock.now() - timedelta(days=40))
    receipt = await record(pool, hotel.sender, *events(5, timestamp=at))
    assert (len(receipt.quarantined), len(receipt.rejected)) == (3, 2)
    assert {each.code for each in receipt.rejected} == {"quarantine_full"}


async def test_a_key_of_somebody_else_is_rejected_before_the_quarantine(
    pool: Pool, hotel: Hotel
) -> None:
    other = await a_hotel(pool)
    old = an_event(timestamp=moment(clock.now() - timedelta(days=40)), api_key_id=str(other.key))
    receipt = await record(pool, hotel.sender, old)
    assert [each.code for each in receipt.rejected] == ["api_key_unknown"]
    assert await value(pool, "select count(*) from usage_quarantine") == 0


async def test_the_salt_of_a_day_is_forgotten_when_no_event_can_reach_it(
    pool: Pool, hotel: Hotel
) -> None:
    ages = (0, 34)
    batch = [
        an_event(timestamp=moment(clock.now() - timedelta(days=age)), ip_address="192.0.2.7")
        for age in ages
    ]
    await record(pool, hotel.sender, *batch)
    distinct = "select count(distinct visitor) from usage_analytics where organization_id = %s"
    assert await value(pool, distinct, hotel.id) == len(ages), (
        "a visitor is followed from day to day"
    )
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute("select app.forget_visitor_salts()")
        left = await (await conn.execute("select count(*) from usage_visitor_salts")).fetchone()
        assert left == (2,)
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(
            "update usage_analytics set ip_address = null where organization_id = %s", (hotel.id,)
        )
    assert await value(pool, distinct, hotel.id) == len(ages), "visitors outlive their addresses"


async def test_backfill_takes_what_is_older_than_the_quarantine(pool: Pool, hotel: Hotel) -> None:
    old = an_event(timestamp="2019-05-01T00:00:00Z")
    receipt = await record(pool, Sender(organization_id=hotel.id, backfill=True), old)
    assert receipt.accepted == 1
