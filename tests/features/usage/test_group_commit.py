"""Requests that are stored together are answered apart, after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import an_event, decoded, events
from tests.conftest import LOGIN_ROLE
from tests.features.usage.test_recording import Hotel, a_hotel, books

from aurora.db.pool import Pool
from aurora.features.usage import group_commit as module
from aurora.features.usage import store
from aurora.features.usage.group_commit import GroupCommit, group_commit
from aurora.features.usage.model import (
    CountedEvent,
    IngestBusy,
    IngestStopping,
    NotAcknowledged,
    UsageEvent,
)
from aurora.features.usage.packing import unpack_counted
from aurora.features.usage.staging import Staging

POISON = "/poison"


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


@pytest.fixture
def dsn(database: str) -> str:
    return make_conninfo(database, user=LOGIN_ROLE)


@pytest.fixture
async def ingest(pool: Pool, dsn: str) -> AsyncIterator[GroupCommit]:
    async with group_commit(pool, dsn) as found:
        yield found


def together(ingest: GroupCommit, hotel: Hotel, *batches: list[dict[str, Any]]) -> Any:
    """Send batches at once; with one lane held back they come into one transaction."""
    return asyncio.gather(
        *(ingest.record(decoded(batch), hotel.sender) for batch in batches),
        return_exceptions=True,
    )


async def test_requests_of_one_group_hear_of_their_own_events_only(
    dsn: str, hotel: Hotel, pool: Pool
) -> None:
    shared, other = an_event(id="shared"), an_event(id="shared", status_code=500)
    bad = an_event(timestamp="2000-01-01T00:00:00Z")
    # One lane takes them in their order, once the key's owner is known.
    async with group_commit(pool, dsn, lanes=1) as ingest:
        await ingest.record(decoded([an_event(id="before")]), hotel.sender)
        one, two, three = await together(
            ingest, hotel, [shared, *events(3)], [bad, shared], [*events(2), other, other]
        )
    assert (one.accepted, one.duplicates, one.conflicts, one.rejected) == (4, 0, [], [])
    assert (two.accepted, two.duplicates) == (0, 1)
    assert [(each.index, each.code) for each in two.rejected] == [(0, "timestamp_out_of_range")]
    assert (three.accepted, three.duplicates) == (2, 0)
    assert [(each.index, each.id) for each in three.conflicts] == [(2, "shared"), (3, "shared")]
    assert set((await books(pool, hotel.id)).values()) == {7}


async def test_a_repeat_is_compared_with_what_was_counted_and_not_with_its_neighbour(
    ingest: GroupCommit, hotel: Hotel
) -> None:
    first, other = an_event(id="a"), an_event(id="a", status_code=500)
    await ingest.record(decoded([first]), hotel.sender)
    again = await ingest.record(decoded([other, first]), hotel.sender)
    assert (again.accepted, again.duplicates) == (0, 1)
    assert [each.index for each in again.conflicts] == [0]


async def test_a_hundred_requests_need_few_transactions(
    ingest: GroupCommit, hotel: Hotel, database: str
) -> None:
    async def commits() -> int:
        async with await psycopg.AsyncConnection.connect(database) as owner:
            await owner.execute("select pg_stat_clear_snapshot()")
            found = await owner.execute(
                "select count(distinct xmin::text) from usage_event_ids where organization_id = %s",
                (hotel.id,),
            )
            row = await found.fetchone()
            assert row
            return int(row[0])

    receipts = await together(ingest, hotel, *([event] for event in events(100)))
    assert [each.accepted for each in receipts] == [1] * 100
    assert await commits() <= 10


async def test_a_full_group_waits_for_nobody(
    ingest: GroupCommit, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 30.0)
    ingest._crowd = 20
    # Whoever waits for the nineteen others is not answered in time.
    async with asyncio.timeout(20):
        receipt = await ingest.record(decoded(events(module.LARGE_EVENTS)), hotel.sender)
    assert receipt.accepted == module.LARGE_EVENTS


async def test_large_batches_are_staged_one_after_the_other_and_keep_no_small_one_waiting(
    ingest: GroupCommit, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.record(decoded(events(1)), hotel.sender)
    sizes: list[tuple[str, int]] = []
    add_all = Staging.add_all

    def watched(self: Staging, batch: list[tuple[int, UsageEvent]]) -> None:
        sizes.append((batch[0][1].endpoint, len(batch)))
        add_all(self, batch)

    monkeypatch.setattr(Staging, "add_all", watched)
    one, two, few = (
        [an_event(endpoint=name) for _ in range(number)]
        for name, number in (("/one", 500), ("/two", 500), ("/few", 5))
    )
    await together(ingest, hotel, one, two, few)
    assert [name for name, _ in sizes if name != "/few"] == ["/one"] * 5 + ["/two"] * 5
    assert sizes.index(("/few", 5)) <= 2


async def test_an_event_that_the_database_refuses_costs_nobody_else(
    ingest: GroupCommit, hotel: Hotel, pool: Pool, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await owner.execute(
            f"alter table usage_analytics add constraint no_poison check (endpoint <> '{POISON}')"
        )
    with_poison = [*events(20), an_event(endpoint=POISON), *events(20)]
    clean, poisoned, alone = await together(
        ingest, hotel, events(30), with_poison, [an_event(endpoint=POISON)]
    )
    assert (clean.accepted, clean.rejected) == (30, [])
    assert poisoned.accepted == 40
    assert [(each.index, each.code) for each in poisoned.rejected] == [(20, "event_refused")]
    assert alone.accepted == 0
    assert [each.code for each in alone.rejected] == ["event_refused"]
    assert set((await books(pool, hotel.id)).values()) == {70}


async def test_a_table_that_refuses_everything_is_not_tried_event_by_event(
    ingest: GroupCommit, hotel: Hotel, database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await owner.execute(
            "alter table usage_analytics add constraint nothing check (endpoint is null) not valid"
        )
    (answer,) = await together(ingest, hotel, events(2_000))
    assert isinstance(answer, psycopg.IntegrityError)


async def test_a_lost_database_is_told_and_the_same_events_count_once_afterwards(
    ingest: GroupCommit, hotel: Hotel, pool: Pool, database: str
) -> None:
    batch = events(50)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:  # noqa: SIM117
        async with owner.transaction():
            # Whoever wants to store waits here, and is killed there.
            await owner.execute("lock table usage_event_ids in exclusive mode")
            sending = asyncio.create_task(ingest.record(decoded(batch), hotel.sender))
            waits = "select count(*) from pg_stat_activity where application_name = 'aurora-ingest'"
            waits += " and datname = current_database() and wait_event_type = 'Lock'"
            async with asyncio.timeout(20):
                while (await (await owner.execute(waits)).fetchone()) == (0,):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.01)
            await owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                # Other tests have theirs on the same server.
                "where application_name = 'aurora-ingest' and datname = current_database()"
            )
            with pytest.raises(NotAcknowledged) as refusal:
                await sending
            assert refusal.value.facts["retry_after_s"] > 0
    receipt = await ingest.record(decoded(batch), hotel.sender)
    assert receipt.accepted + receipt.duplicates == 50
    assert set((await books(pool, hotel.id)).values()) == {50}


async def test_what_waits_is_bounded(
    ingest: GroupCommit, hotel: Hotel, pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_EVENTS", 100)
    async with (
        await psycopg.AsyncConnection.connect(database) as owner,
        owner.transaction(),
    ):
        await owner.execute("lock table usage_event_ids in exclusive mode")
        waiting = asyncio.create_task(ingest.record(decoded(events(60)), hotel.sender))
        await asyncio.sleep(0.1)
        with pytest.raises(IngestBusy) as refusal:
            await ingest.record(decoded(events(60)), hotel.sender)
        assert refusal.value.facts["retry_after_s"] > 0
        assert not waiting.done()
    assert (await waiting).accepted == 60
    large = await ingest.record(decoded(events(150)), hotel.sender)
    assert large.accepted == 150, "a batch larger than the buffer is taken where it is alone"
    assert set((await books(pool, hotel.id)).values()) == {210}


async def test_stopping_stores_what_was_taken_and_takes_no_more(
    pool: Pool, dsn: str, hotel: Hotel
) -> None:
    async with group_commit(pool, dsn) as ingest:
        sending = [
            asyncio.create_task(ingest.record(decoded(events(5)), hotel.sender)) for _ in range(40)
        ]
        await asyncio.sleep(0.01)
    receipts = await asyncio.gather(*sending)
    assert [each.accepted for each in receipts] == [5] * 40
    assert set((await books(pool, hotel.id)).values()) == {200}
    with pytest.raises(IngestStopping):
        await ingest.record(decoded(events(1)), hotel.sender)


async def test_a_key_that_was_made_a_moment_ago_is_known(
    ingest: GroupCommit, hotel: Hotel, pool: Pool
) -> None:
    assert (await ingest.record(decoded(events(1)), hotel.sender)).accepted == 1
    other = await a_hotel(pool)
    receipt = await ingest.record(
        decoded([an_event(api_key_id=str(other.key)), an_event()]), other.sender
    )
    assert receipt.accepted == 2
    theirs = await ingest.record(decoded([an_event(api_key_id=str(other.key))]), hotel.sender)
    assert [each.code for each in theirs.rejected] == ["api_key_unknown"]


async def known_ones_are_told(ingest: GroupCommit, hotel: Hotel) -> None:
    """Check what a batch is told that holds every third event of an earlier one, changed."""
    first, second = events(40), events(40)
    await ingest.record(decoded(first), hotel.sender)
    for place in range(0, 40, 3):
        second[place] = first[place] | {"status_code": 500}
    receipt = await ingest.record(decoded(second), hotel.sender)
    assert receipt.accepted == 26
    assert [each.index for each in receipt.conflicts] == list(range(0, 40, 3))


async def test_a_group_of_several_statements_tells_each_event_its_own(
    ingest: GroupCommit, hotel: Hotel, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROWS_A_STATEMENT", 7)
    await known_ones_are_told(ingest, hotel)
    assert set((await books(pool, hotel.id)).values()) == {66}


async def test_places_that_begin_anew_with_each_statement_would_be_caught(
    ingest: GroupCommit, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROWS_A_STATEMENT", 7)
    monkeypatch.setattr(
        store,
        "unpack_counted",
        lambda result: [
            CountedEvent(ordinal=each.ordinal - 7, digest=each.digest)
            for each in unpack_counted(result)
        ],
    )
    with pytest.raises((AssertionError, IndexError)):
        await known_ones_are_told(ingest, hotel)


async def test_events_that_are_staged_are_let_go(ingest: GroupCommit, hotel: Hotel) -> None:
    batch = decoded(events(3))
    assert (await ingest.record(batch, hotel.sender)).accepted == 3
    assert batch == []
