"""Live usage: each event once to each who may see it, with one look an organization."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from tests.builders import an_event, decoded, events
from tests.features.usage.test_recording import Hotel, a_hotel, record

from aurora.core.errors import Unavailable
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, tenant, transaction
from aurora.features.usage import live
from aurora.features.usage.live import Listener, Live, LiveBusy
from aurora.features.usage.service import record_usage


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY_S", 0.02)


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


@pytest.fixture
async def follows(pool: Pool) -> AsyncIterator[Live]:
    follows = Live(pool)
    yield follows
    await follows.close()


async def until(what: Callable[[], bool]) -> None:
    for _ in range(500):
        if what():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come")


async def attended(follows: Live, hotel: Hotel) -> None:
    """Wait until the first look has been had: what was there before is not new."""
    await until(lambda: follows._followed[hotel.id].floor is not None)


async def heard(listener: Listener, count: int) -> list[str]:
    """Return the endpoints of so many events."""
    found: list[str] = []
    for _ in range(50):
        if len(found) >= count:
            break
        piece = await listener.next(2)
        assert piece is not None
        found += [event.endpoint for event in live.read(piece)]
    return found


async def test_each_event_is_shown_once_to_all_of_its_organization_and_nobody_else(
    pool: Pool, hotel: Hotel, follows: Live
) -> None:
    other = await a_hotel(pool)
    await record(pool, hotel.sender, an_event(endpoint="/before"))
    with (
        follows.listening(hotel.id) as first,
        follows.listening(hotel.id) as second,
        follows.listening(other.id) as stranger,
    ):
        await attended(follows, hotel)
        await attended(follows, other)
        for n in range(3):
            await record(pool, hotel.sender, an_event(endpoint=f"/{n}"))
            await asyncio.sleep(0.05)
        await record(pool, other.sender, an_event(endpoint="/theirs"))
        assert await heard(first, 3) == await heard(second, 3) == ["/0", "/1", "/2"]
        assert await heard(stranger, 1) == ["/theirs"]
        for listener in (first, second, stranger):
            assert await listener.next(0.1) == live.HEARTBEAT


async def looks_while(follows: Live, hotel: Hotel, monkeypatch: pytest.MonkeyPatch) -> int:
    looks = 0
    truly = Live._look_at

    async def counted(self: Live, *arguments: Any) -> None:
        nonlocal looks
        looks += 1
        await truly(self, *arguments)

    monkeypatch.setattr(Live, "_look_at", counted)
    monkeypatch.setattr(live, "LOOK_EVERY_S", 60)
    with follows.listening(hotel.id), follows.listening(hotel.id), follows.listening(hotel.id):
        await attended(follows, hotel)
    return looks


async def test_three_listeners_cost_one_look(
    hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await looks_while(follows, hotel, monkeypatch) == 1


async def late_commit(pool: Pool, hotel: Hotel, follows: Live) -> list[str]:
    """Commit an event with a low id after one with a higher id was shown."""
    with follows.listening(hotel.id) as listener:
        await attended(follows, hotel)
        async with transaction(pool, PLATFORM) as slow:
            await record_usage(slow, decoded([an_event(endpoint="/slow")]), hotel.sender)
            await record(pool, hotel.sender, an_event(endpoint="/quick"))
            first = await heard(listener, 1)
        try:
            return first + await asyncio.wait_for(heard(listener, 1), 1)
        except TimeoutError:
            return first


async def test_an_event_that_is_committed_after_a_later_one_is_shown_too(
    pool: Pool, hotel: Hotel, follows: Live
) -> None:
    assert await late_commit(pool, hotel, follows) == ["/quick", "/slow"]


async def test_a_tail_that_only_goes_on_from_the_highest_id_is_caught(
    pool: Pool, hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_BACK_S", -1)
    assert await late_commit(pool, hotel, follows) == ["/quick"]


async def test_what_is_looked_back_at_is_forgotten_in_time(
    pool: Pool, hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_BACK_S", 0.1)
    with follows.listening(hotel.id):
        await attended(follows, hotel)
        followed = follows._followed[hotel.id]
        await record(pool, hotel.sender, *events(5))
        await until(lambda: len(followed._shown) == 5)
        await until(lambda: not followed._shown)
    assert not follows._followed
    await until(lambda: follows._task is None)


async def test_row_level_security_and_not_the_query_keeps_organizations_apart(
    pool: Pool, hotel: Hotel
) -> None:
    await record(pool, hotel.sender, an_event())
    async with transaction(pool, tenant(UUID(int=7)), read_only=True) as conn:
        assert await live.recent(conn, hotel.id, 0) == []
        assert await live.newest(conn, hotel.id) == 0
    async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
        (event,) = await live.recent(conn, hotel.id, 0)
        assert await live.newest(conn, hotel.id) == event.id
        assert await live.recent(conn, hotel.id, event.id) == []


async def test_who_comes_back_sees_what_was_missed_and_the_stream_has_an_end(
    pool: Pool, hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_STREAM_S", 0.3)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.1)
    await record(pool, hotel.sender, an_event(endpoint="/missed"))
    began_s = time.monotonic()
    pieces = [piece async for piece in follows.stream(hotel.id, 0)]
    assert time.monotonic() - began_s >= 0.3
    assert pieces[0] == live.RETRY
    assert [event.endpoint for event in live.read(pieces[1])] == ["/missed"]
    assert live.HEARTBEAT in pieces[2:]


async def test_closing_ends_every_stream(hotel: Hotel, follows: Live) -> None:
    async def whole() -> list[bytes]:
        return [piece async for piece in follows.stream(hotel.id, None)]

    streams = [asyncio.create_task(whole()) for _ in range(3)]
    await until(lambda: hotel.id in follows._followed)
    await follows.close()
    for pieces in await asyncio.wait_for(asyncio.gather(*streams), 5):
        assert pieces == [live.RETRY]
    assert await whole() == [live.RETRY], "a stream that begins after the end has one too"


async def test_listeners_and_what_waits_for_them_are_bounded(
    hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_LISTENERS_EACH", 1)
    with follows.listening(hotel.id), pytest.raises(LiveBusy), follows.listening(hotel.id):
        pass
    monkeypatch.setattr(live, "MAX_LISTENERS", 0)
    with pytest.raises(LiveBusy), follows.listening(hotel.id):
        pass
    slow = Listener()
    for n in range(live.MAX_WAITING_PIECES + 5):
        slow.tell(b"%d" % n)
    got = [await slow.next(1) for _ in range(live.MAX_WAITING_PIECES)]
    assert got == [b"%d" % n for n in range(live.MAX_WAITING_PIECES)]
    slow.tell(b"after")
    assert await slow.next(1) == live.SKIPPED + b"after"


async def test_a_second_with_more_than_is_shown_says_so(
    pool: Pool, hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_EVENTS_A_LOOK", 3)
    with follows.listening(hotel.id) as listener:
        await attended(follows, hotel)
        await record(pool, hotel.sender, *[an_event(endpoint=f"/{n}") for n in range(5)])
        piece = await listener.next(5)
        assert piece is not None
        assert piece.startswith(live.SKIPPED)
        assert len(live.read(piece)) == 3
        # What is looked at again does not count as more than is shown.
        await record(pool, hotel.sender, an_event(endpoint="/one more"))
        piece = await listener.next(5)
        assert piece is not None
        assert not piece.startswith(live.SKIPPED)


async def test_a_database_that_is_away_for_a_while_ends_no_stream(
    pool: Pool, hotel: Hotel, follows: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly, away = Live._look_at, True

    async def look_at(self: Live, *arguments: Any) -> None:
        if away:
            raise Unavailable
        await truly(self, *arguments)

    monkeypatch.setattr(Live, "_look_at", look_at)
    with follows.listening(hotel.id) as listener:
        assert await listener.next(0.2) == live.HEARTBEAT
        away = False
        await attended(follows, hotel)
        await record(pool, hotel.sender, an_event(endpoint="/back"))
        assert await heard(listener, 1) == ["/back"]
