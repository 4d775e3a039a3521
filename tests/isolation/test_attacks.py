"""What a person tries who speaks SQL: other names, other doors, and what errors tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import Postgres
from tests.isolation.identities import ORGANIZATIONS, thing_of

from aurora.db.migrator import migrate

# A login that may become a person and nothing else, as a gateway before the database has.
LOGIN = "isolation_person"
VIEWER, OWNER = thing_of("A", 1), thing_of("A", 4)
B = ORGANIZATIONS["B"]
MISSING = "99999999-0000-4000-8000-000000000000"
# Every text of B in world.sql holds one of these.
MARKS = ("secret b", "secret-b", "hotel-b", str(B)[:8])

MAKE_LOGIN = sql.SQL(
    "do $$ begin create role isolation_person login noinherit in role authenticated;"
    " exception when duplicate_object or unique_violation then null; end $$"
)
# Whoever evaluates it says so, and as whom.
TELLTALE = """
create function pg_temp.tell(pg_catalog.anyelement) returns pg_catalog.bool language plpgsql
cost 0.0000001 as $$ begin raise notice '% saw %', current_user, $1; return true; end $$
"""
READABLE = """
select c.oid::regclass::text, format('%I.%I', n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'app', 'auth') and c.relkind in ('r', 'p', 'v')
  and has_any_column_privilege('authenticated', c.oid, 'select') order by 1
"""


@contextmanager
def person(world: str, who: object) -> Iterator[tuple[psycopg.Connection[Any], list[str]]]:
    """A session as that person, and the notices that it gets."""
    with psycopg.connect(world, autocommit=True) as admin:
        admin.execute(MAKE_LOGIN)
    told: list[str] = []
    with psycopg.connect(make_conninfo(world, user=LOGIN), autocommit=True) as session:
        session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        session.execute("set role authenticated")
        claims = f'{{"sub": "{who}"}}'
        session.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
        yield session, told


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(statement.encode())


def outcome(session: psycopg.Connection[Any], statement: str) -> str:
    """Return how a statement ended, in the words that its sender gets."""
    try:
        return session.execute(statement.encode()).statusmessage or ""
    except psycopg.Error as error:
        return f"{error.sqlstate} {error.diag.message_primary} {error.diag.message_detail}"


def told_by_shadowed_types(world: str) -> list[str]:
    """Return who runs a person's own code while that person's types stand before the real ones."""
    with person(world, OWNER) as (session, told):
        session.execute(TELLTALE)
        for name in ("uuid", "jsonb", "bytea", "xid8", "text"):
            session.execute(
                f"create domain pg_temp.{name} as pg_catalog.{name}"
                f" check (pg_temp.tell(1))".encode()
            )
        for statement in (
            "select app.my_organizations(), app.readable_organizations(), app.is_operator()",
            "select app.my_users(), app.visible_organizations(), app.now()",
            (
                "insert into api_keys (organization_id, key, name) values"
                f" ('{ORGANIZATIONS['A']}', public.generate_api_key('production'), 'New')"
            ),
            "update organizations set name = 'New', settings = '{\"theme\": \"dark\"}'",
            "update users set name = 'New', role = 'viewer' where role = 'member'",
            "update api_keys set status = 'revoked'",
        ):
            outcome(session, statement)
    return [line for line in told if not line.startswith("authenticated ")]


def test_nobodys_own_types_are_used_with_anothers_rights(world: str) -> None:
    assert told_by_shadowed_types(world) == []


def test_a_path_without_temporary_names_at_its_end_is_caught(world: str) -> None:
    change(world, "alter function auth.uid() set search_path = ''")
    assert told_by_shadowed_types(world)


async def test_only_the_platform_makes_temporary_objects(postgres: Postgres) -> None:
    """The second wall stands in every database that was migrated; a copy does not have it."""
    name = "temporary_objects"
    await postgres.clone("template0", name)
    try:
        await migrate(postgres.dsn(name))
        with person(postgres.dsn(name), OWNER) as (session, _):
            assert "42501" in outcome(session, "create temp table organizations (id uuid)")
        with psycopg.connect(postgres.dsn(name)) as admin:
            may = "select r, has_database_privilege(r, %s, 'temporary') from unnest(%s::text[]) r"
            roles = ["anon", "authenticated", "aurora_app", "service_role", "tenant"]
            found = admin.execute(may.encode(), (name, roles)).fetchall()
            assert [role for role, allowed in found if allowed] == ["service_role"]
    finally:
        await postgres.drop(name)


def test_tables_of_the_same_name_deceive_no_policy(world: str) -> None:
    with person(world, VIEWER) as (session, _):
        session.execute(
            f"create temp table organizations as select '{B}'::uuid as id, null as deleted_at;"
            f" create temp table users as select '{B}'::uuid as organization_id, '{VIEWER}'::uuid"
            " as auth_id, 'owner' as role, 'active' as status".encode()
        )
        assert session.execute("select app.my_organizations()").fetchall() == [
            (ORGANIZATIONS["A"],)
        ]
        assert session.execute("select from public.invoices").fetchall() == []


def seen_by_a_leaky_function(world: str, who: object) -> list[str]:
    """Return what a function sees that is cheap enough to be asked before any policy."""
    with person(world, who) as (session, told), psycopg.connect(world) as admin:
        session.execute(TELLTALE)
        for _, relation in admin.execute(READABLE.encode()).fetchall():
            columns = admin.execute(
                "select quote_ident(attname) from pg_attribute where attrelid = %s::regclass"
                " and attnum > 0 and not attisdropped"
                " and has_column_privilege('authenticated', attrelid, attnum, 'select')",
                (relation,),
            ).fetchall()
            row = ", ".join(column for (column,) in columns)
            outcome(session, f"select from {relation} where pg_temp.tell(row({row})::text)")
    return told


def test_no_function_sees_a_row_before_the_policy(world: str) -> None:
    seen = [line.lower() for line in seen_by_a_leaky_function(world, OWNER)]
    assert any("secret a" in line for line in seen)
    assert [line for line in seen if any(mark in line for mark in MARKS)] == []


def test_a_view_that_lets_functions_look_first_is_caught(world: str) -> None:
    change(
        world,
        "create view hasty with (security_invoker = false) as select * from invoices"
        f" where substr(organization_id::text, 1) = '{ORGANIZATIONS['A']}';"
        " grant select on hasty to authenticated",
    )
    seen = [line.lower() for line in seen_by_a_leaky_function(world, OWNER)]
    assert any("secret b" in line for line in seen)


FORBIDDEN = (
    "set role service_role",
    "set role tenant",
    "set role aurora_app",
    "set session authorization postgres",
    "set session_replication_role = replica",
    "alter role authenticated bypassrls",
    "grant service_role to authenticated",
    "alter table invoices disable row level security",
    "create policy mine on invoices using (true)",
    "create function public.mine() returns int language sql as 'select 1'",
    "create table public.mine (n int)",
    "create schema mine",
    "copy invoices to '/tmp/invoices'",
    "copy invoices to program 'true'",
    "copy api_keys to stdout",
    "copy usage_partitions.usage_analytics_2026_01 to stdout",
    "copy auth.users to stdout",
    "do $$ begin lock table invoices in exclusive mode; end $$",
    "select nextval('audit_events_id_seq')",
    "select lo_import('/etc/hostname')",
    "select pg_read_file('postgresql.conf')",
    "select * from pg_statistic",
    "select * from pg_largeobject",
    "select rolpassword from pg_authid",
    "set row_security = off; select id from invoices",
)


def test_a_person_leaves_the_role_by_no_door(world: str) -> None:
    with person(world, OWNER) as (session, _):
        ended = {statement: outcome(session, statement) for statement in FORBIDDEN}
    assert {s: how for s, how in ended.items() if not how.startswith(("42501", "42P01"))} == {}


def test_copy_gives_the_rows_that_select_gives(world: str) -> None:
    with (
        person(world, OWNER) as (session, _),
        session.cursor() as cursor,
        cursor.copy("copy invoices to stdout") as rows,
    ):
        text = b"".join(bytes(piece) for piece in rows).decode().lower()
    assert "secret a" in text
    assert not any(mark in text for mark in MARKS)


def test_a_statement_prepared_by_another_is_planned_anew(world: str) -> None:
    with psycopg.connect(world, autocommit=True) as session:
        session.execute("prepare every as select organization_id from invoices")
        assert len(session.execute("execute every").fetchall()) == 2
        for who, seen in ((OWNER, 1), (VIEWER, 0)):
            with session.transaction(force_rollback=True):
                session.execute("set local role authenticated")
                claims = f'{{"sub": "{who}"}}'
                session.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
                assert len(session.execute("execute every").fetchall()) == seen


def test_statistics_and_other_sessions_show_nothing(world: str) -> None:
    change(world, "analyze")
    with psycopg.connect(world) as admin, person(world, OWNER) as (session, _):
        admin.execute("select 'Secret B' from invoices")
        stats = session.execute("select * from pg_stats where schemaname <> 'pg_catalog'")
        assert not any(mark in str(stats.fetchall()).lower() for mark in MARKS)
        others = session.execute("select query from pg_stat_activity where pid <> pg_backend_pid()")
        assert not any("secret b" in str(query).lower() for query in others.fetchall())


def test_announcements_name_nobody(world: str) -> None:
    """Whoever may connect may listen: what is sent with NOTIFY is public."""
    with psycopg.connect(world, autocommit=True) as admin, person(world, VIEWER) as (session, _):
        channels = admin.execute(
            "select distinct m[1] from pg_proc, regexp_matches(prosrc,"
            " 'pg_notify\\(\\s*''(\\w+)''', 'g') m union select 'ch_pgqueuer'"
        ).fetchall()
        for (channel,) in channels:
            session.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        admin.execute("update api_keys set status = 'revoked' where organization_id = %s", (B,))
        admin.execute("update organizations set name = 'Secret B 2' where id = %s", (B,))
        hashes = admin.execute("select key_hash from api_keys").fetchall()
        heard = [one.payload.lower() for one in session.notifies(timeout=0.5)]
    marks = (*MARKS[:3], *(str(key_hash) for (key_hash,) in hashes))
    assert not any(mark in payload for payload in heard for mark in marks)


ASKED = (
    (
        "insert into api_keys (organization_id, key, name)"
        " values ('{organization}', generate_api_key(), 'New')"
    ),
    (
        "insert into api_keys (organization_id, created_by, key, name)"
        " values ('{organization}', '{user}', generate_api_key(), 'New')"
    ),
    (
        f"insert into api_keys (organization_id, created_by, key, name)"
        f" values ('{ORGANIZATIONS['A']}', '{{user}}', generate_api_key(), 'New')"
    ),
    (
        "insert into users (organization_id, email, name, status)"
        " values ('{organization}', 'secret-b4@hotel.example', 'New', 'invited')"
    ),
    "update organizations set name = 'New' where id = '{organization}'",
    "update users set role = 'viewer' where id = '{user}'",
    "update api_keys set name = 'New' where id = '{key}'",
    (
        "update notifications set read = true, read_at = now() where organization_id ="
        " '{organization}'"
    ),
    "select from invoices where id = '{invoice}'",
    "select from audit_events where subject_id = '{key}'",
)


def test_what_is_anothers_is_refused_like_what_is_missing(world: str) -> None:
    theirs = {"organization": B, "user": thing_of("B", 4), "key": thing_of("B", 10)}
    with person(world, OWNER) as (session, _):
        for statement in ASKED:
            foreign = outcome(session, statement.format(**theirs, invoice=thing_of("B", 30)))
            missing = dict.fromkeys((*theirs, "invoice"), MISSING)
            assert foreign == outcome(session, statement.format(**missing)), statement
            assert foreign.startswith(("42501", "SELECT 0", "UPDATE 0")), statement


def test_an_address_known_elsewhere_is_taken_like_a_new_one(world: str) -> None:
    with person(world, OWNER) as (session, _):
        for address in ("secret-b4@hotel.example", "nobodys@hotel.example"):
            invited = (
                "insert into users (organization_id, email, name, status) values"
                f" ('{ORGANIZATIONS['A']}', '{address}', 'New', 'invited')"
            )
            assert outcome(session, invited) == "INSERT 0 1"
