"""Many processes may bring one new database to the present schema at the same moment."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import psycopg
import pytest
from tests.conftest import Postgres

from aurora.db.definitions import dump_schema
from aurora.db.migrator import migrate, packaged_migrations

MIGRATORS = 20


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a database that nobody has migrated."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    await postgres.clone("template0", name)
    yield postgres.dsn(name)
    await postgres.drop(name)


async def test_twenty_migrators_on_a_new_database_apply_each_file_once(
    empty: str, worker_dsn: str
) -> None:
    applied = await asyncio.gather(*(migrate(empty) for _ in range(MIGRATORS)))
    counts = Counter(migration.filename for some in applied for migration in some)
    assert counts == {migration.filename: 1 for migration in packaged_migrations()}
    async with await psycopg.AsyncConnection.connect(empty) as connection:
        found = await connection.execute(
            "select version, checksum from aurora.migrations order by version"
        )
        assert await found.fetchall() == [
            (migration.version, migration.checksum) for migration in packaged_migrations()
        ]
    assert dump_schema(empty) == dump_schema(worker_dsn)


async def test_new_databases_of_one_cluster_are_migrated_side_by_side(postgres: Postgres) -> None:
    # Roles belong to the cluster, so here they meet although the databases differ.
    names = [f"beside_{uuid.uuid4().hex[:12]}" for _ in range(4)]
    try:
        for name in names:
            await postgres.clone("template0", name)
        applied = await asyncio.gather(*(migrate(postgres.dsn(name)) for name in names))
        assert [len(some) for some in applied] == [len(packaged_migrations())] * len(names)
    finally:
        for name in names:
            await postgres.drop(name)
