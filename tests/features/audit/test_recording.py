"""Every change of keys, members, plans, invoices, and settings is recorded, and no secret is."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from tests.features.audit.stage import (
    OPERATOR,
    a_key,
    a_member,
    an_organization,
    change,
    events_of,
    last_event,
    recorded,
)

from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Actor, _opening, named, person, tenant, transaction
from aurora.features.audit.model import AuditImmutable
from aurora.features.keys.service import revoke_api_key

Raw = psycopg.AsyncConnection[TupleRow]


async def test_a_key_tells_who_made_and_who_revoked_it(pool: Pool) -> None:
    organization = await an_organization(pool)
    made = await a_key(pool, organization, OPERATOR)
    async with transaction(pool, OPERATOR) as conn:
        await revoke_api_key(conn, organization, made.record.id)
    created, revoked = (await recorded(pool, organization))[1:]
    assert (created["action"], created["sequence"]) == ("api_key.created", 2)
    assert created["before"] is None
    assert created["after"]["name"] == "A key"
    assert (revoked["action"], revoked["subject_id"]) == ("api_key.revoked", str(made.record.id))
    assert revoked["before"] == {"status": "active", "revoked_at": None}
    assert set(revoked["after"]) == {"status", "revoked_at"}
    for event in (created, revoked):
        assert (event["actor"], event["request_id"]) == ("operator", "req_1")
        assert event["database_role"] == "service_role"


@pytest.mark.parametrize(
    ("statement", "action", "before", "after"),
    [
        (
            'update organizations set settings = \'{"theme": "dark"}\' where id = %s',
            "organization.settings_changed",
            {"settings": {}},
            {"settings": {"theme": "dark"}},
        ),
        (
            "update organizations set status = 'suspended' where id = %s",
            "organization.status_changed",
            {"status": "trial"},
            {"status": "suspended"},
        ),
        (
            "update organizations set billing_email = 'new@hotel.example' where id = %s",
            "organization.updated",
            {"billing_email": "(withheld)"},
            {"billing_email": "(withheld)"},
        ),
    ],
)
async def test_a_change_of_an_organization_holds_what_changed_and_nothing_else(
    pool: Pool, statement: str, action: str, before: object, after: object
) -> None:
    organization = await an_organization(pool)
    await change(pool, statement, organization)
    event = await last_event(pool, organization)
    assert (event["action"], event["before"], event["after"]) == (action, before, after)


async def test_members_are_told_by_role_and_never_by_name(pool: Pool) -> None:
    organization = await an_organization(pool)
    auth_id = await a_member(pool, organization)
    await change(pool, "update users set role = 'owner' where auth_id = %s", auth_id)
    await change(
        pool, "update users set name = 'Ola', email = 'ola@x.example' where auth_id = %s", auth_id
    )
    added, _signed_up, promoted, renamed = (await recorded(pool, organization))[1:]
    assert added["action"] == "member.added"
    assert (promoted["action"], promoted["before"]) == ("member.role_changed", {"role": "admin"})
    assert renamed["after"] == {"name": "(withheld)", "email": "(withheld)"}
    text = json.dumps([event["before"] for event in await recorded(pool, organization)])
    assert "Nordmann" not in text


async def test_plans_and_sellers_are_in_the_platforms_own_chain(pool: Pool) -> None:
    await change(
        pool, "update plans set price_monthly = 3600 where id = 'basic'", acting_as=OPERATOR
    )
    plan = await last_event(pool, None)
    assert (plan["action"], plan["subject_id"]) == ("plan.updated", "basic")
    assert (plan["before"], plan["after"]) == (
        {"price_monthly": 3500, "version": 1},
        {"price_monthly": 3600, "version": 2},
    )
    await change(pool, "update legal_entities set bank_account = '15034012345'")
    assert (await last_event(pool, None))["action"] == "seller.updated"


async def test_what_is_noise_is_no_event(pool: Pool) -> None:
    organization = await an_organization(pool)
    key = (await a_key(pool, organization)).record.id
    await a_member(pool, organization)
    count = len(await recorded(pool, organization))
    await change(pool, "update api_keys set last_used_at = app.now() where id = %s", key)
    await change(
        pool, "update users set last_login_at = app.now() where organization_id = %s", organization
    )
    await change(pool, "update api_keys set name = name where id = %s", key)
    assert len(await recorded(pool, organization)) == count


async def test_what_was_rolled_back_was_never_done(pool: Pool) -> None:
    organization = await an_organization(pool)
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute("update organizations set name = 'X' where id = %s", (organization,))
        await conn.rollback()
        await conn.execute("begin")
    async with transaction(pool, PLATFORM) as conn:
        async with conn.transaction(force_rollback=True):
            await conn.execute(
                "update organizations set name = 'Gone' where id = %s", (organization,)
            )
        await conn.execute("update organizations set city = 'Bodø' where id = %s", (organization,))
    assert [e["after"] for e in (await recorded(pool, organization))[1:]] == [{"city": "Bodø"}]


async def test_a_row_that_moves_is_told_in_both_chains(pool: Pool, database: str) -> None:
    source, target = await an_organization(pool), await an_organization(pool)
    key = (await a_key(pool, source)).record.id
    async with await psycopg.AsyncConnection.connect(database) as owner:
        await owner.execute("update api_keys set organization_id = %s where id = %s", (target, key))
    assert (await last_event(pool, source))["action"] == "api_key.moved"
    moved = await last_event(pool, target)
    assert moved["before"] == {"organization_id": str(source)}
    assert moved["actor"] == "database:postgres"


async def test_the_application_names_who_acts_and_without_a_name_the_role_stands(
    pool: Pool,
) -> None:
    organization = await an_organization(pool)
    for block, expected in (
        (named("job:expire", "req_7"), "job:expire"),
        (named(None), "database:service_role"),
    ):
        with block:
            await a_key(pool, organization)
        assert (await last_event(pool, organization))["actor"] == expected
    with named("job:expire", "req_7"):
        await a_key(pool, organization, OPERATOR)
    event = await last_event(pool, organization)
    assert (event["actor"], event["request_id"]) == ("operator", "req_1")


async def test_a_person_cannot_give_himself_another_name(pool: Pool, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        # However the policies stand at the moment: this is about the name.
        await owner.execute(
            "create policy x on organizations for all to authenticated using (true)"
        )
        await owner.execute("grant update on organizations to authenticated")
    organization = await an_organization(pool)
    auth_id = await a_member(pool, organization)
    async with transaction(pool, person(auth_id)) as conn:
        await conn.execute("select set_config('app.actor', 'operator', true)")
        await conn.execute("update organizations set city = 'Oslo' where id = %s", (organization,))
    event = await last_event(pool, organization)
    assert (event["actor"], event["database_role"]) == (f"user:{auth_id}", "authenticated")


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00b", "x" * 201])
def test_a_name_is_one_short_line(name: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Actor("service_role", name=name)
    with pytest.raises(ValueError, match="one line"), named(name):
        pass


async def test_the_name_comes_in_the_opening_message_and_leaves_with_the_transaction(
    database: str,
) -> None:
    pool = await open_pool(make_conninfo(database, user="aurora_app"), max_size=1, name="alone")
    look = "select current_setting('app.actor', true), current_setting('app.request_id', true)"
    async with transaction(pool, OPERATOR) as conn:
        assert await (await conn.execute(look)).fetchone() == ("operator", "req_1")
    async with pool.connection() as conn:
        assert await (await conn.execute(look)).fetchone() == ("", "")
        # BEGIN, role, and names are one message: naming costs no round trip.
        assert "app.actor" in _opening(conn, OPERATOR, False, 1)[1]
    await pool.close()


async def test_a_name_with_quotes_stays_a_name(pool: Pool) -> None:
    name = "cli:o'brien'); drop table users; -- \\ %s"
    organization = await an_organization(pool, Actor("service_role", name=name))
    assert (await last_event(pool, organization))["actor"] == name


KEY = "tro_live_" + "Canary7" * 4 + "abcd"
SECRETS = {
    "key": "canary-key",
    "key_hash": "canary-hash",
    "encrypted_password": "canary-password",
    "token_hash": "canary-token",
    "metadata": "canary-metadata",
}


async def test_no_secret_ever_reaches_the_audit(connection: Raw) -> None:
    """A table of nothing but canaries, changed in every way; the listed column carries some too."""
    columns = ", ".join(f"{name} text" for name in SECRETS)
    await connection.execute(
        f"create table cage (id int primary key, settings jsonb, {columns})".encode()
    )
    await connection.execute(
        "select app.audit_table('public.cage', 'cage', '{settings}', p_owner => '')"
    )
    settings = {"theme": KEY, "api_token": "canary-inner", "smtp": {"Password": 'canary "quoted"'}}
    names = ", ".join(SECRETS)
    values = ", ".join(f"'{value}'" for value in SECRETS.values())
    await connection.execute(
        f"insert into cage (id, settings, {names}) values (1, %s, {values})".encode(),
        (json.dumps(settings),),
    )
    changes = ", ".join(f"{name} = '{value}2'" for name, value in SECRETS.items())
    await connection.execute(
        f"update cage set {changes}, settings = settings || '{{\"a\": 1}}'".encode()
    )
    await connection.execute("delete from cage")
    await connection.execute("set constraints all immediate")
    events = await events_of(connection, None)
    mine = [event for event in events if event["subject_type"] == "cage"]
    assert [event["action"] for event in mine] == ["cage.created", "cage.updated", "cage.deleted"]
    text = json.dumps([(event["before"], event["after"]) for event in mine])
    assert "canary" not in text
    assert "Canary" not in text
    assert mine[1]["after"]["key_hash"] == "(withheld)"
    assert mine[0]["after"]["settings"]["smtp"] == {"Password": "(withheld)"}


@pytest.mark.parametrize("column", ["key", "key_hash", "encrypted_password", "totp_secret"])
async def test_no_list_can_name_a_secret(connection: Raw, column: str) -> None:
    await connection.execute(f"create table cage (id int, {column} text)".encode())
    with pytest.raises(psycopg.Error) as refused:
        await connection.execute("select app.audit_table('public.cage', 'cage', %s)", ([column],))
    assert refused.value.diag.message_primary == "audit_column_secret"


async def test_what_names_a_person_never_enters_a_chain(pool: Pool) -> None:
    organization = await an_organization(pool)
    await change(
        pool,
        "update organizations set email = 'kari@canary.example', phone = 'canary',"
        " billing_email = 'kari@canary.example', address = 'canary' where id = %s",
        organization,
    )
    events = await recorded(pool, organization)
    assert set(events[1]["after"].values()) == {"(withheld)"}
    assert "canary" not in json.dumps([event["after"] for event in events])
    assert "post@hotel.example" not in json.dumps([event["after"] for event in events])


async def test_a_key_in_the_wrong_column_is_taken_out(pool: Pool) -> None:
    organization = await an_organization(pool)
    await change(
        pool, "update organizations set name = %s where id = %s", f"x {KEY} y", organization
    )
    event = await last_event(pool, organization)
    assert event["after"] == {"name": "x (withheld) y"}


async def test_a_large_value_is_told_by_its_size_and_hash(pool: Pool) -> None:
    organization = await an_organization(pool)
    big = "x" * 100_000
    await change(pool, "update organizations set domain = %s where id = %s", big, organization)
    event = await last_event(pool, organization)
    assert event["after"]["domain"].startswith("(100002 bytes, sha256 ")


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_events set actor = 'nobody'",
        "delete from audit_events",
        "truncate audit_events",
        "delete from audit_heads",
        "truncate audit_heads",
    ],
)
async def test_not_even_the_owner_changes_the_record(
    connection: Raw, pool: Pool, statement: str
) -> None:
    await connection.execute(
        "insert into organizations (name, slug, email) values ('A', 'a', 'a@a.example')"
    )
    await connection.execute("set constraints all immediate")
    with pytest.raises(psycopg.Error) as refused:
        await connection.execute(statement.encode())
    assert refused.value.diag.message_primary == AuditImmutable.code


@pytest.mark.parametrize("relation", ["audit_events", "audit_heads", "app.audit_pending"])
@pytest.mark.parametrize("actor", [PLATFORM, tenant(UUID(int=1)), person(uuid4()), Actor("anon")])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into {} default values",
        "update {} set organization_id = null",
        "delete from {}",
        "truncate {}",
    ],
)
async def test_nobody_writes_the_record_himself(
    connection: Raw, relation: str, actor: Actor, statement: str
) -> None:
    await connection.execute(f"set local role {actor.role}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await connection.execute(statement.format(relation).encode())


async def test_admins_see_their_own_organization_and_nobody_else_sees_anything(pool: Pool) -> None:
    ours, theirs = await an_organization(pool), await an_organization(pool)
    for role in ("owner", "admin", "member", "viewer"):
        auth_id = await a_member(pool, ours, role)
        async with transaction(pool, person(auth_id), read_only=True) as conn:
            assert bool(await events_of(conn, ours)) is (role in ("owner", "admin"))
            assert await events_of(conn, theirs) == []
            assert await events_of(conn, None) == []
