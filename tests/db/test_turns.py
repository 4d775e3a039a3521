"""Transactions in turn: one statement each, in one message, and each commits before the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.db.test_transaction import WHO, NoteEmpty, assert_clean

from aurora.core.errors import Unavailable
from aurora.db.pool import Pool, open_pool
from aurora.db.queries import Query, fetch_value, parse_queries
from aurora.db.transaction import PLATFORM, Turns, named, tenant, transactions_in_turn

A = UUID(int=0xA)
WRITE = (
    "insert into stage.notes (organization_id, body) values (:organization, :body) returning body"
)


@pytest.fixture
async def alone(stage_login: str) -> AsyncIterator[Pool]:
    pool = await open_pool(stage_login, max_size=1, name="turns")
    yield pool
    await pool.close()


def query(text: str) -> Query:
    (found,) = parse_queries(f"-- name: probe\n-- Probes.\n{text}\n", Path("q.sql")).values()
    return found


async def write(turns: Turns, body: str) -> Any:
    return await fetch_value(turns, query(WRITE), organization=A, body=body)


def seen(stage: str) -> list[str]:
    """What everybody else sees: what is committed."""
    with psycopg.connect(stage) as other:
        return [row[0] for row in other.execute("select body from stage.notes order by id")]


async def test_each_is_committed_when_the_next_begins_and_the_last_at_the_end(
    alone: Pool, stage: str
) -> None:
    async with transactions_in_turn(alone, PLATFORM) as turns:
        assert await write(turns, "one") == "one"
        assert seen(stage) == []
        assert await write(turns, "it's 100 % \\ two") == "it's 100 % \\ two"
        assert seen(stage) == ["one"]
    assert seen(stage) == ["one", "it's 100 % \\ two"]
    await assert_clean(alone)


async def test_every_one_of_them_acts_as_the_actor(alone: Pool) -> None:
    who = f"select array[{WHO.removeprefix('select ')}]::text[]"
    async with transactions_in_turn(alone, tenant(A)) as turns:
        for _ in range(2):
            found = await fetch_value(turns, query(who))
            assert found == ["tenant", "aurora_app", str(A), "", "off"]
    with named("100 % sure"):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            actor = query("select current_setting('app.actor')")
            assert await fetch_value(turns, actor) == "100 % sure"
    await assert_clean(alone)


async def test_what_fails_takes_back_itself_and_none_before(alone: Pool, stage: str) -> None:
    with pytest.raises(NoteEmpty):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            await write(turns, "")
    assert seen(stage) == ["kept"]
    await assert_clean(alone)


async def test_an_exception_in_the_block_takes_back_the_last(alone: Pool, stage: str) -> None:
    with pytest.raises(KeyError):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            await write(turns, "taken back")
            raise KeyError
    assert seen(stage) == ["kept"]
    await assert_clean(alone)


async def test_a_lost_connection_loses_the_last_and_says_so(alone: Pool, stage: str) -> None:
    with pytest.raises(Unavailable):
        async with transactions_in_turn(alone, PLATFORM) as turns:
            await write(turns, "kept")
            await write(turns, "lost")
            with psycopg.connect(stage, autocommit=True) as owner:
                owner.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where application_name = 'turns' and datname = current_database()"
                )
            await write(turns, "never")
    assert seen(stage) == ["kept"]
