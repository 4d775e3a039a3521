"""Migrations: each exactly once, whole or not at all, and never a changed one."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest

from aurora.db.migrator import (
    BadMigration,
    Migration,
    MigrationChanged,
    SchemaOutdated,
    SchemaTooNew,
    check_schema,
    migrate,
    migration_skeleton,
    packaged_migrations,
    parse_migration,
)
from aurora.db.scripts import ScriptFailed

# Far from any that the package carries, so that both can be in one ledger.
ONE = parse_migration(
    "30000101000001_one.sql", "create table one (n int);\ninsert into one values (1);\n"
)
TWO = parse_migration("30000101000002_two.sql", "-- Two.\nalter table one add m int;\n")
BREAKING = parse_migration(
    "30000101000003_three.sql", "-- Three.\n-- aurora: breaking\n\nalter table one drop n;\n"
)


async def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await (await connection.execute(query)).fetchall()


async def run(dsn: str, script: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(script)


async def check(dsn: str, *migrations: Migration) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await check_schema(connection, migrations)


async def test_what_is_missing_is_applied_once_and_in_order(database: str) -> None:
    seen: list[Migration] = []
    assert await migrate(database, [TWO, ONE], on_applied=seen.append) == [ONE, TWO]
    assert seen == [ONE, TWO]
    assert await migrate(database, [ONE, TWO]) == []
    rows = await ask(
        database,
        "select version, name, checksum, breaking, applied_at is not null, duration_ms >= 0"
        " from aurora.migrations where version >= 30000000000000 order by version",
    )
    assert rows == [(m.version, m.name, m.checksum, False, True, True) for m in (ONE, TWO)]


async def test_a_file_from_a_branch_merged_late_is_applied_too(database: str) -> None:
    await migrate(database, [ONE])
    late = parse_migration("30000101000000_late.sql", "create table late ();")
    assert await migrate(database, [late, ONE]) == [late]


async def test_twenty_migrators_at_once_apply_each_file_once(database: str) -> None:
    files = [ONE, TWO, parse_migration("30000101000004_four.sql", "select pg_sleep(0.05)")]
    applied = await asyncio.gather(*(migrate(database, files) for _ in range(20)))
    counts = Counter(migration.name for some in applied for migration in some)
    assert counts == {"one": 1, "two": 1, "four": 1}
    assert await ask(database, "select count(*) from one") == [(1,)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("create table x ();\n\n-- why\ncreate tabel y ();\n", 4, "syntax error"),
        ("create table x ();\ninsert into x\n  select\n    nothing;\n", 4, 'column "nothing"'),
        ("create table x ();\n\nselect\n1 / 0;\n", 3, "division by zero"),
        ("create table x ();\ncommit;\n", 2, "`commit` is not allowed"),
        ("create table x ();\nselect 'a;\n", 2, "has no end"),
    ],
)
async def test_a_failing_file_leaves_nothing_and_names_the_line(
    database: str, text: str, line: int, message: str
) -> None:
    bad = parse_migration("30000101000002_bad.sql", text)
    with pytest.raises(ScriptFailed) as failure:
        await migrate(database, [ONE, bad])
    detail = failure.value.detail
    assert detail.startswith("30000101000002_bad.sql:")
    assert str(line) in detail
    assert message in detail
    assert "\n" not in detail
    assert await ask(database, "select to_regclass('x') is null, to_regclass('one') is null") == [
        (True, False)
    ]
    assert await ask(database, "select max(version) from aurora.migrations") == [(ONE.version,)]


async def test_a_changed_file_is_refused(database: str) -> None:
    await migrate(database, [ONE])
    changed = parse_migration(ONE.filename, ONE.sql + "-- later\n")
    with pytest.raises(MigrationChanged, match=r"30000101000001_one\.sql was changed"):
        await migrate(database, [changed, TWO])
    with pytest.raises(MigrationChanged):
        await check(database, changed)
    assert await ask(database, "select max(version) from aurora.migrations") == [(ONE.version,)]


def test_other_line_ends_are_no_change() -> None:
    windows = parse_migration(ONE.filename, ONE.sql.replace("\n", "\r\n"))
    assert windows == ONE


async def test_a_newer_breaking_schema_is_refused_and_a_newer_harmless_one_is_not(
    database: str,
) -> None:
    await migrate(database, [ONE, TWO])
    await check(database, ONE)
    assert await migrate(database, [ONE]) == []
    await migrate(database, [ONE, TWO, BREAKING])
    with pytest.raises(SchemaTooNew, match="30000101000003_three"):
        await check(database, ONE, TWO)
    with pytest.raises(SchemaTooNew):
        await migrate(database, [ONE, TWO])
    await check(database, ONE, TWO, BREAKING)


async def test_a_missing_migration_is_outdated(database: str) -> None:
    await migrate(database, [ONE])
    with pytest.raises(SchemaOutdated, match=r"1 migrations are missing, first 30000101000002_two"):
        await check(database, ONE, TWO)


async def test_a_database_without_a_ledger_is_outdated(database: str) -> None:
    await run(database, "drop schema if exists aurora cascade")
    await check(database)
    with pytest.raises(SchemaOutdated):
        await check(database, ONE)


async def test_what_supabase_applied_is_adopted(database: str) -> None:
    await run(
        database,
        "create schema supabase_migrations;"
        "create table supabase_migrations.schema_migrations"
        " (version text primary key, statements text[], name text);"
        "insert into supabase_migrations.schema_migrations values"
        f" ('{ONE.version}', null, 'one'), ('20990101000000', null, 'of_somebody'),"
        " ('not_a_time', null, null); create table one (n int)",
    )
    assert await migrate(database, [ONE, TWO]) == [TWO]
    rows = await ask(
        database,
        "select version, checksum from aurora.migrations"
        " where version >= 20990000000000 order by version",
    )
    assert rows == [(ONE.version, ONE.checksum), (TWO.version, TWO.checksum)]


async def test_what_supabase_applied_under_another_name_is_not_adopted(database: str) -> None:
    await run(
        database,
        "create schema supabase_migrations;"
        "create table supabase_migrations.schema_migrations"
        " (version text primary key, statements text[], name text);"
        "insert into supabase_migrations.schema_migrations values"
        f" ('{ONE.version}', null, 'another')",
    )
    with pytest.raises(MigrationChanged, match="under the name another"):
        await migrate(database, [ONE])


async def test_a_file_does_not_wait_for_a_table_for_ever(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora.db.migrator.LOCK_TIMEOUT_MS", 50)
    await migrate(database, [ONE])
    async with await psycopg.AsyncConnection.connect(database) as reader:
        await reader.execute("select * from one")
        with pytest.raises(ScriptFailed, match="lock timeout"):
            await migrate(database, [ONE, TWO])
    assert await migrate(database, [ONE, TWO]) == [TWO]


async def test_what_a_file_sets_does_not_reach_the_next(database: str) -> None:
    sets = parse_migration(
        "30000101000005_sets.sql", "set search_path = pg_catalog; set role pg_monitor;"
    )
    uses = parse_migration("30000101000006_uses.sql", "create table used ();")
    await migrate(database, [sets, uses])
    assert await ask(database, "select to_regclass('public.used') is not null") == [(True,)]


async def test_the_application_may_read_the_ledger_and_only_that(
    stage: str, stage_login: str
) -> None:
    await migrate(stage, [ONE])
    await check(stage_login, ONE)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await ask(stage_login, "delete from aurora.migrations returning 1")


async def test_the_packaged_migrations_are_what_the_template_has_had(template_dsn: str) -> None:
    await check(template_dsn, *packaged_migrations())


@pytest.mark.parametrize("name", ["1_x.sql", "20260101000000_X.sql", "20260101000000-x.sql", "x"])
def test_a_wrong_file_name_is_refused(name: str) -> None:
    with pytest.raises(BadMigration):
        parse_migration(name, "")


async def test_two_files_of_one_version_are_refused(database: str) -> None:
    twin = parse_migration("30000101000001_twin.sql", "")
    with pytest.raises(BadMigration, match="same version"):
        await migrate(database, [ONE, twin])


def test_breaking_is_said_in_the_head_of_the_file() -> None:
    assert BREAKING.breaking
    below = parse_migration(ONE.filename, "select 1;\n-- aurora: breaking\n")
    assert not below.breaking


def test_a_skeleton_is_a_migration_that_does_not_break() -> None:
    oslo = timezone(timedelta(hours=2))
    name, text = migration_skeleton("credit_notes", datetime(2026, 7, 1, 1, 30, 5, tzinfo=oslo))
    assert name == "20260630233005_credit_notes.sql"
    made = parse_migration(name, text)
    assert made.name == "credit_notes"
    assert not made.breaking
    with pytest.raises(BadMigration):
        migration_skeleton("Credit notes", datetime.now(UTC))
