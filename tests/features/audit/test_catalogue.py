"""What the catalogue says of the audit: which columns it shows, whose its functions are."""

from __future__ import annotations

from uuid import uuid4

import psycopg
from psycopg.rows import TupleRow
from tests.conftest import Postgres

from aurora.apps.house import definitions
from aurora.db.definitions import build, dump_schema

Raw = psycopg.AsyncConnection[TupleRow]


async def test_every_column_is_recorded_ignored_or_withheld_on_purpose(connection: Raw) -> None:
    """A new column is withheld until somebody decides; then it moves from here into the list."""
    withheld = {
        "api_keys": {"id", "description", "key", "key_hash", "metadata"},
        "billing_profiles": {"id"},
        "coupons": set(),
        "credit_notes": {
            *("id", "line_items", "tax_lines", "seller", "buyer", "language", "metadata"),
            *("exchange_rate_on", "exchange_rate_source", "position", "asked"),
        },
        "invitations": {"id", "email", "name", "token_hash"},
        "invoices": {
            *("id", "line_items", "tax_lines", "seller", "buyer", "language", "metadata"),
            *("pdf_url", "notes", "terms", "exchange_rate_on", "exchange_rate_source"),
        },
        "legal_entities": {"id"},
        "organizations": {
            *("id", "metadata"),
            *("email", "phone", "address", "billing_email", "invoice_reference"),
        },
        "overdue_exemptions": {"id"},
        "overdue_policies": {"id"},
        "payments": {"id"},
        "plans": {"id"},
        "service_tokens": {"id", "token_hash", "token_prefix"},
        "subscriptions": {"id", "metadata"},
        "users": {"id", "email", "name", "avatar_url", "metadata"},
    }
    cursor = await connection.execute(
        "select t.tgrelid::regclass::text,"
        " string_to_array(encode(t.tgargs, 'escape'), '\\000'),"
        " array(select attname::text from pg_attribute where attrelid = t.tgrelid and attnum > 0"
        "  and not attisdropped)"
        " from pg_trigger t where t.tgname = 'audit_change'"
    )
    found = {}
    for table, arguments, columns in await cursor.fetchall():
        listed = {name for text in arguments[:2] for name in text.strip("{}").split(",")}
        found[table] = set(columns) - listed
    assert found == withheld


async def test_the_functions_of_the_audit_are_nobodys_to_call(connection: Raw) -> None:
    cursor = await connection.execute(
        "select p.oid::regprocedure::text, r.rolname from pg_proc p, pg_roles r"
        " where p.pronamespace = 'app'::regnamespace"
        " and p.proname ~ '(audit|record_event|without_secrets|with_short_values)'"
        " and r.rolname in ('anon', 'authenticated', 'service_role', 'tenant', 'aurora_app')"
        " and has_function_privilege(r.oid, p.oid, 'execute')"
    )
    assert await cursor.fetchall() == [
        ("app.record_event(uuid,text,text,text,jsonb,jsonb)", "service_role")
    ]


async def test_the_files_can_be_run_again_and_are_what_the_migrations_build(
    postgres: Postgres, database: str, template: str
) -> None:
    name = f"built_{uuid4().hex[:12]}"
    await postgres.clone("template0", name)
    built = postgres.dsn(name)
    try:
        async with await psycopg.AsyncConnection.connect(built, autocommit=True) as owner:
            await build(owner, definitions())
            again = [f for f in definitions() if f.parent.name == "audit" and f.stem != "tables"]
            await build(owner, again)
        assert dump_schema(built) == dump_schema(database)
    finally:
        await postgres.drop(name)


async def test_every_trigger_function_looks_at_every_column_of_its_table(connection: Raw) -> None:
    """It is written when the table is put under audit: for a later column it is written anew."""
    assert await _overlooked(connection) == []
    await connection.execute("alter table payments add column note text")
    assert await _overlooked(connection) == [("payments", "note")]


async def _overlooked(connection: Raw) -> list[TupleRow]:
    cursor = await connection.execute(
        "select t.tgrelid::regclass::text, a.attname::text from pg_trigger t"
        " join pg_proc p on p.oid = t.tgfoid"
        " join pg_attribute a on a.attrelid = t.tgrelid and a.attnum > 0 and not a.attisdropped"
        " where t.tgname = 'audit_change'"
        " and a.attname <> all ((string_to_array(encode(t.tgargs, 'escape'), '\\000'))[2]::text[])"
        " and strpos(p.prosrc, format('if old.%I', a.attname)) = 0"
        " order by 1, 2"
    )
    return await cursor.fetchall()
