"""Transactions in turn: one statement each, several in a message, each committed by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.db.test_transaction import WHO, NoteEmpty, assert_clean

from aurora.core.errors import Unavailable
from aurora.db.messages import Packed, PackedStatement, exchange, type_number
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Turns, named, tenant, transactions_in_turn

A = UUID(int=0xA)
WRITE = (
    "insert into stage.notes (organization_id, body) values (%(organization)s, %(body)s)"
    " returning body"
)
# A note is empty once there are two of them, and none may be.
TWO_AND_NO_MORE = (
    "insert into stage.notes (organization_id, body)"
    " select %(organization)s, case when count(*) < 2 then %(body)s else '' end from stage.notes"
    " returning body"
)


@pytest.fixture
async def alone(stage_login: str) -> AsyncIterator[Pool]:
    pool = await open_pool(stage_login, max_size=1, name="turns")
    yield pool
    await pool.close()


async def write(turns: Turns, body: str, *, times: int = 1, statement: str = WRITE) -> list[Any]:
    asked = {"organization": A, "body": body}
    return [row["body"] for row in await turns.run(statement, asked, times=times)]


def seen(stage: str) -> list[str]:
    """What everybody else sees: what is committed."""
    with psycopg.connect(stage) as other:
        return [row[0] for row in other.execute("select body from stage.notes order by id")]


def terminate(stage: str) -> None:
    with psycopg.connect(stage, autocommit=True) as owner:
        owner.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'turns' and datname = current_database()"
        )


def transactions_of(stage: str) -> int:
    with psycopg.connect(stage) as other:
        row = other.execute("select count(distinct xmin::text) from stage.notes").fetchone()
    assert row
    return int(row[0])


async def test_what_is_returned_is_committed_each_by_itself(alone: Pool, stage: str) -> None:
    async with transactions_in_turn(alone, PLATFORM) as turns:
        assert await write(turns, "one") == ["one"]
        assert seen(stage) == ["one"]
        assert await write(turns, "it's 100 % \\ two", times=3) == ["it's 100 % \\ two"] * 3
        assert len(seen(stage)) == transactions_of(stage) == 4
        assert await turns.run("select 1 where false", {}, times=3) == []
    await assert_clean(alone)


async def test_every_one_of_them_acts_as_the_actor(alone: Pool) -> None:
    who = f"select array[{WHO.removeprefix('select ')}]::text[] as who"
    async with transactions_in_turn(alone, tenant(A)) as turns:
        found = await turns.run(who, {}, times=2)
        assert [row["who"] for row in found] == [["tenant", "aurora_app", str(A), "", "off"]] * 2
    with named("100 % sure"):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            actor = await turns.run("select current_setting('app.actor') as actor", {}, times=2)
            assert actor == [{"actor": "100 % sure"}] * 2
    await assert_clean(alone)


async def kept_of_five(alone: Pool, stage: str) -> list[str]:
    with pytest.raises(NoteEmpty):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept", times=5, statement=TWO_AND_NO_MORE)
    await assert_clean(alone)
    return seen(stage)


async def test_what_fails_takes_back_itself_and_none_before(alone: Pool, stage: str) -> None:
    assert await kept_of_five(alone, stage) == ["kept", "kept"]


async def test_a_message_that_is_one_transaction_would_be_caught(
    alone: Pool, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_one(
        self: Turns, statement: str, params: Mapping[str, Any], *, times: int = 1
    ) -> list[dict[str, Any]]:
        message = f"{'; '.join(self._opening)}; {f'{statement}; ' * times} commit"
        async with psycopg.AsyncClientCursor(self.connection) as cursor:
            await cursor.execute(message.encode(), params)
        return []

    monkeypatch.setattr(Turns, "run", in_one)
    assert await kept_of_five(alone, stage) == []


async def test_an_exception_in_the_block_takes_nothing_back(alone: Pool, stage: str) -> None:
    with pytest.raises(KeyError):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            raise KeyError
    assert seen(stage) == ["kept"]
    await assert_clean(alone)


async def test_those_who_only_read_write_nothing(alone: Pool, stage: str) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        async with transactions_in_turn(alone, PLATFORM, read_only=True) as turns:
            assert await turns.run("select 1 as one", {}) == [{"one": 1}]
            await write(turns, "never")
    assert seen(stage) == []
    await assert_clean(alone)


async def test_a_lost_connection_says_so(alone: Pool, stage: str) -> None:
    with pytest.raises(Unavailable):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            terminate(stage)
            await write(turns, "never")
    assert seen(stage) == ["kept"]


def note(body: str) -> PackedStatement:
    """Return the statement that writes a note."""
    text = "insert into stage.notes (organization_id, body) values ($1::uuid, $2::text)"
    return PackedStatement(text, [Packed(A.bytes), Packed(body.encode())])


ASKED = PackedStatement("select count(*)::integer, $1::text from stage.notes", [Packed(b"100 %")])


async def test_statements_of_one_message_are_one_transaction(alone: Pool, stage: str) -> None:
    async with transactions_in_turn(alone, PLATFORM) as turns:
        *_, found = await turns.run_together([note("one"), note("two"), ASKED])
        assert (found.get_value(0, 0), found.get_value(0, 1)) == (bytes([0, 0, 0, 2]), b"100 %")
        assert seen(stage) == ["one", "two"], "it returned before the commit"
        assert transactions_of(stage) == 1
        # More than a socket holds, so that both sides write and read at once.
        many = [note("x" * 4_000_000) for _ in range(3)] + [
            PackedStatement("select repeat('y', 3000000)") for _ in range(3)
        ]
        assert len(await turns.run_together(many)) == 6
    await assert_clean(alone)


async def test_they_act_as_the_actor(alone: Pool) -> None:
    async with transactions_in_turn(alone, tenant(A)) as turns:
        (found,) = await turns.run_together([PackedStatement(WHO)])
        assert [found.get_value(0, column) for column in range(3)] == [
            b"tenant", b"aurora_app", str(A).encode()
        ]  # fmt: skip
    await assert_clean(alone)


async def none_of_three(alone: Pool, stage: str) -> list[str]:
    with pytest.raises(NoteEmpty):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await turns.run_together([note("one"), note(""), note("three")])
    await assert_clean(alone)
    return seen(stage)


async def test_where_one_of_them_is_refused_all_are(
    alone: Pool, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await none_of_three(alone, stage) == []

    async def each_alone(self: Turns, statements: list[PackedStatement]) -> list[Any]:
        opening = [PackedStatement(each) for each in self._opening]
        for each in statements:
            message = [*opening, each, PackedStatement("commit")]
            await exchange(self.connection.pgconn, message)
        return []

    monkeypatch.setattr(Turns, "run_together", each_alone)
    assert await none_of_three(alone, stage) == ["one"]


async def test_a_message_on_a_connection_that_is_lost_says_so(alone: Pool, stage: str) -> None:
    with pytest.raises(Unavailable):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            asleep = PackedStatement("select pg_sleep(60)")
            sent = asyncio.create_task(turns.run_together([note("never"), asleep]))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(terminate, stage)
            await sent
    assert seen(stage) == []
    await assert_clean(alone)


async def test_whoever_is_interrupted_leaves_no_connection_in_use(alone: Pool, stage: str) -> None:
    with pytest.raises(TimeoutError):
        async with transactions_in_turn(alone, PLATFORM) as turns, asyncio.timeout(0.2):
            await turns.run_together([note("never"), PackedStatement("select pg_sleep(60)")])
    await assert_clean(alone)
    assert seen(stage) == []


async def test_the_number_of_a_type_is_asked_once_a_connection(alone: Pool, stage: str) -> None:
    with psycopg.connect(stage, autocommit=True) as owner:
        owner.execute("drop type if exists stage.pair; create type stage.pair as (a int, b text)")
        row = owner.execute("select 'stage.pair'::regtype::oid::bigint").fetchone()
    assert row
    async with transactions_in_turn(alone, PLATFORM) as turns:
        assert await type_number(turns.connection, "stage.pair") == row[0]
        with psycopg.connect(stage, autocommit=True) as owner:
            owner.execute("drop type stage.pair")
        assert await type_number(turns.connection, "stage.pair") == row[0], "it asked again"
        with pytest.raises(LookupError, match=r"stage\.pair"):
            async with await psycopg.AsyncConnection.connect(stage) as another:
                await type_number(another, "stage.pair")
    await assert_clean(alone)
