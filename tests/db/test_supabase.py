"""The exported project and the migrator take the same database to the same place, on Supabase too.

The server has no `postgres` of Supabase's kind, so `supabase_owner` stands for it: it may make
roles and owns its databases, and it is no superuser.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import Postgres

from aurora.apps.cli.schema import export
from aurora.db.lexer import statements
from aurora.db.migrator import check_schema, migrate, packaged_migrations
from aurora.integrations import jobs

OWNER = "supabase_owner"
# Where scripts/supabase-cli puts it, or one's own.
_TOOLS = Path(__file__).parents[2] / ".tools/supabase-cli/node_modules/@supabase/cli-linux-x64/bin"
CLI = shutil.which("supabase", path=f"{_TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
CLI_TIMEOUT_S = 120.0

# Roles belong to the cluster: what is missing is made, and stays for the other tests.
ROLES = """
do $$
declare
  v_role text;
begin
  foreach v_role in array array['authenticator', 'supabase_admin', 'supabase_owner'] loop
    begin
      execute format('create role %I noinherit', v_role);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
  perform pg_advisory_xact_lock(20261124);
  alter role supabase_owner login createrole bypassrls inherit;
  grant anon, authenticated, service_role to authenticator;
  grant anon, authenticated, service_role to supabase_owner with admin option;
end
$$
"""

# What a new project of Supabase has in it, as far as Aurora meets it.
PROJECT = """
create schema auth authorization supabase_admin;
grant usage on schema auth to anon, authenticated, service_role, supabase_owner;
create table auth.users (
    instance_id uuid, id uuid primary key, aud varchar(255), role varchar(255), email varchar(255),
    encrypted_password varchar(255), email_confirmed_at timestamptz, last_sign_in_at timestamptz,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
create table auth.identities (id uuid primary key);
alter table auth.users owner to supabase_admin;
alter table auth.identities owner to supabase_admin;
grant all on auth.users, auth.identities to supabase_owner;
create function auth.jwt() returns jsonb language sql stable as
    $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
create function auth.uid() returns uuid language sql stable as
    $$ select (auth.jwt() ->> 'sub')::uuid $$;
grant all on schema public to supabase_owner;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role supabase_owner in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges for role supabase_owner in schema public
    grant all on functions to anon, authenticated, service_role;
alter default privileges for role supabase_owner in schema public
    grant all on sequences to anon, authenticated, service_role;
"""

LEDGER = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations
    (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""

OPEN_TO_ANON = """
select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
    and case
        when c.relkind in ('r', 'p', 'v', 'm', 'f')
        then has_any_column_privilege('anon', c.oid, 'select, insert, update, references')
            or has_table_privilege('anon', c.oid, 'delete, truncate, trigger')
        when c.relkind = 'S' then has_sequence_privilege('anon', c.oid, 'usage, select, update')
    end
union all
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('public', 'app') and has_function_privilege('anon', p.oid, 'execute')
order by 1
"""


@pytest.fixture
async def project(postgres: Postgres, template: str) -> AsyncIterator[str]:
    """The DSN of an empty Supabase database, for its owner; the template made Aurora's roles."""
    name = f"supabase_{uuid.uuid4().hex[:12]}"
    await postgres.clone("template0", name)
    async with await psycopg.AsyncConnection.connect(postgres.dsn(name)) as admin:
        await admin.execute(ROLES)
        await admin.execute(PROJECT)
        await admin.execute(
            sql.SQL("alter database {} owner to {}").format(
                sql.Identifier(name), sql.Identifier(OWNER)
            )
        )
    yield postgres.dsn(name, OWNER)
    await postgres.drop(name)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The folder that `aurora supabase export` wrote."""
    export(tmp_path / "project")
    return tmp_path / "project"


async def ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(sql.SQL(query))).fetchall()


async def push(dsn: str, folder: Path) -> list[str]:
    """Do what `supabase db push` does: what its ledger lacks, a file and its row at once."""
    pushed = []
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(LEDGER)
        for file in sorted((folder / "supabase/migrations").glob("*.sql")):
            version, name = file.stem.split("_", 1)
            texts = [one.text for one in statements(file.read_text("utf-8"))]
            async with connection.transaction():
                noted = await connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, name, statements)"
                    " values (%s, %s, %s) on conflict do nothing",
                    (version, name, texts),
                )
                if noted.rowcount:
                    pushed.append(name)
                    for text in texts:
                        await connection.execute(text)
    return pushed


async def assert_both_accept(dsn: str) -> None:
    """Assert that the ledgers agree, this release may run, the queue is there, anon has nothing."""
    versions = [migration.version for migration in packaged_migrations()]
    ours = await ask(dsn, "select version from aurora.migrations order by 1")
    theirs = await ask(
        dsn, "select version::bigint from supabase_migrations.schema_migrations order by 1"
    )
    assert [row[0] for row in ours] == [row[0] for row in theirs] == versions
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await check_schema(connection)
    assert await ask(dsn, "select to_regclass('pgqueuer.pgqueuer') is not null") == [(True,)]
    assert await ask(dsn, OPEN_TO_ANON) == []


async def test_a_new_project_opens_to_anon_whatever_is_made_in_it(project: str) -> None:
    async with await psycopg.AsyncConnection.connect(project) as owner:
        await owner.execute("create table probe (n int); create sequence steps")
    assert await ask(project, OPEN_TO_ANON) == [("probe",), ("steps",)]


async def test_what_the_cli_pushed_the_migrator_adopts(project: str, exported: Path) -> None:
    assert await push(project, exported) == [one.name for one in packaged_migrations()]
    assert await migrate(project) == []
    await jobs.install(project)
    await assert_both_accept(project)
    assert await push(project, exported) == []


async def test_what_the_migrator_applied_the_cli_leaves_alone(project: str, exported: Path) -> None:
    assert await migrate(project) == list(packaged_migrations())
    await jobs.install(project)
    assert await push(project, exported) == []
    await assert_both_accept(project)


async def test_a_half_migrated_project_is_finished_by_the_cli(project: str, exported: Path) -> None:
    first, second, *rest = packaged_migrations()
    await migrate(project, [first, second])
    assert await push(project, exported) == [one.name for one in rest]
    assert await migrate(project) == []


async def test_both_ways_lead_to_the_same_columns_and_policies(
    project: str, postgres: Postgres, exported: Path
) -> None:
    query = (
        "select table_name, column_name, data_type, is_nullable, column_default"
        " from information_schema.columns where table_schema in ('public', 'app') union all"
        " select tablename, policyname, cmd, qual, with_check from pg_policies order by 1, 2, 3"
    )
    await push(project, exported)
    pushed = await ask(project, query)
    plain = f"plain_{uuid.uuid4().hex[:12]}"
    await postgres.clone("template0", plain)
    try:
        await migrate(postgres.dsn(plain))
        assert pushed == await ask(postgres.dsn(plain), query)
    finally:
        await postgres.drop(plain)


async def test_anon_is_refused_every_table(project: str, exported: Path) -> None:
    await push(project, exported)
    tables = await ask(project, "select tablename from pg_tables where schemaname = 'public'")
    assert ("organizations",) in tables
    async with await psycopg.AsyncConnection.connect(project, autocommit=True) as anon:
        await anon.execute("set role anon")
        for (table,) in tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await anon.execute(sql.SQL("select from {}").format(sql.Identifier(table)))


async def test_a_database_without_supabase_gets_no_ledger_of_it(database: str) -> None:
    assert await migrate(database) == []
    assert await ask(database, "select to_regnamespace('supabase_migrations')") == [(None,)]


@asynccontextmanager
async def over_tcp(dsn: str) -> AsyncIterator[str]:
    """Yield an URL of the database for a program that knows no sockets in the file system."""
    parts = conninfo_to_dict(dsn)
    host, port = str(parts["host"]), str(parts["port"])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host.startswith("/"):
            there, back = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        at = server.sockets[0].getsockname()[1]
        password = quote(str(parts.get("password") or "none"), safe="")
        yield f"postgresql://{OWNER}:{password}@127.0.0.1:{at}/{parts['dbname']}?sslmode=disable"


async def supabase_push(folder: Path, url: str) -> str:
    """Run `supabase db push` with the seed in a folder, and return what it printed."""
    assert CLI
    process = await asyncio.create_subprocess_exec(
        *(CLI, "db", "push", "--include-seed", "--yes", "--remote", url),
        cwd=folder,
        env={**os.environ, "SUPABASE_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), CLI_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        raise
    text = printed.decode()
    assert process.returncode == 0, text
    return text


@pytest.mark.skipif(not CLI, reason="run scripts/supabase-cli first")
@pytest.mark.parametrize("who_is_first", ["cli", "migrator"])
async def test_the_real_cli_and_the_migrator_accept_each_other(
    project: str, exported: Path, who_is_first: str
) -> None:
    if who_is_first == "migrator":
        assert await migrate(project) == list(packaged_migrations())
        await jobs.install(project)
    async with over_tcp(project) as url:
        printed = await supabase_push(exported, url)
    applied = re.findall(r"Applying migration \d+_(\w+)\.sql", printed)
    wanted = [one.name for one in packaged_migrations()] if who_is_first == "cli" else []
    assert applied == wanted
    assert await migrate(project) == []
    await jobs.install(project)
    await assert_both_accept(project)
    assert await ask(project, "select count(*) > 0 from organizations") == [(True,)]
