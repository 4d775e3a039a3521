"""The matrix can fail: each way in which isolation was lost elsewhere is built here and found."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import Postgres
from tests.isolation.conftest import LOGIN
from tests.isolation.matrix import Verdict, furnish, run

from aurora.db.definitions import build, platform_files
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import Actor, Connection

FOUNDING = "founding_schema.sql", "founding_world.sql", "attempts.sql"


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(statement.encode())


async def test_the_founding_schema_is_caught(postgres: Postgres) -> None:
    """Row level security on three tables, no rights revoked, keys in plain text."""
    name = "founding_schema"
    await postgres.clone("template0", name)
    dsn = postgres.dsn(name)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
        await build(owner, platform_files())
    change(dsn, "alter default privileges in schema public grant all on functions to authenticated")
    with psycopg.connect(dsn) as admin:
        furnish(admin, *FOUNDING)
    pool = await open_pool(make_conninfo(dsn, user=LOGIN), max_size=1, name="founding")
    verdict = await run(dsn, pool)
    await pool.close()
    await postgres.drop(name)

    assert verdict.names("anon: TRUNCATE public.usage_analytics", "must not, but did")
    assert verdict.names("anon: REFERENCES public.users", "must not, but did")
    assert verdict.names("viewer: UPDATE role public.users of A", "must not, but did")
    assert verdict.names("viewer: MOVE TO OTHER public.users of A", "must not, but did")
    assert verdict.names("viewer: SELECT public.users of B", "must not, but did")
    assert verdict.names("viewer: SELECT key public.api_keys of A", "must not, but did")
    assert verdict.names("anon: SELECT public.daily_usage_summary of B", "must not, but did")
    assert verdict.names("viewer: DELETE public.invoices of B", "must not, but did")
    assert verdict.names("anon: INSERT public.users of B", "must not, but did")
    assert verdict.names("operator: SELECT public.organizations of B", "may, but could not")


@asynccontextmanager
async def with_session_settings(pool: Pool, actor: Actor) -> AsyncIterator[Connection]:
    """Say who acts for the session, not for the transaction: the next one inherits the claims."""
    async with pool.connection() as connection:
        settings: dict[str, str] = {"role": actor.role}
        if actor.claims is not None:
            settings["request.jwt.claims"] = json.dumps(actor.claims)
        if actor.organization_id is not None:
            settings["app.organization_id"] = str(actor.organization_id)
        async with connection.transaction():
            await connection.execute("reset role")
            for setting, value in settings.items():
                await connection.execute("select set_config(%s, %s, false)", (setting, value))
            yield connection


async def test_a_setting_that_outlives_its_transaction_is_caught(world: str, alone: Pool) -> None:
    verdict = await run(world, alone, with_session_settings)

    # Nobody follows the owner on the only connection.
    assert verdict.names("nobody: SELECT public.invoices of A", "must not, but did")


# What is changed, and parts of the breach that it must lead to.
MUTANTS: dict[str, tuple[str, tuple[str, ...]]] = {}


def mutant(name: str, *statements: str, found: tuple[str, ...]) -> None:
    MUTANTS[name] = ("; ".join(statements), found)


mutant(
    "a view that runs with its owner's rights",
    "alter view usage_daily_series set (security_invoker = false)",
    found=("viewer: SELECT public.daily_usage_summary of B", "must not"),
)
mutant(
    "a policy that is missing",
    'drop policy "Members see their organization\'s keys" on api_keys',
    found=("member: SELECT public.api_keys of A", "may, but could not"),
)
mutant(
    "row level security that is off",
    "alter table notifications disable row level security",
    found=("viewer: SELECT public.notifications of B", "must not"),
)
mutant(
    "a policy that believes a setting",
    "create policy believed on invoices for select to authenticated using"
    " (organization_id = nullif(current_setting('app.organization_id', true), '')::uuid)",
    found=("nobody: SELECT as if tenant public.invoices of B", "must not"),
)
mutant(
    "a policy without a check",
    "create policy unchecked on api_keys for insert to authenticated with check (true)",
    found=("viewer: INSERT public.api_keys of B", "must not"),
)
mutant(
    "an organization that can be changed",
    "grant update (organization_id) on notifications to authenticated",
    found=("UPDATE organization_id (as granted) public.notifications", "must not"),
)
mutant(
    "a row that can be moved",
    "grant update (organization_id) on widget_instances to authenticated",
    "create policy moved on widget_instances for update to authenticated using (true)",
    "create policy seen on widget_instances for select to authenticated using (true)",
    found=("viewer: MOVE TO OTHER public.widget_instances of B", "must not"),
)
mutant(
    "a hash that can be read",
    "grant select (key_hash) on api_keys to authenticated",
    found=("admin: SELECT key_hash public.api_keys of A", "must not"),
)
mutant(
    "a month that can be entered",
    "grant usage on schema usage_partitions to authenticated",
    "grant select on all tables in schema usage_partitions to authenticated",
    found=("viewer: SELECT (as granted) usage_partitions.usage_analytics_", "must not"),
)
mutant(
    "a function left to everybody",
    "grant execute on function app.issue_invoice(uuid) to public",
    "grant usage on schema app to anon",
    found=("anon: EXECUTE app.issue_invoice", "must not"),
)
mutant(
    "a right to empty a table",
    "grant truncate on plans to authenticated",
    found=("nobody: TRUNCATE public.plans", "must not"),
)
mutant(
    "a table that no rule names",
    "create table forgotten (organization_id uuid not null)",
    found=("public.forgotten", "no rule names this relation"),
)
mutant(
    "a function that no rule names",
    "create function forgotten() returns int language sql as 'select 1'",
    found=("public.forgotten", "no rule names this function"),
)


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_matrix_catches(name: str, world: str, alone: Pool) -> None:
    statements, found = MUTANTS[name]
    change(world, statements)

    verdict: Verdict = await run(world, alone)

    assert verdict.names(*found), "\n".join(map(str, verdict.breaches))
