"""A transaction says who acts, and nobody else ever acts in its place."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from aurora.core.errors import Conflict, Unavailable
from aurora.db.errors import DatabaseBusy, DatabaseUnavailable
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Actor, Connection, person, tenant, transaction

A, B = UUID(int=0xA), UUID(int=0xB)
ANON = Actor("anon")

WHO = (
    "select current_user, session_user, coalesce(current_setting('app.organization_id', true), ''),"
    " coalesce(current_setting('request.jwt.claims', true), ''),"
    " current_setting('transaction_read_only')"
)


class NoteEmpty(Conflict):
    code, title, constraints = "note_empty", "A note says something", ("notes_body_check",)


class NoteForbidden(Conflict):
    code, title = "note_forbidden", "Not this note"


@pytest.fixture
async def alone(stage_login: str) -> AsyncIterator[Pool]:
    """A pool of one connection: whatever somebody leaves on it, the next one finds."""
    pool = await open_pool(stage_login, max_size=1, name="alone")
    yield pool
    await pool.close()


async def row_of(connection: Connection, query: str) -> tuple[object, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row
    return row


async def bodies(connection: Connection) -> list[str]:
    cursor = await connection.execute("select body from stage.notes order by body")
    return [body for (body,) in await cursor.fetchall()]


async def write(connection: Connection, organization_id: UUID, body: str) -> None:
    await connection.execute(
        "insert into stage.notes (organization_id, body) values (%s, %s)", (organization_id, body)
    )


async def assert_clean(pool: Pool) -> None:
    """Look at the raw connection: nobody acts on it, and no transaction is open."""
    async with pool.connection() as connection:
        assert connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF
        found = await row_of(connection, WHO)
        assert found == ("aurora_app", "aurora_app", "", "", "off")


@pytest.mark.parametrize(
    ("actor", "user", "organization_id"),
    [(PLATFORM, "service_role", ""), (tenant(A), "tenant", str(A)), (ANON, "anon", "")],
)
async def test_the_actor_acts_and_is_gone_afterwards(
    alone: Pool, actor: Actor, user: str, organization_id: str
) -> None:
    async with transaction(alone, actor) as connection:
        assert await row_of(connection, WHO) == (user, "aurora_app", organization_id, "", "off")
    await assert_clean(alone)


async def test_a_person_brings_claims_however_they_are_written(alone: Pool) -> None:
    auth_id = uuid4()
    async with transaction(alone, person(auth_id, name='O\'Brien \\ "x" %s; æ')) as connection:
        found = await row_of(
            connection,
            "select current_user, auth.uid(),"
            " current_setting('request.jwt.claims')::json ->> 'name',"
            " current_setting('request.jwt.claims')::json ->> 'role'",
        )
    assert found == ("authenticated", auth_id, 'O\'Brien \\ "x" %s; æ', "authenticated")
    await assert_clean(alone)


async def test_a_claim_cannot_replace_who_the_person_is() -> None:
    auth_id = uuid4()
    claims = person(auth_id, sub="somebody", role="service_role").claims
    assert claims == {"sub": str(auth_id), "role": "authenticated"}


async def test_a_member_can_act_for_the_organization(alone: Pool) -> None:
    member = uuid4()
    async with transaction(alone, tenant(A, member)) as connection:
        found = await row_of(connection, "select current_setting('app.user_id')")
    assert found == (str(member),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Actor("tenant"),
        lambda: Actor("anon", organization_id=A),
        lambda: Actor("postgres"),  # type: ignore[arg-type]
        lambda: Actor("tenant", organization_id="'; reset role"),  # type: ignore[arg-type]
        lambda: Actor("tenant", organization_id=A, user_id="x"),  # type: ignore[arg-type]
        lambda: Actor("anon", user_id=A),
    ],
)
def test_an_actor_is_one_of_four_and_complete(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"role|organization|member"):
        make()


async def test_a_tenant_sees_its_own_rows_and_no_others(alone: Pool) -> None:
    async with transaction(alone, PLATFORM) as connection:
        await write(connection, A, "of a")
        await write(connection, B, "of b")
    async with transaction(alone, tenant(A)) as connection:
        assert await bodies(connection) == ["of a"]
    async with transaction(alone, tenant(B)) as connection:
        assert await bodies(connection) == ["of b"]


async def test_the_login_role_alone_may_do_nothing(alone: Pool) -> None:
    async with alone.connection() as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await bodies(connection)


async def test_an_exception_rolls_back_and_leaves_as_it_is(alone: Pool) -> None:
    async def write_and_fail() -> None:
        async with transaction(alone, PLATFORM) as connection:
            await write(connection, A, "lost")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with transaction(alone, PLATFORM) as connection:
        assert await bodies(connection) == []
    await assert_clean(alone)


async def test_a_savepoint_gives_up_only_its_part(alone: Pool) -> None:
    async with transaction(alone, PLATFORM) as connection:
        await write(connection, A, "kept")
        with pytest.raises(psycopg.errors.CheckViolation):
            async with connection.transaction():
                await write(connection, A, "")
    async with transaction(alone, PLATFORM) as connection:
        assert await bodies(connection) == ["kept"]


async def test_a_reader_cannot_write(alone: Pool) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        async with transaction(alone, PLATFORM, read_only=True) as connection:
            await write(connection, A, "never")
    await assert_clean(alone)


async def test_a_violated_constraint_is_the_error_of_that_name(alone: Pool) -> None:
    with pytest.raises(NoteEmpty) as refusal:
        async with transaction(alone, PLATFORM) as connection:
            await write(connection, A, "")
    assert refusal.value.detail == "A note says something"
    assert isinstance(refusal.value.__cause__, psycopg.errors.CheckViolation)


async def test_a_refusal_of_our_sql_is_the_error_of_that_code(alone: Pool) -> None:
    with pytest.raises(NoteForbidden) as refusal:
        async with transaction(alone, PLATFORM) as connection:
            await connection.execute(
                "do $$ begin raise exception using errcode = 'AU000',"
                " message = 'note_forbidden', detail = 'Ask its owner.'; end $$"
            )
    assert refusal.value.detail == "Ask its owner."


async def test_what_nobody_foresaw_stays_a_database_error(alone: Pool) -> None:
    for fault in (
        "select 1 / 0",
        "do $$ begin raise exception using errcode = 'AU000', message = 'no_such_code'; end $$",
        "insert into stage.notes (organization_id) values (null)",
    ):
        with pytest.raises(psycopg.Error) as failure:
            async with transaction(alone, PLATFORM) as connection:
                await connection.execute(fault)
        assert not isinstance(failure.value, Unavailable)


async def test_a_slow_statement_ends_as_busy(alone: Pool) -> None:
    with pytest.raises(DatabaseBusy):
        async with transaction(alone, PLATFORM, statement_timeout_ms=20) as connection:
            await connection.execute("select pg_sleep(5)")
    async with alone.connection() as connection:
        assert await row_of(connection, "show statement_timeout") == ("0",)


async def test_a_swallowed_error_is_not_taken_for_a_commit(alone: Pool) -> None:
    async def write_and_swallow() -> None:
        async with transaction(alone, PLATFORM) as connection:
            with contextlib.suppress(psycopg.errors.CheckViolation):
                await write(connection, A, "")

    with pytest.raises(RuntimeError, match="swallowed"):
        await write_and_swallow()
    await assert_clean(alone)


async def test_a_service_that_commits_is_found_out(alone: Pool) -> None:
    with pytest.raises(RuntimeError, match="never commit"):
        async with transaction(alone, PLATFORM) as connection:
            await connection.commit()
    await assert_clean(alone)


async def test_a_lost_connection_is_unavailable_and_replaced(alone: Pool, stage: str) -> None:
    async def lose_it() -> None:
        async with transaction(alone, PLATFORM) as connection:
            await terminate(stage, connection.info.backend_pid)
            await bodies(connection)

    with pytest.raises(DatabaseUnavailable):
        await lose_it()
    async with transaction(alone, PLATFORM) as connection:
        assert await bodies(connection) == []


async def test_a_connection_lost_while_idle_costs_no_request(alone: Pool, stage: str) -> None:
    async with alone.connection() as connection:
        pid = connection.info.backend_pid
    await terminate(stage, pid)
    async with transaction(alone, PLATFORM) as connection:
        assert connection.info.backend_pid != pid


async def test_an_exhausted_pool_is_unavailable(alone: Pool) -> None:
    alone.timeout = 0.05
    async with transaction(alone, PLATFORM):
        with pytest.raises(DatabaseUnavailable):
            async with transaction(alone, PLATFORM):
                pass


async def test_no_server_is_unavailable(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurora.db.pool.OPEN_TIMEOUT_S", 0.3)
    with pytest.raises(DatabaseUnavailable):
        await open_pool(make_conninfo(stage, port=1), name="nowhere")


async def test_no_statement_is_prepared_so_pgbouncer_can_stand_between(alone: Pool) -> None:
    async with transaction(alone, PLATFORM) as connection:
        for n in range(10):
            await connection.execute("select %s::int", (n,))
        assert await row_of(connection, "select count(*) from pg_prepared_statements") == (0,)


async def terminate(owner_dsn: str, pid: int) -> None:
    async with await psycopg.AsyncConnection.connect(owner_dsn, autocommit=True) as owner:
        await owner.execute("select pg_terminate_backend(%s, 5000)", (pid,))


async def note_and_look(pool: Pool, organization_id: UUID, number: int) -> None:
    """Write and read as a tenant, and die if anybody else's row or identity shows."""
    async with transaction(pool, tenant(organization_id)) as connection:
        await write(connection, organization_id, f"{organization_id} {number}")
        found = await row_of(connection, WHO)
        assert found[0] == "tenant"
        assert found[2] == str(organization_id)
        assert all(body.startswith(str(organization_id)) for body in await bodies(connection))


async def test_no_cancellation_leaves_anything_behind(alone: Pool) -> None:
    """500 tasks of two tenants share one connection and are cancelled wherever they are."""
    chance = random.Random(20261)
    tasks = [
        asyncio.create_task(note_and_look(alone, chance.choice((A, B)), number))
        for number in range(500)
    ]
    for task in tasks:
        # Some are struck while they wait, the front one at every stage of its work.
        if chance.random() < 0.6:
            asyncio.get_running_loop().call_later(chance.random() * 0.6, task.cancel)
            if chance.random() < 0.3:
                asyncio.get_running_loop().call_later(chance.random() * 0.6, task.cancel)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    surprises = [
        outcome
        for outcome in outcomes
        if outcome is not None and not isinstance(outcome, asyncio.CancelledError)
    ]
    assert surprises == []
    finished = sum(outcome is None for outcome in outcomes)
    assert 0 < finished < 500
    await assert_clean(alone)
    async with transaction(alone, PLATFORM) as connection:
        assert len(await bodies(connection)) >= finished


class StruckAt:
    """Awaits some work and cancels the task that does so where it waits for the n-th time."""

    def __init__(self, work: Coroutine[object, None, None], *strikes: int) -> None:
        self.work = work
        self.strikes = strikes
        self.waits = 0

    def __await__(self) -> Generator[Any, None, None]:
        inner = self.work.__await__()
        resume: Callable[[], Any] = partial(inner.send, None)
        while True:
            try:
                waited_for = resume()
            except StopIteration:
                return
            if self.waits in self.strikes:
                task = asyncio.current_task()
                assert task
                task.cancel()
            self.waits += 1
            try:
                yield waited_for
            except BaseException as thrown:  # noqa: BLE001 (the work decides what it means)
                resume = partial(inner.throw, thrown)
            else:
                resume = partial(inner.send, None)


async def waits_of(work: Coroutine[object, None, None], *strikes: int) -> int:
    struck = StruckAt(work, *strikes)

    async def run() -> None:
        await struck

    task = asyncio.create_task(run())
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() or not strikes
    return struck.waits


async def test_a_task_cancelled_at_any_await_returns_a_clean_connection(alone: Pool) -> None:
    total = await waits_of(note_and_look(alone, A, 0))
    assert total >= 5
    for first in range(total):
        # Once, and again while it cleans up after the first.
        for strikes in ((first,), (first, first + 1), (first, first + 2)):
            await waits_of(note_and_look(alone, A, 1), *strikes)
            await assert_clean(alone)
            async with transaction(alone, tenant(B)) as connection:
                assert await bodies(connection) == []


async def test_a_task_cancelled_while_it_queues_leaves_the_queue(alone: Pool) -> None:
    async def queued(*strikes: int) -> int:
        async with transaction(alone, tenant(B)) as connection:
            waiting = asyncio.create_task(waits_of(note_and_look(alone, A, 0), *strikes))
            await asyncio.sleep(0.005)
            await bodies(connection)
        return await waiting

    for strike in range(await queued()):
        await queued(strike)
        await queued(strike, strike + 1)
        await assert_clean(alone)
