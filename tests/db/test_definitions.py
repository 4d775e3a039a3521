"""Definitions build a database, and two databases compare by their dumps."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from aurora.db.definitions import build, dump_schema, normalise, platform_files
from aurora.db.scripts import ScriptFailed

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
