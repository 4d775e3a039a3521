"""Sends requests of two tenants through a pool and cancels them at random points."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg.pq import TransactionStatus

from aurora.db.pool import Connection, Pool
from aurora.db.transaction import Actor, tenant, transaction

# More requests at a time than connections, so that some are cancelled while they wait for one.
CONCURRENCY: Final = 8
# Of what a request takes in this crowd: cancellations fall on every part of it, and some miss.
LONGEST_PATIENCE: Final = 2.0
TRIALS: Final = 20
PROBE_EVERY: Final = 40

Open = Callable[[Pool, Actor], AbstractAsyncContextManager[Connection]]

ROWS: Final = """
select organization_id from widget_instances
union all select organization_id from usage_analytics
union all select id from organizations
"""
LEFTOVERS: Final = """
select current_user = session_user
  and coalesce(current_setting('app.organization_id', true), '') = ''
  and coalesce(current_setting('request.jwt.claims', true), '') = ''
"""


@dataclass
class Tally:
    """What became of the requests, and what must stay zero.

    Attributes:
        finished: Requests that were answered before they were cancelled.
        cancelled: Requests that were not.
        foreign: Rows that another tenant's request was given.
        missing: Answers without the tenant's own rows: a test that reads nothing proves nothing.
        dirty: Connections that the pool lent while somebody's identity or transaction was on them.
    """

    finished: int = 0
    cancelled: int = 0
    foreign: int = 0
    missing: int = 0
    dirty: int = 0


async def storm(
    pool: Pool,
    tenants: Sequence[UUID],
    *,
    requests: int,
    seed: int = 0,
    opened: Open = transaction,
) -> Tally:
    """Make the requests, each cancelled after a random time.

    Args:
        pool: The smaller, the harder: with one connection everybody follows everybody.
        tenants: Whose requests they are, in turn at random.
        requests: How many.
        seed: Of the random times.
        opened: How a transaction begins.
    """
    tally = Tally()
    chance = random.Random(seed)
    remaining = iter(range(requests))
    began = time.perf_counter()
    for number in range(TRIALS):
        await _ask(pool, tenants[number % len(tenants)], Tally(), opened)
    patience_s = (time.perf_counter() - began) / TRIALS * CONCURRENCY * LONGEST_PATIENCE

    async def keep_asking() -> None:
        for number in remaining:
            asked = asyncio.create_task(_ask(pool, chance.choice(tenants), tally, opened))
            if chance.random() < 0.5:
                await asyncio.wait({asked}, timeout=chance.random() * patience_s)
            else:
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
            if asked.cancel():
                tally.cancelled += 1
            with suppress(asyncio.CancelledError):
                await asked
            if number % PROBE_EVERY == 0:
                tally.dirty += not await _is_clean(pool)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(keep_asking())
    return tally


async def _ask(pool: Pool, organization: UUID, tally: Tally, opened: Open) -> None:
    async with opened(pool, tenant(organization)) as connection:
        rows = await (await connection.execute(ROWS)).fetchall()
        # A second statement: cancellations also fall between two.
        who = await (
            await connection.execute("select current_setting('app.organization_id')")
        ).fetchone()
        tally.foreign += sum(row != (organization,) for row in rows) + (who != (str(organization),))
        tally.missing += not rows
    tally.finished += 1


async def _is_clean(pool: Pool) -> bool:
    connection = await pool.getconn()
    try:
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            return False
        row = await (await connection.execute(LEFTOVERS)).fetchone()
        return row == (True,)
    finally:
        await pool.putconn(connection)
