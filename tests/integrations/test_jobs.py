"""Jobs are enqueued by a function of ours, which writes what the library itself writes."""

from __future__ import annotations

from typing import Any

import psycopg
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from psycopg.rows import dict_row

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.integrations import jobs


async def test_a_job_is_the_same_row_as_the_librarys_own(pool: Pool, database: str) -> None:
    # Twice, as at every start: a second installation finds our function and leaves the queue whole.
    await jobs.install(database)
    await jobs.install(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await jobs._queries(PsycopgDriver(owner)).enqueue("tell", b"one")
        async with transaction(pool, PLATFORM) as conn:
            await jobs.enqueue(conn, "tell", b"one")
        for table in ("pgqueuer", "pgqueuer_log"):
            theirs, ours = await rows_of(owner, table)
            assert ours == theirs, table


async def rows_of(owner: psycopg.AsyncConnection[Any], table: str) -> list[dict[str, Any]]:
    """Both rows without what has to differ: ids and the time."""
    async with owner.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(f"select * from pgqueuer.{table} order by id".encode())
        found = await cursor.fetchall()
    differs = {"id", "job_id", "created", "updated", "heartbeat", "execute_after"}
    return [{name: v for name, v in row.items() if name not in differs} for row in found]
