"""Lints of the finished database, in the spirit of Supabase's splinter: each must find nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

DATA_PLANE = (
    "usage_analytics", "usage_event_ids", "usage_deltas", "usage_daily", "usage_hourly",
    "usage_visitors", "usage_visitor_salts", "usage_latencies", "usage_reversals",
    "usage_quarantine", "usage_imports", "widget_instances", "notifications",
    "rate_limit_windows",
)  # fmt: skip

OURS = "n.nspname in ('public', 'app', 'usage_partitions')"
TABLES = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
FUNCTIONS = "pg_proc p join pg_namespace n on n.oid = p.pronamespace"
PLANE = "c.relname = any (%(data_plane)s) and n.nspname = 'public'"
POLICY = (
    "coalesce(pg_get_expr(polqual, polrelid), '')"
    " || coalesce(pg_get_expr(polwithcheck, polrelid), '')"
)
NOT_OF_EXTENSION = "not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')"
KEYS = "(select array_agg(k order by o) from unnest({0}) with ordinality as u (k, o))"

# Each gives one row for every finding.
LINTS = {
    "row level security is off": f"""
        select c.relname from {TABLES}
        where {OURS} and c.relkind in ('r', 'p') and not c.relrowsecurity""",
    "rights without a policy": f"""
        select c.relname, a.grantee::regrole, a.privilege_type
        from {TABLES}, aclexplode(c.relacl) a
        where n.nspname = 'public' and c.relkind in ('r', 'p')
          and a.grantee::regrole::text in ('authenticated', 'tenant', 'service_role')
          and not exists (
            select from pg_policy y where y.polrelid = c.oid and a.grantee = any (y.polroles)
              and y.polcmd::text in ('*', lower(left(replace(a.privilege_type, 'INSERT', 'a'), 1)),
                case a.privilege_type when 'SELECT' then 'r' when 'UPDATE' then 'w' else '' end)
          )""",
    "a policy for everybody": """
        select polrelid::regclass, polname from pg_policy where polroles = '{0}'""",
    "a policy that asks a function for each row": f"""
        select polrelid::regclass, polname from pg_policy
        where regexp_replace({POLICY}, '\\( SELECT app\\.\\w+\\([^()]*\\) AS \\w+\\)', '', 'g')
          ~ 'app\\.(my_|is_operator)|auth\\.|current_setting'""",
    "a function whose search_path is open": f"""
        select p.proname from {FUNCTIONS}
        where n.nspname in ('public', 'app') and {NOT_OF_EXTENSION}
          and (p.prosecdef or p.prolang = (
            select oid from pg_language where lanname = 'plpgsql'
          ))
          and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)""",
    "a function that everybody may run": f"""
        select p.proname from {FUNCTIONS}
        where n.nspname in ('public', 'app') and {NOT_OF_EXTENSION}
          and (p.proacl is null or exists (
            select from aclexplode(p.proacl) a where a.grantee in (0, 'anon'::regrole)
          ))""",
    "a view with its owner's rights": f"""
        select c.relname from {TABLES}
        where {OURS} and (c.relkind = 'm' or c.relkind = 'v'
          and not coalesce('security_invoker=true' = any (c.reloptions), false))""",
    "an index that another one makes needless": f"""
        select i.indexrelid::regclass, j.indexrelid::regclass
        from pg_index i join pg_index j on i.indrelid = j.indrelid and i.indexrelid <> j.indexrelid
          join pg_class c on c.oid = i.indexrelid join pg_class cj on cj.oid = j.indexrelid
          join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and not i.indisunique and c.relam = cj.relam
          and i.indexprs is null and j.indexprs is null
          and i.indpred is not distinct from j.indpred
          and (j.indkey::text || ' ') like (i.indkey::text || ' %%')
          and (i.indkey::text <> j.indkey::text or j.indisunique or i.indexrelid > j.indexrelid)""",
    "an index on a constant": f"""
        select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indexrelid
          join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and i.indnkeyatts = 1 and pg_get_expr(i.indpred, i.indrelid)
          ~ ('^\\(+' || (select attname from pg_attribute
            where attrelid = i.indrelid and attnum = i.indkey[0]) || ' = [^ ]+\\)+$')""",
    "a foreign key without an index": f"""
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
          join pg_namespace n on n.oid = c.relnamespace
        where {OURS} and k.contype = 'f' and not exists (
          select from pg_index i where i.indrelid = k.conrelid and (
            -- Where one of its columns is null a row refers to nothing, so an index may leave it out.
            i.indpred is null or exists (
              select from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)
                and pg_get_expr(i.indpred, i.indrelid) = '(' || a.attname || ' IS NOT NULL)'
            ))
            and ({KEYS.format("(i.indkey::int2[])[0:cardinality(k.conkey) - 1]")} @> k.conkey
              -- A part that finds one row at most needs no help from the rest.
              or i.indisunique and i.indpred is null and k.conkey @> {KEYS.format("i.indkey")})
        )""",
    "a data-plane key that does not begin with the organization": f"""
        select i.indexrelid::regclass from pg_index i join {TABLES} on c.oid = i.indrelid
        where {PLANE} and i.indisunique and i.indkey[0] <> (
          select attnum from pg_attribute
          where attrelid = c.oid and attname = 'organization_id')""",
    "a data-plane table whose organization may be missing": f"""
        select c.relname from {TABLES} where {PLANE} and not exists (
          select from pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id'
            and a.attnotnull and a.atttypid = 'uuid'::regtype)""",
    "a foreign key into or out of the data plane": f"""
        select k.conname from pg_constraint k join {TABLES} on c.oid in (k.conrelid, k.confrelid)
        where {PLANE} and k.contype = 'f'""",
    "a trigger on the data plane": f"""
        select t.tgname from pg_trigger t join {TABLES} on c.oid = t.tgrelid
        where {PLANE} and not t.tgisinternal""",
    "a sub-select in a data-plane policy": f"""
        select polname from pg_policy y join {TABLES} on c.oid = y.polrelid
        where {PLANE} and {POLICY} ~* 'select'""",
    "an identity that is not bigint on the data plane": f"""
        select a.attname from pg_attribute a join {TABLES} on c.oid = a.attrelid
        where {PLANE} and a.attidentity <> '' and a.atttypid <> 'bigint'::regtype""",
}

# One wrong version for each lint.
WRONG = {
    "row level security is off": "alter table plans disable row level security",
    "rights without a policy": "grant delete on subscriptions to authenticated",
    "a policy for everybody": "create policy wide on plans using (true)",
    "a policy that asks a function for each row": (
        "create policy slow on api_keys for select to authenticated using ("
        "organization_id = any (array(select app.my_organizations())) or app.is_operator())"
    ),
    "a function whose search_path is open": "alter function app.issue_invoice(uuid) reset all",
    "a function that everybody may run": "grant execute on function app.now() to public",
    "a view with its owner's rights": "alter view daily_usage_summary reset (security_invoker)",
    "an index that another one makes needless": "create index on api_keys (organization_id)",
    "an index on a constant": "create index on api_keys (status) where status = 'active'",
    "a foreign key without an index": "drop index api_keys_created_by_idx",
    "a data-plane key that does not begin with the organization": (
        "create unique index on notifications (id, organization_id)"
    ),
    "a data-plane table whose organization may be missing": (
        "alter table usage_imports drop constraint usage_imports_pkey,"
        " alter organization_id drop not null"
    ),
    "a foreign key into or out of the data plane": (
        "alter table widget_instances add foreign key (organization_id) references organizations"
    ),
    "a trigger on the data plane": (
        "create trigger late before update on notifications"
        " for each row execute function app.touch_updated_at()"
    ),
    "a sub-select in a data-plane policy": (
        "create policy asks on notifications to tenant"
        " using (organization_id = any (array(select id from organizations)))"
    ),
    "an identity that is not bigint on the data plane": (
        "alter table notifications add number integer generated always as identity"
    ),
}


async def findings(connection: psycopg.AsyncConnection[Any], lint: str) -> list[tuple[object, ...]]:
    """Return what a lint finds."""
    cursor = await connection.execute(LINTS[lint].encode(), {"data_plane": list(DATA_PLANE)})
    return list(await cursor.fetchall())


@pytest.mark.parametrize("lint", LINTS)
async def test_the_database_is_free_of(lint: str, connection: psycopg.AsyncConnection[Any]) -> None:
    assert await findings(connection, lint) == []


@pytest.mark.parametrize("lint", LINTS)
async def test_the_lint_finds(lint: str, connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.execute(WRONG[lint].encode())

    assert await findings(connection, lint)
