"""Definitions build a database, and two databases compare by their dumps."""

from __future__ import annotations

import difflib
import runpy
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from tests.conftest import Postgres

from aurora import __version__
from aurora.apps import house
from aurora.db.definitions import build, dump_schema, normalise, platform_files
from aurora.db.migrator import packaged_migrations
from aurora.db.scripts import ScriptFailed

ROOT = Path(__file__).parents[2]
# These make what is there once; every other file of definitions may be run again.
ONCE = (
    "tables.sql",
    "tax_tables.sql",
    "settling_tables.sql",
    "overdue_tables.sql",
    "030_app.sql",
)

TABLE = (
    "create table public.dishes (id int primary key, name text not null);\n"
    "create function public.f() returns text language sql as $$\n"
    "select '-- kept';\n\n-- kept too\n$$;\n"
)
RIGHTS = [
    "grant select on public.dishes to pg_monitor;\n",
    "grant insert on public.dishes to pg_signal_backend;\n",
]


async def run(dsn: str, text: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(text)


async def test_definitions_build_in_order_and_all_or_nothing(database: str, tmp_path: Path) -> None:
    good, bad = tmp_path / "tables.sql", tmp_path / "logic.sql"
    good.write_text(TABLE)
    bad.write_text("comment on table public.dishes is 'Food.';\n\nselect public.g();\n")
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        with pytest.raises(ScriptFailed, match=rf"{tmp_path.name}/logic.sql:3: function public.g"):
            await build(connection, [good, bad])
        found = await connection.execute("select to_regclass('public.dishes') is null")
        assert await found.fetchone() == (True,)
        bad.write_text("comment on table public.dishes is 'Food.';")
        await build(connection, [good, bad])
    assert "COMMENT ON TABLE public.dishes IS 'Food.';" in dump_schema(database)


def test_the_platform_files_come_in_their_order() -> None:
    names = [file.name for file in platform_files()]
    assert names == sorted(names)
    assert all(name.endswith(".sql") for name in names)


async def test_equal_databases_give_equal_dumps_whatever_the_order(
    postgres: object, database: str, worker_dsn: str, template_dsn: str
) -> None:
    before = dump_schema(database)
    assert before == dump_schema(template_dsn)
    await run(database, TABLE + RIGHTS[0] + RIGHTS[1])
    one_way = dump_schema(database)
    await run(database, "drop table public.dishes; drop function public.f();")
    assert dump_schema(database) == before
    await run(database, TABLE + RIGHTS[1] + RIGHTS[0])
    assert dump_schema(database) == one_way
    assert "GRANT SELECT ON TABLE public.dishes TO pg_monitor;" in one_way
    assert "select '-- kept';\n\n-- kept too\n" in one_way


@pytest.mark.parametrize(
    "change",
    [
        "alter table public.dishes alter name drop not null",
        "grant update on public.dishes to pg_monitor",
        "alter table public.dishes enable row level security",
        "comment on column public.dishes.name is 'x'",
        "create index on public.dishes (name)",
    ],
)
async def test_every_difference_shows(database: str, change: str) -> None:
    await run(database, TABLE)
    before = dump_schema(database)
    await run(database, change)
    assert dump_schema(database) != before


async def test_what_others_keep_here_is_left_out(database: str) -> None:
    before = dump_schema(database)
    await run(
        database,
        "create schema if not exists aurora; create table aurora.x ();"
        "create schema if not exists pgqueuer; create table pgqueuer.x ();"
        "create schema supabase_migrations; create table supabase_migrations.x ()",
    )
    assert dump_schema(database) == before


def test_a_dump_is_reduced_to_its_statements() -> None:
    dump = (
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET lock_timeout = 0;\n"
        "SELECT pg_catalog.set_config('search_path', '', false);\n\n"
        "CREATE TABLE public.b (\n    n integer\n);\n\n\n"
        "CREATE TABLE public.a ();\n\\unrestrict abc\n"
    )
    assert normalise(dump) == (
        "CREATE TABLE public.a ();\nCREATE TABLE public.b (\n    n integer\n);\n"
    )


@pytest.fixture
async def built(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a database that the rooms' own files built, and no migration."""
    name = f"built_{uuid.uuid4().hex[:12]}"
    await postgres.clone("template0", name)
    dsn = postgres.dsn(name)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
        await build(owner, house.definitions())
    yield dsn
    await postgres.drop(name)


def difference(one: str, other: str) -> list[str]:
    """What has to be taken from and added to one dump to have the other."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def rows_that_files_bring(dsn: str) -> list[tuple[object, ...]]:
    """The plans and the specimen seller, which the definitions insert."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "select 'plan', to_jsonb(p) - '{created_at,updated_at}'::text[] from plans p"
            " union all select 'seller', to_jsonb(e) - '{created_at,updated_at}'::text[]"
            " from legal_entities e order by 1, 2"
        ).fetchall()


async def test_the_rooms_files_and_the_migrations_lead_to_the_same_database(
    built: str, worker_dsn: str
) -> None:
    assert difference(dump_schema(built), dump_schema(worker_dsn)) == []
    assert rows_that_files_bring(built) == rows_that_files_bring(worker_dsn)
    assert len(rows_that_files_bring(built)) == 6


@pytest.mark.parametrize(
    "forgotten",
    [
        "drop index invoices_due_date_idx",
        'drop policy "An organization sees its keys" on api_keys',
        "grant select (key_hash) on api_keys to authenticated",
        "create or replace function app.is_successful(p_status_code integer) returns boolean"
        " language sql immutable parallel safe as $$ select p_status_code = 200 $$",
        "alter table invoices drop constraint invoices_amounts_check",
        "drop trigger api_keys_hash_key on api_keys",
    ],
)
async def test_what_a_migration_forgets_is_seen(
    database: str, worker_dsn: str, forgotten: str
) -> None:
    await run(database, forgotten)
    assert difference(dump_schema(worker_dsn), dump_schema(database))


async def test_running_a_rerunnable_file_again_changes_nothing(database: str) -> None:
    again = [file for file in house.definitions() if file.name not in ONCE]
    assert len(again) > 20
    before = dump_schema(database), rows_that_files_bring(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        for file in again:
            await build(owner, [file])
            after = dump_schema(database), rows_that_files_bring(database)
            assert difference(before[0], after[0]) == [], file
            assert after[1] == before[1], file


async def test_a_plan_that_was_changed_survives_the_next_run_of_its_file(database: str) -> None:
    await run(database, "update plans set price_monthly = 1 where id = 'basic'")
    files = [file for file in house.definitions() if file.parent.name == "plans"]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await build(owner, [file for file in files if file.name not in ONCE])
        found = await owner.execute("select price_monthly from plans where id = 'basic'")
        assert await found.fetchone() == (1,)


@pytest.mark.skipif(not __version__.startswith("0."), reason="migrations stay after the release")
def test_the_migrations_are_written_from_the_rooms_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(ROOT / "scripts/first_migrations.py"))
    monkeypatch.setitem(script["main"].__globals__, "FOLDER", tmp_path)
    script["main"]()
    written = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    committed = {migration.filename: migration.sql for migration in packaged_migrations()}
    assert written == committed, "run scripts/first_migrations.py"
