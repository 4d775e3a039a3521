"""Which database an app runs on: your own, or the embedded one that is started for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from aurora.apps.settings import Settings
from aurora.core.errors import Unavailable
from aurora.db.embedded import in_use
from aurora.db.migrator import Migration, migrate
from aurora.integrations import jobs

APPLICATION_LOGIN = "aurora_app"
CONNECT_TIMEOUT_S = 10


class DatabaseUnreachable(Unavailable):
    """No PostgreSQL answers at AURORA_DATABASE_URL."""

    code, title = "database_unreachable", "The database cannot be reached"


@dataclass(frozen=True, slots=True)
class Database:
    """Where the application logs in, and where the owner of the schema does."""

    dsn: str
    owner_dsn: str
    is_embedded: bool


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """Give a database that answers, for as long as the block runs.

    The embedded server is shared with other processes, and the last one that leaves stops it.

    Args:
        settings: Of this process.

    Raises:
        DatabaseUnreachable: Your own PostgreSQL does not answer; the message hides the password.
        AuroraError: The embedded server cannot start, in one clear line.
    """
    if settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
        owner = settings.migration_database_url
        _check_reachable(dsn)
        yield Database(dsn, dsn if owner is None else owner.get_secret_value(), is_embedded=False)
        return
    with in_use(settings.home) as server:
        yield Database(server.dsn(user=APPLICATION_LOGIN), server.dsn(), is_embedded=True)


async def prepare(
    where: Database, *, on_applied: Callable[[Migration], None] | None = None
) -> list[Migration]:
    """Bring the schema and the job queue up to date; return the migrations this call applied."""
    applied = await migrate(where.owner_dsn, on_applied=on_applied)
    await jobs.install(where.owner_dsn)
    return applied


def _check_reachable(dsn: str) -> None:
    async def connect() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)
        await connection.close()

    try:
        asyncio.run(connect())
    except psycopg.Error as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no answer"]
        raise DatabaseUnreachable(f"AURORA_DATABASE_URL: {lines[-1].strip()}") from error
