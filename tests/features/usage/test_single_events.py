"""Single events of one sender are stored together, and each hears of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import an_event, decoded, events
from tests.conftest import LOGIN_ROLE
from tests.features.usage.test_recording import Hotel, a_hotel, books

from aurora.db.pool import Pool
from aurora.features.usage import group_commit as module
from aurora.features.usage.group_commit import GroupCommit, group_commit
from aurora.features.usage.groups import Crowd, Single
from aurora.features.usage.model import Receipt
from aurora.features.usage.staging import Outcome, Row
from aurora.integrations.hot import Pending

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


async def singly(ingest: GroupCommit, hotel: Hotel, *batch: dict[str, Any]) -> list[Receipt]:
    """Send events at once, each by itself."""
    under_way = [ingest.begin(event, hotel.sender) for _, event in decoded(list(batch))]
    return await ended(under_way)


async def test_a_single_event_that_is_no_text_costs_nobody_else(
    ingest: GroupCommit, hotel: Hotel
) -> None:
    bad = an_event(reverses="a\0")
    receipts = await singly(ingest, hotel, an_event(), bad, an_event())
    assert [each.accepted for each in receipts] == [1, 0, 1]
    assert [each.code for each in receipts[1].rejected] == ["event_invalid"]


async def ended(under_way: Iterable[Pending[Receipt] | None]) -> list[Receipt]:
    """Wait for those that were begun; what they were told."""
    futures: list[asyncio.Future[Receipt]] = []
    for each in under_way:
        if each is not None:
            future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
            futures.append(future)
            each.add_done_callback(partial(told_to, future))
    return await asyncio.gather(*futures)


def told_to(future: asyncio.Future[Receipt], pending: Pending[Receipt]) -> None:
    try:
        future.set_result(pending.result())
    except Exception as error:  # noqa: BLE001 - whatever it is, the test sees it
        future.set_exception(error)


def told(receipt: Receipt) -> str:
    """Return in a word what a single event was told."""
    if receipt.conflicts:
        return f"conflict {receipt.conflicts[0].index}"
    for each in (*receipt.rejected, *receipt.quarantined):
        return f"{each.code} {each.index}"
    return "accepted" if receipt.accepted else "duplicate"


KNOWN, TWICE = an_event(id="known"), an_event(id="twice")
MIXED = [
    an_event(id="new"),
    KNOWN,
    KNOWN | {"endpoint": "/other"},
    TWICE,
    TWICE,
    TWICE | {"endpoint": "/other"},
    an_event(country_code="norge"),
    an_event(endpoint=POISON),
    an_event(timestamp="2000-01-01T00:00:00Z"),
    an_event(id="back", reverses="known"),
    an_event(api_key_id="00000000-0000-0000-0000-00000000beef"),
    an_event(id="last"),
]
ANSWERS = [
    "accepted",
    "duplicate",
    "conflict 0",
    "accepted",
    "duplicate",
    "conflict 0",
    "event_invalid 0",
    "event_refused 0",
    "timestamp_out_of_range 0",
    "accepted",
    "api_key_unknown 0",
    "accepted",
]


async def told_of_all(ingest: GroupCommit, hotel: Hotel, database: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await owner.execute(
            f"alter table usage_analytics add constraint no_poison check (endpoint <> '{POISON}')"
        )
    await ingest.record(decoded([KNOWN]), hotel.sender)
    receipts = await singly(ingest, hotel, *MIXED)
    return [told(each) for each in receipts]


async def test_each_hears_of_itself(ingest: GroupCommit, hotel: Hotel, database: str) -> None:
    assert await told_of_all(ingest, hotel, database) == ANSWERS


async def test_all_told_the_same_are_caught(
    ingest: GroupCommit, hotel: Hotel, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fate(_self: Outcome, _place: bytes, _row: Row) -> str:
        return "accepted"

    monkeypatch.setattr(Outcome, "fate", fate)
    assert await told_of_all(ingest, hotel, database) != ANSWERS


async def test_a_hundred_need_few_transactions_and_count_once(
    ingest: GroupCommit, hotel: Hotel, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    write = GroupCommit._write_at_once

    async def counted(
        self: GroupCommit, rows: Mapping[bytes, Row], keys: Sequence[UUID]
    ) -> Mapping[bytes, bytes]:
        groups.append(len(rows))
        return await write(self, rows, keys)

    monkeypatch.setattr(GroupCommit, "_write_at_once", counted)
    receipts = await singly(ingest, hotel, *events(100))
    assert [told(each) for each in receipts] == ["accepted"] * 100
    assert sum(groups) == 100
    assert len(groups) <= 3
    assert set((await books(pool, hotel.id)).values()) == {100}


async def test_senders_meet_in_a_transaction_and_not_in_a_crowd(
    pool: Pool, ingest: GroupCommit, hotel: Hotel
) -> None:
    other = await a_hotel(pool)
    one, two, theirs = await asyncio.gather(
        singly(ingest, hotel, an_event(id="a"), an_event(id="b")),
        singly(ingest, other, an_event(id="a")),
        singly(ingest, other, an_event(id="b", api_key_id=str(hotel.key))),
    )
    assert [told(each) for each in (*one, *two)] == ["accepted"] * 3
    assert told(theirs[0]) == "api_key_unknown 0"
    assert set((await books(pool, hotel.id)).values()) == {2}
    assert set((await books(pool, other.id)).values()) == {1}


async def test_stopping_stores_what_was_taken_and_takes_no_more(
    pool: Pool, dsn: str, hotel: Hotel
) -> None:
    batch = [*events(30), an_event(timestamp="2000-01-01T00:00:00Z")]
    async with group_commit(pool, dsn) as ingest:
        sending = asyncio.create_task(singly(ingest, hotel, *batch))
        await asyncio.sleep(0)
    assert [told(each) for each in await sending][:30] == ["accepted"] * 30
    assert ingest.begin(decoded(events(1))[0][1], hotel.sender) is None
    assert set((await books(pool, hotel.id)).values()) == {30}


async def test_singles_that_wait_are_bounded(
    ingest: GroupCommit, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SINGLES", 3)
    under_way = [ingest.begin(event, hotel.sender) for _, event in decoded(events(5))]
    assert [each is None for each in under_way] == [False, False, False, True, True]
    await ended(under_way)
    assert len(await singly(ingest, hotel, *events(5))) == 3


async def begun_beside(
    hotel: Hotel, ingest: GroupCommit, monkeypatch: pytest.MonkeyPatch, under_way: int, behind: int
) -> bool:
    """Return whether events begin while a transaction of others is under way."""
    begun: list[int] = []
    hold = asyncio.Event()

    async def write(rows: Mapping[bytes, Row], _keys: object) -> Mapping[bytes, bytes]:
        begun.append(len(rows))
        await hold.wait()
        return {}

    monkeypatch.setattr(ingest, "_write_at_once", write)
    first = asyncio.create_task(ingest.record(decoded(events(under_way)), hotel.sender))
    async with asyncio.timeout(20):
        while not begun:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        second = asyncio.create_task(ingest.record(decoded(events(behind)), hotel.sender))
        await asyncio.sleep(0.2)
        found = len(begun) == 2
        hold.set()
        await asyncio.gather(first, second)
    return found


@pytest.mark.parametrize(
    ("under_way", "behind", "begins"),
    [
        (1, 1, False),
        (1, module.FULL_EVENTS, True),
        (module.FULL_EVENTS, 1, False),
        (module.LARGE_EVENTS, 1, True),
        (module.FULL_EVENTS, module.FULL_EVENTS, True),
    ],
)
async def test_few_events_wait_for_a_small_transaction_only(
    ingest: GroupCommit,
    hotel: Hotel,
    monkeypatch: pytest.MonkeyPatch,
    under_way: int,
    behind: int,
    begins: bool,
) -> None:
    assert await begun_beside(hotel, ingest, monkeypatch, under_way, behind) is begins


@pytest.mark.parametrize(("waiting", "parts"), [(64, [64]), (128, [64, 64]), (400, [200] * 2)])
async def test_a_crowd_is_parted_so_that_one_half_is_read_while_the_other_is_stored(
    ingest: GroupCommit,
    hotel: Hotel,
    monkeypatch: pytest.MonkeyPatch,
    waiting: int,
    parts: list[int],
) -> None:
    groups: list[int] = []
    write = ingest._write_at_once

    async def counted(rows: Mapping[bytes, Row], keys: Sequence[UUID]) -> Mapping[bytes, bytes]:
        groups.append(len(rows))
        return await write(rows, keys)

    monkeypatch.setattr(ingest, "_write_at_once", counted)
    await singly(ingest, hotel, *events(waiting))
    assert groups == parts


async def test_a_crowd_leaves_out_what_has_no_row(hotel: Hotel, ingest: GroupCommit) -> None:
    batch = decoded([an_event(id="a"), an_event(id="a"), an_event(id="b", country_code="norge")])
    singles = [Single(event, hotel.sender, Pending()) for _, event in batch]
    known = await ingest._owners.find([hotel.key], [])
    crowd = Crowd(singles, *known)
    assert crowd.others == singles[1:]
    crowd.settle(Outcome(crowd.staging.rows))
    assert [single.done.done() for single in singles] == [True, False, False]
