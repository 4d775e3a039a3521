"""Many writers on one chain, and a billing run among them: no gap, no deadlock, no lost event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import date
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.features.audit.stage import OPERATOR, a_key, an_organization, recorded, verified

from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices.billing_run import run_billing
from aurora.features.keys.service import revoke_api_key
from aurora.features.subscriptions.service import start_subscription
from aurora.integrations.jobs import install

WRITERS = 8
CHANGES = 25


@pytest.fixture
async def wide(database: str) -> AsyncIterator[Pool]:
    """A pool with a connection for everybody."""
    pool = await open_pool(make_conninfo(database, user="aurora_app"), max_size=16, name="wide")
    yield pool
    await pool.close()


async def rename(conn: Connection, organization: UUID, name: str) -> None:
    await conn.execute("update organizations set name = %s where id = %s", (name, organization))


async def subscribe(pool: Pool, organization: UUID) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await start_subscription(
            conn, organization_id=organization, plan_id="basic", at=date(2026, 1, 15)
        )


async def test_eight_writers_and_a_billing_run_share_one_chain(wide: Pool, database: str) -> None:
    await install(database)
    organization = await an_organization(wide)
    keys = [(await a_key(wide, organization)).record.id for _ in range(WRITERS)]
    others = [await an_organization(wide) for _ in range(3)]
    for subscriber in (organization, *others):
        await subscribe(wide, subscriber)

    async def write(number: int) -> None:
        chance = random.Random(number)
        for _ in range(CHANGES):
            async with transaction(wide, OPERATOR) as conn:
                # Rows of others, in an order of chance, after the first change of this one: were
                # the head locked at the change and not at the commit, two of these would deadlock.
                for key in sorted(chance.sample(keys, 2)):
                    await conn.execute(
                        "update api_keys set name = %s where id = %s", (f"{chance.random()}", key)
                    )
                if chance.random() < 0.2:
                    await rename(conn, organization, f"Hotel {chance.random()}")

    async def bill() -> int:
        return sum([len((await run_billing(wide, as_of=date(2026, 11, 1))).issued) for _ in "12"])

    writing = asyncio.gather(*map(write, range(WRITERS)))
    first, second = await asyncio.gather(bill(), bill())
    await writing
    events = await recorded(wide, organization)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    renamed = [e for e in events if e["action"] == "api_key.updated"]
    assert len(renamed) == WRITERS * CHANGES * 2
    # 10 months from January to October, for each of the four, whichever run found them.
    issued = [e for e in events if e["action"] == "invoice.issued"]
    assert (first + second, len(issued)) == (40, 10)
    assert (await verified(wide)).broken == []


async def test_transactions_that_touch_many_chains_in_any_order_do_not_deadlock(
    wide: Pool, database: str
) -> None:
    organizations = [await an_organization(wide) for _ in range(6)]
    keys = {o: [(await a_key(wide, o)).record.id for _ in range(WRITERS)] for o in organizations}

    async def write(number: int) -> None:
        chance = random.Random(number)
        for _ in range(CHANGES):
            async with transaction(wide, OPERATOR) as conn:
                for organization in chance.sample(organizations, 4):
                    # Each writer its own key, so that only the chains are shared.
                    await conn.execute(
                        "update api_keys set name = %s where id = %s",
                        (f"{chance.random()}", keys[organization][number]),
                    )

    await asyncio.gather(*map(write, range(WRITERS)))
    assert (await verified(wide)).broken == []
    async with await psycopg.AsyncConnection.connect(database) as owner:
        found = await owner.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
        assert await found.fetchone() == (0,)


async def test_a_head_locked_at_the_change_would_deadlock(wide: Pool, database: str) -> None:
    """The mutant: sealing at once, as an ordinary trigger would."""
    organization = await an_organization(wide)
    one, other = [(await a_key(wide, organization)).record.id for _ in range(2)]
    first_changed = asyncio.Event()
    at_once = "set constraints app.audit_pending_seal immediate"

    async def change(conn: Connection, key: UUID) -> None:
        await conn.execute("update api_keys set name = 'x' where id = %s", (key,))

    async def play(immediately: bool) -> list[object]:
        async def first() -> None:
            async with transaction(wide, PLATFORM) as conn:
                if immediately:
                    await conn.execute(at_once)
                await change(conn, one)
                first_changed.set()
                await asyncio.sleep(0.2)
                await change(conn, other)

        async def second() -> None:
            await asyncio.wait_for(first_changed.wait(), 5)
            async with transaction(wide, PLATFORM) as conn:
                if immediately:
                    await conn.execute(at_once)
                await change(conn, other)

        first_changed.clear()
        return [e for e in await asyncio.gather(first(), second(), return_exceptions=True) if e]

    assert len(await play(True)) == 1
    assert await play(False) == []
    assert (await verified(wide)).broken == []


async def test_a_change_waits_only_for_a_commit_and_not_for_a_transaction(wide: Pool) -> None:
    """Contention is as short as a commit: an open transaction keeps nobody from the chain."""
    organization = await an_organization(wide)
    key = (await a_key(wide, organization)).record.id
    async with transaction(wide, PLATFORM) as conn:
        await rename(conn, organization, "Still open")
        async with asyncio.timeout(5), transaction(wide, PLATFORM) as other:
            await revoke_api_key(other, organization, key)
    actions = [event["action"] for event in await recorded(wide, organization)]
    assert actions[-2:] == ["api_key.revoked", "organization.updated"]


async def test_a_transaction_with_thousands_of_changes_is_sealed_in_linear_time(wide: Pool) -> None:
    organization = await an_organization(wide)
    async with transaction(wide, PLATFORM, statement_timeout_ms=20_000) as conn:
        await conn.execute(
            "insert into users (organization_id, email, name)"
            " select %s, n || '@hotel.example', 'Kari' from generate_series(1, 5000) n",
            (organization,),
        )
    found = await verified(wide, organization_id=organization)
    assert (found.events, found.broken) == (5001, [])


async def test_nothing_is_left_waiting_after_the_commit(wide: Pool, database: str) -> None:
    await a_key(wide, await an_organization(wide))
    async with await psycopg.AsyncConnection.connect(database) as owner:
        assert await (await owner.execute("select count(*) from app.audit_pending")).fetchone() == (
            0,
        )
