"""A database with the platform in it, whether or not the migrations bring it already."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from aurora.db.definitions import build, platform_files

# What the transaction tests look at: a row for each organization, hidden from the others.
TABLES = """
create schema stage;
grant usage on schema stage to tenant, service_role, authenticated, anon;
create table stage.notes (
    id bigint generated always as identity primary key,
    organization_id uuid not null,
    body text not null,
    constraint notes_body_check check (body <> '')
);
alter table stage.notes enable row level security;
create policy "a tenant sees its own" on stage.notes to tenant
    using (organization_id = nullif(current_setting('app.organization_id', true), '')::uuid);
create policy "the platform sees all" on stage.notes to service_role using (true);
grant select, insert on stage.notes to tenant, service_role;
"""


@pytest.fixture
async def stage(database: str) -> str:
    """The DSN of a fresh database with the platform and one table, as its owner."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        found = await owner.execute("select to_regnamespace('app') is null")
        if (await found.fetchone()) == (True,):
            await build(owner, platform_files())
        await owner.execute(TABLES)
    return database


@pytest.fixture
async def stage_login(stage: str) -> str:
    """The same database, as the role that the application logs in with."""
    return make_conninfo(stage, user="aurora_app")
