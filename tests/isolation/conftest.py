"""A database with two organizations in it, and pools of a single connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.isolation.matrix import furnish

from aurora.db.pool import Pool, open_pool
from aurora.integrations import jobs

LOGIN = "aurora_app"
WORLD = ("common.sql", "world.sql", "unfolded.sql", "attempts.sql")


@pytest.fixture
async def world(database: str) -> str:
    """The DSN, as administrator, of a fresh database with organizations A and B."""
    await jobs.install(database)
    with psycopg.connect(database) as admin:
        furnish(admin, *WORLD)
    return database


@pytest.fixture
async def alone(world: str) -> AsyncIterator[Pool]:
    """A pool of one connection: what somebody leaves on it, the next one meets."""
    pool = await open_pool(make_conninfo(world, user=LOGIN), max_size=1, name="isolation")
    yield pool
    await pool.close()
