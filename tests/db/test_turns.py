"""Transactions in turn: one statement each, several in a message, each committed by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.db.test_transaction import WHO, NoteEmpty, assert_clean

from aurora.core.errors import Unavailable
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
        async with psycopg.AsyncClientCursor(self._connection) as cursor:
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


async def test_a_lost_connection_says_so(alone: Pool, stage: str) -> None:
    with pytest.raises(Unavailable):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            with psycopg.connect(stage, autocommit=True) as owner:
                owner.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where application_name = 'turns' and datname = current_database()"
                )
            await write(turns, "never")
    assert seen(stage) == ["kept"]
