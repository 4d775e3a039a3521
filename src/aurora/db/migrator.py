"""Takes a database to the present schema, one migration after the other, and remembers which.

Several may try at once: every file runs in one transaction behind an advisory lock that the
transaction holds, which works through PgBouncer in transaction mode as well.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import psycopg

from aurora.core.errors import AuroraError, Unavailable
from aurora.db.scripts import run_script

LOCK_TIMEOUT_MS: Final = 5_000
"""The longest a migration waits for a table; other queries queue up behind it meanwhile."""
STATEMENT_TIMEOUT_MS: Final = 600_000
TURN_TIMEOUT_MS: Final = 1_200_000
"""The longest a migrator waits for the others."""
CONNECT_TIMEOUT_S: Final = 10
ADVISORY_LOCK: Final = 0x4155524F5241
"""The key of the advisory lock: AURORA in ASCII."""

_FILE_NAME: Final = re.compile(r"(\d{14})_([a-z][a-z0-9_]*)\.sql")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_BREAKING: Final = "-- aurora: breaking"

_LEDGER: Final = """
create schema if not exists aurora;
revoke all on schema aurora from public;
create table if not exists aurora.migrations (
    version bigint primary key,
    name text not null,
    checksum text not null,
    breaking boolean not null,
    applied_at timestamptz not null default clock_timestamp(),
    duration_ms integer not null
);
comment on schema aurora is 'The migrator''s own: which migrations this database has had.';
comment on table aurora.migrations is 'One row for each applied migration file.';
"""

# The application checks the ledger as its login role or as the platform; both are made by the
# first migration, so the right to read can only be given afterwards.
_READERS: Final = ("aurora_app", "service_role")
_READERS_WITHOUT_RIGHT: Final = """
select quote_ident(rolname) from pg_roles where rolname = any(%s)
    and not (has_schema_privilege(oid, 'aurora', 'usage')
        and has_table_privilege(oid, 'aurora.migrations', 'select'))
"""

_SUPABASE_ROWS: Final = """
select s.version::bigint, s.name from supabase_migrations.schema_migrations s
where s.version ~ '^[0-9]{14}$' and not exists (
    select from aurora.migrations m where m.version = s.version::bigint)
"""


# Made as the Supabase CLI makes it. Only a database of Supabase has auth.identities.
_SUPABASE_LEDGER: Final = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
);
"""

_TELL_SUPABASE: Final = """
insert into supabase_migrations.schema_migrations (version, name, statements)
select m.version::text, m.name, array[%s]::text[] from aurora.migrations m where m.version = %s
on conflict (version) do nothing
"""


class MigrationChanged(AuroraError):
    """An applied migration is no longer the file that was applied."""

    status, code, title = 500, "migration_changed", "An applied migration was changed"


class BadMigration(AuroraError):
    """A migration file has a wrong name, or shares its version with another."""

    status, code, title = 500, "bad_migration", "A migration file is not well formed"


class SchemaTooNew(Unavailable):
    """The database has had a breaking migration that this release does not know."""

    code, title = "schema_too_new", "The database is newer than this release"


class SchemaOutdated(Unavailable):
    """The database lacks migrations of this release."""

    code, title = "schema_outdated", "The database lacks migrations; run `aurora migrate`"


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file.

    Attributes:
        version: The 14 digits of its file name, a UTC time.
        name: The rest of its file name.
        sql: Its text.
        checksum: SHA-256 of the text in hexadecimal, with line ends normalised.
        breaking: Releases without this file must not run on a database that has had it.
    """

    version: int
    name: str
    sql: str
    checksum: str
    breaking: bool

    @property
    def filename(self) -> str:
        """The name of its file."""
        return f"{self.version:014}_{self.name}.sql"


@dataclass(frozen=True, slots=True)
class _Applied:
    name: str
    checksum: str
    breaking: bool


def parse_migration(filename: str, text: str) -> Migration:
    """Return the migration that a file is.

    Raises:
        BadMigration: The name is not 14 digits, an underscore, and a snake_case name.
    """
    match = _FILE_NAME.fullmatch(filename)
    if not match:
        raise BadMigration(f"{filename}: expected <14 digits>_<snake_case>.sql")
    # A checkout may turn line ends around; that is not a change.
    sql = text.replace("\r\n", "\n")
    head: list[str] = []
    for line in sql.splitlines():
        if line.strip() and not line.startswith("--"):
            break
        head.append(line.rstrip())
    return Migration(
        version=int(match[1]),
        name=match[2],
        sql=sql,
        checksum=hashlib.sha256(sql.encode()).hexdigest(),
        breaking=_BREAKING in head,
    )


def packaged_migrations() -> tuple[Migration, ...]:
    """Return the migrations that this release carries, in their order.

    Raises:
        BadMigration: A file has a wrong name, or two have the same version.
    """
    folder = resources.files("aurora.db") / "migrations"
    # A checkout before the first migration has no such folder.
    files = list(folder.iterdir()) if folder.is_dir() else []
    return _ordered(
        parse_migration(file.name, file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".sql")
    )


def migration_skeleton(name: str, now: datetime) -> tuple[str, str]:
    """Return the file name and the first lines of a new migration.

    Args:
        name: What it does, in snake_case.
        now: The present time; aware.

    Raises:
        BadMigration: The name is not snake_case.
    """
    if not _NAME.fullmatch(name):
        raise BadMigration(f"{name!r} is not snake_case")
    text = (
        f"-- {name.replace('_', ' ').capitalize()}.\n"
        "--\n"
        f"-- Write `{_BREAKING}` on a line of its own here when the release before this one cannot "
        "run\n-- on the result. The file runs in one transaction; once released it never changes.\n"
        "\n"
    )
    return f"{now.astimezone(UTC):%Y%m%d%H%M%S}_{name}.sql", text


async def migrate(
    dsn: str,
    migrations: Iterable[Migration] | None = None,
    *,
    on_applied: Callable[[Migration], None] | None = None,
) -> list[Migration]:
    """Apply what the database lacks, and return what this call applied.

    Args:
        dsn: Of a role that may create schemas, roles, and tables.
        migrations: Instead of the packaged ones.
        on_applied: Called after each committed file.

    Raises:
        ScriptFailed: A file failed; nothing of it remains, what came before it stays.
        MigrationChanged: An applied file was changed since.
        SchemaTooNew: A breaking migration was applied that is not among `migrations`.
        Unavailable: Other migrators did not finish within TURN_TIMEOUT_MS.
    """
    wanted = _ordered(packaged_migrations() if migrations is None else migrations)
    applied_here: list[Migration] = []
    connection = await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_TIMEOUT_S
    )
    async with connection:
        already = await _prepare_ledger(connection, wanted)
        for migration in wanted:
            if migration.version not in already and await _apply(connection, migration, wanted):
                applied_here.append(migration)
                if on_applied:
                    on_applied(migration)
        await _let_application_read(connection)
    return applied_here


async def check_schema(
    connection: psycopg.AsyncConnection[Any], migrations: Iterable[Migration] | None = None
) -> None:
    """Return only when this release may run on the database.

    Args:
        connection: Of any role that may read the ledger.
        migrations: Instead of the packaged ones.

    Raises:
        SchemaTooNew: A breaking migration was applied that this release does not know.
        SchemaOutdated: A migration of this release was not applied.
        MigrationChanged: An applied file was changed since.
    """
    wanted = _ordered(packaged_migrations() if migrations is None else migrations)
    has_ledger = await _has_table(connection, "aurora.migrations")
    applied = await _read_ledger(connection) if has_ledger else {}
    _compare(applied, wanted)
    missing = [migration.filename for migration in wanted if migration.version not in applied]
    if missing:
        raise SchemaOutdated(
            f"{len(missing)} migrations are missing, first {missing[0]}; run `aurora migrate`",
            missing=missing,
        )


def _ordered(migrations: Iterable[Migration]) -> tuple[Migration, ...]:
    ordered = tuple(sorted(migrations, key=lambda migration: migration.version))
    for one, next_one in itertools.pairwise(ordered):
        if one.version == next_one.version:
            raise BadMigration(f"{one.filename} and {next_one.filename} have the same version")
    return ordered


async def _prepare_ledger(
    connection: psycopg.AsyncConnection[Any], wanted: tuple[Migration, ...]
) -> frozenset[int]:
    """Make the ledger when there is none, and return the versions that are in it."""
    async with connection.transaction():
        await _take_turn(connection)
        if not await _has_table(connection, "aurora.migrations"):
            await run_script(connection, _LEDGER, "the migrator's ledger")
        await _adopt_supabase(connection, wanted)
        applied = await _read_ledger(connection)
        _compare(applied, wanted)
        await _tell_supabase(connection, [one for one in wanted if one.version in applied])
    return frozenset(applied)


async def _apply(
    connection: psycopg.AsyncConnection[Any], migration: Migration, wanted: tuple[Migration, ...]
) -> bool:
    """Apply one file unless somebody else has meanwhile; return whether it was us."""
    async with connection.transaction():
        await _take_turn(connection)
        applied = await _read_ledger(connection)
        _compare(applied, wanted)
        if migration.version in applied:
            return False
        started = time.monotonic()
        await run_script(connection, migration.sql, migration.filename)
        # A file may leave another role or search_path behind, for itself and for the next one.
        await connection.execute("reset role")
        await connection.execute("reset all")
        duration_ms = round((time.monotonic() - started) * 1000)
        await _record(connection, migration, duration_ms)
        await _tell_supabase(connection, [migration])
    return True


async def _take_turn(connection: psycopg.AsyncConnection[Any]) -> None:
    """Wait for the other migrators, then limit what the transaction may wait for."""
    limits = (
        "select set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)"
    )
    await connection.execute(limits, (str(TURN_TIMEOUT_MS), str(TURN_TIMEOUT_MS)))
    try:
        await connection.execute("select pg_advisory_xact_lock(%s)", (ADVISORY_LOCK,))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
        raise Unavailable("Other migrations are still running; try again later") from error
    await connection.execute(limits, (str(LOCK_TIMEOUT_MS), str(STATEMENT_TIMEOUT_MS)))


async def _record(
    connection: psycopg.AsyncConnection[Any], migration: Migration, duration_ms: int
) -> None:
    await connection.execute(
        "insert into aurora.migrations (version, name, checksum, breaking, duration_ms) "
        "values (%s, %s, %s, %s, %s)",
        (migration.version, migration.name, migration.checksum, migration.breaking, duration_ms),
    )


async def _has_table(connection: psycopg.AsyncConnection[Any], name: str) -> bool:
    cursor = await connection.execute("select to_regclass(%s) is not null", (name,))
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _read_ledger(connection: psycopg.AsyncConnection[Any]) -> dict[int, _Applied]:
    cursor = await connection.execute(
        "select version, name, checksum, breaking from aurora.migrations order by version"
    )
    return {row[0]: _Applied(*row[1:]) for row in await cursor.fetchall()}


async def _adopt_supabase(
    connection: psycopg.AsyncConnection[Any], wanted: tuple[Migration, ...]
) -> None:
    """Take over what the Supabase CLI has applied; its table holds others' migrations as well."""
    if not await _has_table(connection, "supabase_migrations.schema_migrations"):
        return
    ours = {migration.version: migration for migration in wanted}
    cursor = await connection.execute(_SUPABASE_ROWS)
    for version, name in await cursor.fetchall():
        migration = ours.get(version)
        if not migration:
            continue
        if name not in (None, "", migration.name):
            raise MigrationChanged(
                f"Supabase applied {version} under the name {name}; here it is {migration.filename}"
            )
        await _record(connection, migration, duration_ms=0)


async def _tell_supabase(
    connection: psycopg.AsyncConnection[Any], applied: list[Migration]
) -> None:
    """Note on a database of Supabase what is applied, or its CLI would apply it once more."""
    if not await _has_table(connection, "supabase_migrations.schema_migrations"):
        if not await _has_table(connection, "auth.identities"):
            return
        await run_script(connection, _SUPABASE_LEDGER, "the ledger of the Supabase CLI")
    for migration in applied:
        await connection.execute(_TELL_SUPABASE, (migration.sql, migration.version))


async def _let_application_read(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.transaction():
        cursor = await connection.execute(_READERS_WITHOUT_RIGHT, (list(_READERS),))
        readers = [name for (name,) in await cursor.fetchall()]
        if readers:
            await _take_turn(connection)
        for reader in readers:
            await connection.execute(f"grant usage on schema aurora to {reader}")
            await connection.execute(f"grant select on aurora.migrations to {reader}")


def _compare(applied: dict[int, _Applied], wanted: tuple[Migration, ...]) -> None:
    """Raise when the ledger contradicts the files, or is ahead of them in a breaking way."""
    ours = {migration.version: migration for migration in wanted}
    for version, row in applied.items():
        migration = ours.get(version)
        if migration and migration.checksum != row.checksum:
            raise MigrationChanged(
                f"{migration.filename} was changed after it was applied; write a new migration"
            )
        if not migration and row.breaking:
            raise SchemaTooNew(
                f"The database has had {version}_{row.name}, which this release does not know; "
                "install the release that brought it, or a later one"
            )
