"""Rules of the whole schema and of its data plane (test_catalogue.py holds the usual lints).

Each rule is a query that must find nothing, and wrong versions that it must find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from tests.db.test_catalogue import DATA_PLANE

ROLES = ("anon", "authenticated", "service_role", "tenant")
MAINTAIN_SINCE = 170_000
OURS = "n.nspname in ('public', 'app', 'usage_partitions')"
PLANE = (
    "n.nspname = 'public' and c.relname = any (%(data_plane)s) or n.nspname = 'usage_partitions'"
)
TABLES = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
FUNCTIONS = "pg_proc p join pg_namespace n on n.oid = p.pronamespace"
# Whoever is not the owner: the four roles, the login role, and PUBLIC (0).
SOMEBODY = (
    "(a.grantee = 0 or a.grantee::regrole::text in"
    " ('anon', 'authenticated', 'service_role', 'tenant', 'aurora_app'))"
)
POLICY = (
    "coalesce(pg_get_expr(y.polqual, y.polrelid), '')"
    " || coalesce(pg_get_expr(y.polwithcheck, y.polrelid), '')"
)
# A partition by its name, whatever the months are that were made.
A_PARTITION = """
do $$
begin
  execute format({statement}, (select c.oid::regclass from pg_class c
    where c.relnamespace = 'usage_partitions'::regnamespace and c.relkind = 'r'
    order by c.relname limit 1));
end $$"""


def on_a_partition(statement: str) -> str:
    """Return a statement that puts a partition's name in place of %s."""
    return A_PARTITION.format(statement=f"'{statement}'")


@dataclass(frozen=True)
class Rule:
    """What must find nothing, and what it must find."""

    query: str
    wrong: tuple[str, ...]
    since: int = 0


RULES = {
    "a default partition": Rule(
        """select c.oid::regclass from pg_class c
        where c.relispartition and pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'""",
        ("create table usage_partitions.rest partition of usage_analytics default",),
    ),
    "a partition outside of its schema": Rule(
        f"""select c.oid::regclass from {TABLES}
        where c.relispartition and n.nspname <> 'usage_partitions' and c.relkind in ('r', 'p')""",
        (
            "create table loose partition of usage_analytics"
            " for values from ('2001-01-01') to ('2001-02-01')",
        ),
    ),
    "a partition that somebody may touch": Rule(
        f"""select c.oid::regclass::text, a.privilege_type from {TABLES}, aclexplode(c.relacl) a
        where n.nspname = 'usage_partitions' and {SOMEBODY}
        union all
        select n.nspname, a.privilege_type from pg_namespace n, aclexplode(n.nspacl) a
        where n.nspname = 'usage_partitions' and {SOMEBODY}""",
        (
            on_a_partition("grant select on %s to service_role"),
            on_a_partition("grant insert on %s to public"),
            "grant usage on schema usage_partitions to tenant",
        ),
    ),
    "a data-plane trigger, on a partition too": Rule(
        f"""select t.tgname from pg_trigger t join {TABLES} on c.oid = t.tgrelid
        where ({PLANE}) and not t.tgisinternal""",
        (
            on_a_partition(
                "create trigger late before insert on %s"
                " for each row execute function app.touch_updated_at()"
            ),
        ),
    ),
    "a data-plane policy of another form": Rule(
        f"""select y.polname from pg_policy y join {TABLES} on c.oid = y.polrelid
        where ({PLANE}) and y.polroles <> array['service_role'::regrole::oid]
          and {POLICY} !~ '^\\(+organization_id = ANY \\(app\\.visible_organizations\\(\\)\\)'""",
        (
            "create policy wide on usage_daily to tenant using (true)",
            "create policy guc on usage_daily to authenticated using (organization_id"
            " = current_setting('app.organization_id')::uuid)",
            "create policy or_else on usage_daily to tenant"
            " using (requests = 0 or organization_id = any (app.visible_organizations()))",
        ),
    ),
    "a look for the organization that reads tables or never changes": Rule(
        f"""select p.proname from {FUNCTIONS} join pg_language l on l.oid = p.prolang
        where p.oid in ('app.visible_organizations()'::regprocedure, 'app.visible_users()'::regprocedure)
          and (p.prosecdef or p.provolatile <> 's' or l.lanname <> 'plpgsql' or p.prosrc ~* ' from ')""",
        (
            "alter function app.visible_organizations() security definer",
            "alter function app.visible_users() immutable",
        ),
    ),
    "a data-plane number that is not an identity": Rule(
        f"""select a.attname from pg_attribute a join {TABLES} on c.oid = a.attrelid
          join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where ({PLANE}) and pg_get_expr(d.adbin, d.adrelid) like 'nextval%%'""",
        ("alter table usage_imports add number bigserial",),
    ),
    "a function in LANGUAGE sql with parameters over the data plane": Rule(
        f"""select p.proname from {FUNCTIONS} join pg_language l on l.oid = p.prolang
        where {OURS} and l.lanname = 'sql' and p.pronargs > 0
          and p.prosrc ~ ('\\m(' || array_to_string(%(data_plane)s::text[], '|') || ')\\M')""",
        (
            "create function app.peek(p_id uuid) returns bigint language sql as"
            " 'select count(*) from public.usage_daily where organization_id = p_id'",
        ),
    ),
    "a clock that is not app.now() or a day in the session's zone": Rule(
        f"""select p.proname from {FUNCTIONS}
        where {OURS} and p.oid <> 'app.now()'::regprocedure and p.prosrc
          ~* '(^|[^.a-z_])(now|clock_timestamp|statement_timestamp)\\(\\)|\\m(current_date|localtimestamp)\\M'""",
        (
            "create function app.today() returns date language sql as 'select current_date'",
            "create function app.late() returns timestamptz language sql as 'select now()'",
        ),
    ),
    "a table that nobody has a policy for": Rule(
        f"""select c.relname from {TABLES}
        where n.nspname = 'public' and c.relkind in ('r', 'p')
          and not exists (select from pg_policy y where y.polrelid = c.oid)""",
        ("create table bare (id int primary key); alter table bare enable row level security",),
    ),
    "a table of app that somebody may touch": Rule(
        f"""select c.relname, a.privilege_type from {TABLES}, aclexplode(c.relacl) a
        where n.nspname = 'app' and {SOMEBODY}""",
        ("grant select on app.clock to service_role", "grant insert on app.clock to public"),
    ),
    "a table, view, or function without a comment": Rule(
        f"""select c.relname from {TABLES}
        where n.nspname in ('public', 'app') and c.relkind in ('r', 'p', 'v', 'm')
          and obj_description(c.oid, 'pg_class') is null
        union all
        select p.proname from {FUNCTIONS}
        where n.nspname in ('public', 'app') and obj_description(p.oid, 'pg_proc') is null""",
        (
            "comment on table plans is null",
            "comment on view daily_usage_summary is null",
            "comment on function app.now() is null",
        ),
    ),
    "a right that row level security does not limit": Rule(
        f"""select c.relname, a.privilege_type from {TABLES}, aclexplode(c.relacl) a
        where n.nspname !~ '^(pg_|information_schema)' and {SOMEBODY}
          and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
        union all
        select t.attname, a.privilege_type from pg_attribute t, aclexplode(t.attacl) a
        where {SOMEBODY} and a.privilege_type = 'REFERENCES'""",
        (
            "grant truncate on usage_analytics to service_role",
            "grant references on users to anon",
            "grant references (id) on users to authenticated",
            "grant trigger on invoices to tenant",
            "grant all on plans to public",
        ),
    ),
    "a right to maintain": Rule(
        f"""select c.relname from {TABLES}, aclexplode(c.relacl) a
        where {SOMEBODY} and a.privilege_type = 'MAINTAIN'""",
        ("grant maintain on invoices to service_role",),
        since=MAINTAIN_SINCE,
    ),
    "a sequence that somebody may move": Rule(
        f"""select c.relname from {TABLES}, aclexplode(c.relacl) a
        where {OURS} and c.relkind = 'S' and {SOMEBODY}""",
        ("grant usage on sequence usage_deltas_id_seq to tenant",),
    ),
    "a right that is given ahead to what will be made": Rule(
        f"""select d.defaclobjtype, a.grantee from pg_default_acl d, aclexplode(d.defaclacl) a
        where d.defaclnamespace in (0, 'public'::regnamespace, 'app'::regnamespace)
          and a.grantee <> d.defaclrole and {SOMEBODY}""",
        (
            "alter default privileges in schema public grant select on tables to anon",
            "alter default privileges in schema app grant execute on functions to tenant",
        ),
    ),
    "a right of the login role itself": Rule(
        f"""select c.relname from {TABLES}, aclexplode(c.relacl) a
        where {OURS} and a.grantee = 'aurora_app'::regrole
        union all
        select rolname from pg_roles where rolname = 'aurora_app'
          and (rolsuper or rolbypassrls or rolinherit or rolcreaterole or rolcreatedb)""",
        (
            "grant select on plans to aurora_app",
            "alter role aurora_app bypassrls",
            "alter role aurora_app inherit",
        ),
    ),
    "a right of anon": Rule(
        f"""select c.relname from {TABLES}, aclexplode(c.relacl) a
        where {OURS} and a.grantee in (0, 'anon'::regrole)
        union all
        select t.attname from pg_attribute t, aclexplode(t.attacl) a
        where t.attrelid >= 16384 and a.grantee in (0, 'anon'::regrole)""",
        ("grant select on plans to anon", "grant select (name) on plans to public"),
    ),
    "two unique indexes over the same columns": Rule(
        f"""select i.indexrelid::regclass, j.indexrelid::regclass
        from pg_index i join pg_index j on i.indrelid = j.indrelid and i.indexrelid < j.indexrelid
          join {TABLES} on c.oid = i.indrelid
        where {OURS} and i.indisunique and j.indisunique
          and i.indkey::text = j.indkey::text
          and pg_get_expr(i.indexprs, i.indrelid) is not distinct from pg_get_expr(j.indexprs, j.indrelid)
          and pg_get_expr(i.indpred, i.indrelid) is not distinct from pg_get_expr(j.indpred, j.indrelid)""",
        ("create unique index on plans (id)", "alter table plans add unique (id)"),
    ),
}  # fmt: skip

CASES = [
    pytest.param(name, wrong, id=f"{name}: {' '.join(wrong.split())[:60]}")
    for name, rule in RULES.items()
    for wrong in rule.wrong
]


async def findings(connection: psycopg.AsyncConnection[Any], name: str) -> list[Any]:
    if connection.info.server_version < RULES[name].since:
        pytest.skip("this PostgreSQL knows no such right")
    cursor = await connection.execute(RULES[name].query.encode(), {"data_plane": list(DATA_PLANE)})
    return list(await cursor.fetchall())


@pytest.mark.parametrize("name", RULES)
async def test_the_schema_is_free_of(name: str, connection: psycopg.AsyncConnection[Any]) -> None:
    assert await findings(connection, name) == []


@pytest.mark.parametrize(("name", "wrong"), CASES)
async def test_the_rule_finds(
    name: str, wrong: str, connection: psycopg.AsyncConnection[Any]
) -> None:
    if connection.info.server_version >= RULES[name].since:
        await connection.execute(wrong.encode())
    assert await findings(connection, name)


async def test_the_data_plane_is_there(connection: psycopg.AsyncConnection[Any]) -> None:
    found = await connection.execute(
        "select count(*), count(*) filter (where relkind = 'p') from pg_class"
        " where relnamespace = 'public'::regnamespace and relname = any (%s)",
        (list(DATA_PLANE),),
    )
    assert await found.fetchone() == (len(DATA_PLANE), 1)
    found = await connection.execute(
        "select count(*) from pg_inherits where inhparent = 'usage_analytics'::regclass"
    )
    # Two months back, this one, and three ahead: what an event may fall in before the worker runs.
    assert await found.fetchone() == (6,)


@pytest.mark.parametrize("role", ROLES)
async def test_a_partition_is_reached_by_nobody(
    role: str, connection: psycopg.AsyncConnection[Any]
) -> None:
    found = await connection.execute(
        "select relname from pg_class where relnamespace = 'usage_partitions'::regnamespace"
        " and relkind = 'r' order by relname limit 1"
    )
    row = await found.fetchone()
    assert row is not None
    await connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await connection.execute(
            sql.SQL("select from {}").format(sql.Identifier("usage_partitions", row[0]))
        )


async def test_a_month_made_later_is_as_closed_as_the_first(
    connection: psycopg.AsyncConnection[Any],
) -> None:
    await connection.execute("set local role service_role")
    found = await connection.execute(
        "select app.ensure_usage_partitions('2031-01-15', '2031-03-01')"
    )
    assert await found.fetchone() == (3,)
    await connection.execute("reset role")
    for name in RULES:
        if "partition" in name:
            assert await findings(connection, name) == []
    found = await connection.execute(
        "select bool_and(relrowsecurity), count(*) from pg_class where relname like 'usage\\_analytics\\_2031\\___'"
    )
    assert await found.fetchone() == (True, 3)
