"""Builds a database from the readable definitions, and writes down what a database is.

tables.sql and logic.sql are the truth, migrations are what takes a database there; a test compares
the two by `dump_schema`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from aurora.db.binaries import Binaries, NoPostgres, packaged_folder
from aurora.db.lexer import statements
from aurora.db.scripts import run_script

DUMP_TIMEOUT_S: Final = 120
CONNECT_TIMEOUT_S: Final = 10
# What others keep in the database: ledgers and the job queue, which installs itself.
LEFT_OUT: Final = ("aurora", "pgqueuer", "supabase_migrations")

_PREAMBLE: Final = (("set",), ("select", "pg_catalog"))
_VERSION_FACTOR: Final = 10_000


def platform_files() -> tuple[Path, ...]:
    """Return the files that every room stands on: roles, auth, schema app; in their order."""
    folder = resources.files("aurora.db") / "platform"
    return tuple(sorted(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".sql")))


async def build(connection: psycopg.AsyncConnection[Any], files: Sequence[Path]) -> None:
    """Run files of definitions in their order, all or nothing.

    Args:
        connection: Of a role that may create what the files define.
        files: The platform's and the rooms'.

    Raises:
        ScriptFailed: Names the file, the line, and what PostgreSQL said.
    """
    async with connection.transaction():
        for file in files:
            name = f"{file.parent.name}/{file.name}"
            await run_script(connection, file.read_text("utf-8"), name)


def dump_schema(dsn: str) -> str:
    """Return the schema of a database as sorted statements: equal databases give equal text.

    Owners, comments in the dump, and session settings are left out; rights are kept.

    Raises:
        NoPostgres: No pg_dump here is as new as the server.
        RuntimeError: pg_dump failed.
    """
    with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        major = connection.info.server_version // _VERSION_FACTOR
    parts = conninfo_to_dict(dsn)
    # A password on the command line could be read by every user of the machine.
    password = parts.pop("password", None)
    command = [str(_dump_program(major)), "--schema-only", "--no-owner"]
    command += [f"--exclude-schema={schema}" for schema in LEFT_OUT]
    command += ["--dbname", make_conninfo("", **parts)]
    done = subprocess.run(  # noqa: S603
        command,
        env={**os.environ, **({"PGPASSWORD": str(password)} if password else {})},
        capture_output=True,
        text=True,
        timeout=DUMP_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"pg_dump: {done.stderr.strip()}")
    return normalise(done.stdout)


def normalise(dump: str) -> str:
    r"""Return the statements of a dump, sorted, one after the other.

    Gone are comments, blank lines, session settings, and the random `\restrict` tokens. The order
    in which rights were granted is kept by PostgreSQL but means nothing, hence the sorting.
    """
    sql = "\n".join(
        line for line in dump.splitlines() if not line.startswith((r"\restrict", r"\unrestrict"))
    )
    kept = [
        statement.text
        for statement in statements(sql)
        if statement.words[:1] not in _PREAMBLE and statement.words[:2] not in _PREAMBLE
    ]
    return "".join(f"{text};\n" for text in sorted(kept))


def _dump_program(server_major: int) -> Path:
    """Return a pg_dump that is at least as new as the server."""
    for folder in _folders_with_programs():
        try:
            binaries = Binaries.at(folder)
        except NoPostgres:
            continue
        if binaries.major >= server_major and (folder / "pg_dump").exists():
            return folder / "pg_dump"
    raise NoPostgres(f"No pg_dump for PostgreSQL {server_major}; put one in PATH")


def _folders_with_programs() -> Iterator[Path]:
    with contextlib.suppress(NoPostgres):
        yield packaged_folder()
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    # Debian installs the programs of each major version beside each other, outside of PATH.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
