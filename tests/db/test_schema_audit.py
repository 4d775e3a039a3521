"""What was shown wrong in the founding schema's security and money cannot be shown any more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.errors import (
    CheckViolation,
    ForeignKeyViolation,
    InsufficientPrivilege,
    RestrictViolation,
)
from tests.conftest import Postgres
from tests.db.two_hotels import INVOICE, Hotel, ask, change, rows, shared_hotels, two_hotels, value

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, transaction
from aurora.features.invoices.model import AlreadyBilled, InvoiceImmutable

ANON = Actor("anon")
KEY = "tro_test_DemoKeyForTryingAuroraOut12uJbbW"

Hotels = tuple[Hotel, Hotel]


Shared = tuple[Pool, Hotels]


@pytest.fixture(scope="module")
async def shared(postgres: Postgres, template: str) -> AsyncIterator[Shared]:
    async with shared_hotels(postgres, template) as world:
        yield world


@pytest.fixture
async def hotels(pool: Pool) -> Hotels:
    return await two_hotels(pool)


def everybody(hotel: Hotel) -> list[Actor]:
    """All who are not the platform."""
    people = [hotel.acts_as(role) for role in hotel.people]
    return [*people, hotel.itself, ANON, Actor("authenticated")]


async def test_these_tests_log_in_as_the_application_does(pool: Pool) -> None:
    async with pool.connection() as conn:
        assert await rows(
            conn,
            "select current_user::text, rolsuper, rolbypassrls from pg_roles"
            " where rolname = current_user",
        ) == [("aurora_app", False, False)]
        with pytest.raises(InsufficientPrivilege):
            await conn.execute("select from organizations")


# 1. Row level security was off on five tables.


@pytest.mark.parametrize("role", ["viewer", "member", "admin", "inactive"])
async def test_nobody_moves_to_another_organization_or_makes_himself_owner(
    shared: Shared, role: str
) -> None:
    pool, hotels = shared
    a, b = hotels
    for assignment in ("organization_id = %(b)s, role = 'owner'", "role = 'owner'"):
        try:
            touched = await change(
                pool, a.acts_as(role), f"update users set {assignment} where auth_id = %(me)s",
                b=b.id, me=a.people[role],
            )  # fmt: skip
            assert touched == 0
        except (AuroraError, InsufficientPrivilege):
            pass
    stands = "select organization_id, role from users where id = %(id)s"
    assert await ask(pool, PLATFORM, stands, id=a.users[role]) == [
        (a.id, "viewer" if role == "inactive" else role)
    ]


@pytest.mark.parametrize(
    "table",
    ["users", "subscriptions", "invoices", "widget_instances", "notifications", "api_keys"],
)
async def test_nobody_sees_changes_or_deletes_another_organizations_rows(
    shared: Shared, table: str
) -> None:
    pool, hotels = shared
    a, b = hotels
    async with transaction(pool, PLATFORM) as conn:
        for hotel in hotels:
            await value(
                conn, "select app.notify_members(%(id)s, 'usage_limit', 'T', 'M')", id=hotel.id
            )
            await conn.execute(
                "insert into widget_instances (organization_id, api_key_id, widget_type,"
                " instance_id, origin) values (%s, %s, 'map', 'i', 'https://hotel.example')"
                " on conflict do nothing",
                (hotel.id, hotel.live_key),
            )
    count = f"select count(*) from {table} where organization_id = %(b)s"
    before = await ask(pool, PLATFORM, count, b=b.id)
    assert before > [(0,)]
    for actor in everybody(a):
        for statement in (
            f"select id from {table} where organization_id = %(b)s",
            f"update {table} set metadata = '{{}}' where organization_id = %(b)s",
            f"delete from {table} where organization_id = %(b)s",
        ):
            with contextlib.suppress(InsufficientPrivilege):
                assert await change(pool, actor, statement, b=b.id) == 0, (actor, statement)
    assert await ask(pool, PLATFORM, count, b=b.id) == before


@pytest.mark.parametrize("table", ["subscriptions", "invoices"])
async def test_not_even_an_owner_edits_what_was_bought_or_billed(
    shared: Shared, table: str
) -> None:
    pool, hotels = shared
    a, _ = hotels
    for statement in (f"update {table} set metadata = '{{}}'", f"delete from {table}"):
        for actor in (a.acts_as("owner"), a.itself):
            with pytest.raises(InsufficientPrivilege):
                await change(pool, actor, statement)


async def test_anon_makes_nobody_an_owner(shared: Shared) -> None:
    pool, hotels = shared
    a, _ = hotels
    insert = (
        "insert into users (organization_id, email, name, role, status)"
        " values (%(a)s, 'x@a.example', 'X', 'owner', 'active')"
    )
    for actor in (ANON, Actor("authenticated"), a.acts_as("admin"), a.itself):
        with pytest.raises(InsufficientPrivilege):
            await change(pool, actor, insert, a=a.id)


# 2. Row level security does not stop TRUNCATE or REFERENCES.


async def test_nobody_empties_a_table_or_hangs_something_on_it(shared: Shared) -> None:
    pool, hotels = shared
    a, _ = hotels
    for actor in (*everybody(a), PLATFORM):
        for statement in (
            "truncate usage_analytics",
            "truncate invoices cascade",
            "create table public.mine (id uuid references organizations)",
            "create temporary table mine (id uuid); create trigger t before insert on users"
            " for each row execute function app.touch_updated_at()",
        ):
            with pytest.raises((InsufficientPrivilege, psycopg.errors.InvalidTableDefinition)):
                await change(pool, actor, statement)


# 3. The policy on users asked users again without end.


async def test_a_person_sees_colleagues_and_everything_that_hangs_on_membership(
    shared: Shared,
) -> None:
    pool, hotels = shared
    a, _ = hotels
    seen = {
        role: await ask(
            pool, a.acts_as(role),
            "select (select count(*) from users), (select count(*) from organizations),"
            " (select count(*) from api_keys), (select count(*) from usage_analytics),"
            " (select count(*) from invoices)",
        )
        for role in a.people
    }  # fmt: skip
    assert seen == {
        "owner": [(5, 1, 2, 1, 1)],
        "admin": [(5, 1, 2, 1, 1)],
        "member": [(5, 1, 2, 1, 0)],
        "viewer": [(1, 1, 0, 1, 0)],
        "inactive": [(0, 0, 0, 0, 0)],
    }


# 4. The key stood in plain text, and in the messages of errors.


async def test_nobody_can_read_a_plaintext_key(pool: Pool, hotels: Hotels, database: str) -> None:
    a, _ = hotels
    insert = (
        "insert into api_keys (organization_id, key, name, environment)"
        " values (%(a)s, %(key)s, 'Shown once', 'test')"
    )
    assert await change(pool, a.acts_as("owner"), insert, a=a.id, key=KEY) == 1
    for actor in (*everybody(a), PLATFORM):
        with pytest.raises(InsufficientPrivilege):
            await ask(pool, actor, "select key from api_keys")
        if actor is not PLATFORM:
            with pytest.raises(InsufficientPrivilege):
                await ask(pool, actor, "select key_hash from api_keys")
    async with await psycopg.AsyncConnection.connect(database) as administrator:
        tables = await rows(
            administrator,
            "select c.oid::regclass::text from pg_class c join pg_namespace n"
            " on n.oid = c.relnamespace where relkind in ('r', 'm') and n.nspname !~ '^pg_'"
            " and n.nspname <> 'information_schema'",
        )
        assert len(tables) > 20
        for (table,) in tables:
            found = await value(
                administrator,
                f"select count(*) from {table} as t where position(%(key)s in t::text) > 0",
                key=KEY,
            )
            assert found == 0, table


async def test_no_refusal_repeats_the_key(pool: Pool, hotels: Hotels, database: str) -> None:
    a, _ = hotels
    insert = "insert into api_keys (organization_id, key, name, environment, {0}) values (%s, %s, 'N', 'test', {1})"
    await change(
        pool, PLATFORM,
        "insert into api_keys (organization_id, key, name, environment)"
        " values (%(a)s, %(key)s, 'N', 'test')", a=a.id, key=KEY,
    )  # fmt: skip
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as administrator:
        for key, column, given in (
            (KEY, "description", "null"),  # known already
            (KEY, "rate_limit_per_hour", "-5"),
            (KEY, "scopes", "'1'"),
            (KEY[:-1], "description", "null"),  # malformed
            (KEY, "created_by", "gen_random_uuid()"),
        ):
            with pytest.raises(psycopg.Error) as refused:
                await administrator.execute(insert.format(column, given).encode(), (a.id, key))
            said = refused.value.diag
            words = (said.message_primary, said.message_detail, said.message_hint, said.context)
            assert KEY[:20] not in " ".join(filter(None, words))


# 5. The summary was a materialized view, which no policy guards.


async def test_the_summary_shows_each_organization_its_own_rows(shared: Shared) -> None:
    pool, hotels = shared
    a, b = hotels
    query = "select distinct organization_id from daily_usage_summary"
    for hotel in hotels:
        for actor in (hotel.itself, hotel.acts_as("viewer"), hotel.acts_as("owner")):
            assert await ask(pool, actor, query) == [(hotel.id,)]
    assert await ask(pool, a.acts_as("inactive"), query) == []
    assert await ask(pool, Actor("authenticated"), query) == []
    assert set(await ask(pool, PLATFORM, query)) == {(a.id,), (b.id,)}
    with pytest.raises(InsufficientPrivilege):
        await ask(pool, ANON, query)


# 6. Deleting a key or an organization took what was to be billed along.


async def test_no_deletion_takes_usage_or_invoices_along(
    pool: Pool, hotels: Hotels, database: str
) -> None:
    a, _ = hotels
    for statement in ("delete from api_keys", "delete from organizations"):
        with pytest.raises(InsufficientPrivilege):
            await change(pool, PLATFORM, statement)
    # Not even an administrator, by mistake.
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as administrator:
        # PostgreSQL 18 has a state of its own for RESTRICT.
        with pytest.raises((ForeignKeyViolation, RestrictViolation)):
            await administrator.execute("delete from organizations where id = %s", (a.id,))
        await administrator.execute("delete from api_keys where id = %s", (a.live_key,))
        counted = await value(
            administrator, "select count(*) from usage_analytics where organization_id = %(a)s",
            a=a.id,
        )  # fmt: skip
        assert counted == 1


# 7. Issued invoices could be changed, and impossible ones written.


@pytest.mark.parametrize(
    "statement",
    [
        "update invoices set subtotal = 1, tax_amount = 0, total = 1",
        "update invoices set line_items = '[{}]'",
        "update invoices set buyer = '{}', due_date = due_date + 1",
        "update invoices set invoice_number = 'INV-2026-999999'",
        "update invoices set status = 'draft', invoice_number = null, issued_at = null",
        "update invoices set status = 'void'",
        "delete from invoices",
    ],
)
async def test_an_issued_invoice_is_neither_changed_nor_deleted(
    shared: Shared, statement: str
) -> None:
    pool, _ = shared
    whole = "select to_jsonb(i) from invoices i order by id"
    before = await ask(pool, PLATFORM, whole)
    with pytest.raises(InvoiceImmutable):
        await change(pool, PLATFORM, statement)
    assert await ask(pool, PLATFORM, whole) == before


async def test_one_period_of_a_subscription_is_not_invoiced_twice(shared: Shared) -> None:
    pool, hotels = shared
    a, _ = hotels
    again = {"organization": a.id, "subscription": a.subscription}
    with pytest.raises(AlreadyBilled):
        await change(pool, PLATFORM, INVOICE, **again)
    # Nor beside what the billing run made of the same moment.
    with pytest.raises(AlreadyBilled):
        await change(
            pool, PLATFORM,
            INVOICE.replace("line_items)", "line_items, billed_at)").replace(
                "]')", "]', '2026-01-01T00:00+01:00')"
            ), **again,
        )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        ("100, 25, 125", "100, 25, 7"),
        ("'2026-01-31'", "'2025-12-31'"),
        ("'2099-02-14'", "'2020-01-01'"),
        ("'[{", "'{"),
    ],
)
async def test_an_impossible_invoice_is_refused(shared: Shared, wrong: tuple[str, str]) -> None:
    pool, hotels = shared
    a, _ = hotels
    statement = INVOICE.replace("'2026-01-01'", "'2026-01-02'")
    assert wrong[0] in statement
    async with transaction(pool, PLATFORM) as conn:
        named = {"organization": a.id, "subscription": a.subscription}
        with pytest.raises((CheckViolation, psycopg.errors.InvalidTextRepresentation)):
            async with conn.transaction():
                await conn.execute(statement.replace(*wrong).encode(), named)
        async with conn.transaction(force_rollback=True):
            assert (await conn.execute(statement.encode(), named)).rowcount == 1


async def test_paid_without_a_time_and_a_time_without_paid_are_refused(
    pool: Pool, hotels: Hotels
) -> None:
    for assignment in ("status = 'paid'", "paid_at = app.now()"):
        async with transaction(pool, PLATFORM) as conn:
            with pytest.raises(CheckViolation):
                async with conn.transaction():
                    await conn.execute(f"update invoices set {assignment}".encode())
    both = "update invoices set status = 'paid', paid_at = app.now()"
    assert await change(pool, PLATFORM, both) == 2
