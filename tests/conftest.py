"""One real PostgreSQL for the whole session, and databases that each test has to itself.

By default it is the embedded PostgreSQL 18. AURORA_TEST_POSTGRES=15 takes Debian's programs of
that version, AURORA_TEST_DATABASE_URL any server on which databases may be made.

All workers of pytest-xdist share the server, which the first one that needs it starts. The process
that began the session stops it; should that process die, a watchdog does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from aurora.db.embedded import EmbeddedServer
from aurora.db.migrator import migrate
from aurora.db.pool import Pool, open_pool

TEST_SETTINGS = {
    # Nothing a test stores has to outlive it.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
}
STOP_TIMEOUT_S = 30.0
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
LOGIN_ROLE = "aurora_app"

# How fast a machine is decides no test.
settings.register_profile("aurora", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aurora")

_FOLDER: pytest.StashKey[Path] = pytest.StashKey()

# Waits for the process that began the session, then stops the server and clears up. It is told the
# server's folder only, and reads the process id where PostgreSQL writes it.
_WATCHDOG = """
while kill -0 "$1" 2>/dev/null && [ -d "$2" ]; do sleep 1; done
pid="$2/home/postgres/postmaster.pid"
[ -f "$pid" ] && kill -QUIT "$(head -n 1 "$pid")"
rm -rf "$2"
"""


@dataclass(frozen=True)
class Postgres:
    """The session's server: an administrator's DSN of any database on it."""

    admin_dsn: str

    def dsn(self, database: str, user: str | None = None) -> str:
        """Return the DSN of a database, for the administrator or another user."""
        other: dict[str, Any] = {"user": user} if user else {}
        return make_conninfo(self.admin_dsn, dbname=database, **other)

    async def run(self, statement: sql.Composed) -> None:
        """Run one statement that cannot stand in a transaction."""
        async with await psycopg.AsyncConnection.connect(
            self.dsn("postgres"), autocommit=True
        ) as connection:
            await connection.execute(statement)

    async def clone(self, template: str, name: str) -> None:
        """Make a database that is a copy of another."""
        await self.run(
            # As files: through the log, 600 files of 20 KB cost PostgreSQL three times as much.
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )

    async def drop(self, name: str) -> None:
        """Drop a database even if a test left connections behind."""
        await self.run(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


def _in_memory() -> Path | None:
    """Return where files are kept in memory, if there is room for a session's databases.

    Each test's database is 600 files: copied on a disk they take a second, in memory 60 ms.
    """
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if is_roomy and os.access(MEMORY, os.W_OK) else None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the session's server, or take the one that the workers are told."""
    told = getattr(config, "workerinput", {}).get("aurora_folder")
    if told:
        config.stash[_FOLDER] = Path(told)
        return
    folder = Path(tempfile.mkdtemp(prefix="aurora-test-", dir=_in_memory()))
    # Under root PostgreSQL runs as an account of its own, which must pass through.
    folder.chmod(0o711)
    if config.option.basetemp is None:
        config.option.basetemp = folder / "tmp"
    config.stash[_FOLDER] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the session's server is."""
    node.workerinput["aurora_folder"] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the session started, whoever started it and however its workers ended."""
    folder = config.stash.get(_FOLDER, None)
    if folder is None or hasattr(config, "workerinput"):
        return
    home, template = folder / "home", folder / "template"
    if (given := os.environ.get("AURORA_TEST_DATABASE_URL")) and template.exists():
        with psycopg.connect(given, autocommit=True) as admin:
            name = sql.Identifier(template.read_text())
            admin.execute(sql.SQL("drop database {} with (force)").format(name))
    running = EmbeddedServer.find_running(home) if home.is_dir() else None
    if running:
        os.kill(running.pid, signal.SIGQUIT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while EmbeddedServer.find_running(home) and time.monotonic() < deadline:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    version = os.environ.get("AURORA_TEST_POSTGRES")
    if not version:
        return None
    folder = Path(f"/usr/lib/postgresql/{version}/bin")
    if not folder.is_dir():
        pytest.exit(f"AURORA_TEST_POSTGRES={version}, but there is no {folder}", returncode=3)
    return folder


@contextmanager
def _one_worker_at_a_time(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def session_folder(pytestconfig: pytest.Config) -> Path:
    """A folder that all workers of the session share."""
    return pytestconfig.stash[_FOLDER]


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Postgres:
    """The session's server."""
    if given := os.environ.get("AURORA_TEST_DATABASE_URL"):
        return Postgres(given)
    home = session_folder / "home"
    with _one_worker_at_a_time(session_folder):
        is_first = not home.exists()
        server = EmbeddedServer.start(home, settings=TEST_SETTINGS, binaries=_binaries())
        if is_first:
            began = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            subprocess.Popen(
                ["/bin/sh", "-c", _WATCHDOG, "sh", str(began), str(session_folder)],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode = 0  # It outlives this process; nobody will wait for it.
    return Postgres(server.dsn("postgres"))


@pytest.fixture(scope="session")
async def template(postgres: Postgres, session_folder: Path) -> str:
    """The name of the database that all others are copies of: every migration applied."""
    file = session_folder / "template"
    with _one_worker_at_a_time(session_folder):
        if not file.exists():
            name = f"template_{uuid.uuid4().hex[:12]}"
            await postgres.clone("template0", name)
            await migrate(postgres.dsn(name))
            file.write_text(name)
    return file.read_text()


@pytest.fixture(scope="session")
def template_dsn(postgres: Postgres, template: str) -> str:
    """The DSN of the template. Look, and leave: no copy can be made while you are in."""
    return postgres.dsn(template)


@pytest.fixture(scope="session")
async def worker_dsn(postgres: Postgres, template: str) -> AsyncIterator[str]:
    """The DSN of this worker's copy, for tests that leave nothing behind."""
    name = f"worker_{uuid.uuid4().hex[:12]}"
    await postgres.clone(template, name)
    yield postgres.dsn(name)
    await postgres.drop(name)


@pytest.fixture
async def database(postgres: Postgres, template: str) -> AsyncIterator[str]:
    """The DSN of a fresh copy for one test: for what commits, and for concurrency."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await postgres.clone(template, name)
    yield postgres.dsn(name)
    await postgres.drop(name)


@pytest.fixture
async def connection(worker_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """A connection in a transaction that is rolled back after the test."""
    async with (
        await psycopg.AsyncConnection.connect(worker_dsn, autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a fresh copy, logged in as the application is once its role exists."""
    async with await psycopg.AsyncConnection.connect(database) as probe:
        found = await probe.execute("select 1 from pg_roles where rolname = %s", (LOGIN_ROLE,))
        has_login = await found.fetchone()
    dsn = make_conninfo(database, user=LOGIN_ROLE) if has_login else database
    pool = await open_pool(dsn, name="tests")
    yield pool
    await pool.close()
