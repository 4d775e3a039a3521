"""What people of one organization may do to their own keys, members, and settings."""

from __future__ import annotations

import asyncio
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.isolation.conftest import LOGIN
from tests.isolation.identities import ORGANIZATIONS, thing_of

from aurora.core.errors import AuroraError
from aurora.core.secrets import generate_api_key
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, person, transaction
from aurora.features.keys.model import KeyDead
from aurora.features.organizations.model import LastOwner, RoleForbidden

A = ORGANIZATIONS["A"]
VIEWER, MEMBER, ADMIN, OWNER = (thing_of("A", number) for number in range(1, 5))
KEY = thing_of("A", 10)


async def ran(pool: Pool, who: UUID | None, statement: str, *values: object) -> int:
    """Run one statement as a person, or as the platform; return the rows that it met."""
    actor = PLATFORM if who is None else person(who)
    async with transaction(pool, actor) as conn:
        return (await conn.execute(statement.encode(), values)).rowcount


async def test_a_viewer_sees_himself_and_no_colleague(alone: Pool) -> None:
    assert await ran(alone, VIEWER, "select id from users") == 1
    assert await ran(alone, MEMBER, "select id from users") == 5


async def test_people_read_their_own_notifications_only(alone: Pool) -> None:
    assert await ran(alone, OWNER, "select id from notifications") == 1


async def test_a_person_who_may_rename_himself_cannot_make_himself_owner(alone: Pool) -> None:
    assert await ran(alone, VIEWER, "update users set name = 'New'") == 1
    for who in (VIEWER, MEMBER, ADMIN):
        with pytest.raises(RoleForbidden):
            await ran(alone, who, "update users set role = 'owner' where id = %s", who)


async def test_an_admin_changes_members_and_leaves_owners_alone(alone: Pool) -> None:
    promote = "update users set role = %s where id = %s"
    assert await ran(alone, ADMIN, promote, "admin", MEMBER) == 1
    assert await ran(alone, ADMIN, promote, "member", OWNER) == 0
    assert await ran(alone, ADMIN, "update users set name = 'Mine' where id = %s", OWNER) == 0
    with pytest.raises((RoleForbidden, psycopg.errors.InsufficientPrivilege)):
        await ran(alone, ADMIN, promote, "owner", MEMBER)
    assert await ran(alone, OWNER, promote, "owner", MEMBER) == 1


async def test_an_admin_cannot_accept_an_invitation_for_the_invited(alone: Pool) -> None:
    invite = (
        "insert into users (organization_id, email, name, status) values (%s, %s, 'N', 'invited')"
    )
    assert await ran(alone, ADMIN, invite, A, "asked@hotel.example") == 1
    accept = "update users set status = 'active' where email = 'asked@hotel.example'"
    for who in (ADMIN, OWNER):
        with pytest.raises(RoleForbidden):
            await ran(alone, who, accept)
    assert await ran(alone, None, accept) == 1


async def test_only_an_owner_invites_an_owner_and_nobody_invites_an_active_person(
    alone: Pool,
) -> None:
    invite = (
        "insert into users (organization_id, email, name, role, status)"
        " values (%s, %s, 'N', %s, %s)"
    )
    assert await ran(alone, ADMIN, invite, A, "n1@hotel.example", "admin", "invited") == 1
    assert await ran(alone, OWNER, invite, A, "n2@hotel.example", "owner", "invited") == 1
    for who, role, status in (
        (ADMIN, "owner", "invited"),
        (ADMIN, "member", "active"),
        (MEMBER, "viewer", "invited"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await ran(alone, who, invite, A, "n3@hotel.example", role, status)


@pytest.mark.parametrize(
    "change", ["set role = 'admin'", "set status = 'inactive'", "set organization_id = null"]
)
async def test_the_last_owner_stays_whoever_tries(change: str, alone: Pool) -> None:
    for who in (None,) if "organization" in change else (None, OWNER):
        with pytest.raises(LastOwner):
            await ran(alone, who, f"update users {change} where id = %s", OWNER)


async def test_an_owner_leaves_when_another_one_is_there(alone: Pool) -> None:
    assert await ran(alone, OWNER, "update users set role = 'owner' where id = %s", ADMIN) == 1
    assert await ran(alone, OWNER, "update users set status = 'inactive' where id = %s", OWNER) == 1
    assert await ran(alone, OWNER, "select id from organizations") == 0


async def test_two_owners_who_leave_at_once_do_not_both_leave(world: str) -> None:
    pool = await open_pool(make_conninfo(world, user=LOGIN), min_size=2, max_size=2, name="two")
    assert await ran(pool, None, "update users set role = 'owner' where id = %s", ADMIN) == 1
    leave = "update users set status = 'inactive' where id = %s"
    async with transaction(pool, PLATFORM) as first:
        await first.execute(leave.encode(), (OWNER,))
        second = asyncio.create_task(ran(pool, None, leave, ADMIN))
        # The second one waits for the first, instead of counting an owner who is about to go.
        assert not (await asyncio.wait({second}, timeout=0.3))[0]
    with pytest.raises(LastOwner):
        await second
    await pool.close()


async def test_the_members_of_a_deleted_organization_can_be_erased(alone: Pool) -> None:
    # The subscription ends first, then the customer, then the rows.
    await ran(alone, None, "update subscriptions set status = 'cancelled'")
    await ran(alone, None, "update organizations set status = 'cancelled' where id = %s", A)
    await ran(alone, None, "update organizations set deleted_at = now() where id = %s", A)
    assert await ran(alone, OWNER, "select id from organizations") == 0
    assert await ran(alone, None, "update users set status = 'inactive' where id = %s", OWNER) == 1


MAKE = "insert into api_keys (organization_id, key, name) values (%s, %s, 'New')"


async def test_an_admin_makes_a_key_that_nobody_can_read_back(alone: Pool) -> None:
    key = generate_api_key("production").key
    async with transaction(alone, person(ADMIN)) as conn:
        made = await conn.execute(
            f"{MAKE} returning key_prefix, rate_limit_tier, rate_limit_per_hour".encode(), (A, key)
        )
        # The limits are those of the organization's plan, which is premium.
        assert await made.fetchone() == (key[:15], "premium", 50_000)
    for column in ("key", "key_hash", "*"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await ran(alone, OWNER, f"select {column} from api_keys")


@pytest.mark.parametrize(
    "column", ["rate_limit_per_hour", "burst_per_second", "status", "last_used_at"]
)
async def test_nobody_chooses_what_a_key_is_worth(column: str, alone: Pool) -> None:
    statement = (
        f"insert into api_keys (organization_id, key, name, {column}) values (%s, %s, 'N', null)"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await ran(alone, OWNER, statement, A, generate_api_key("production").key)


@pytest.mark.parametrize("status", ["suspended", "cancelled"])
async def test_a_suspended_organization_reads_and_revokes_but_makes_no_key(
    status: str, alone: Pool
) -> None:
    await ran(alone, None, "update organizations set status = %s where id = %s", status, A)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await ran(alone, OWNER, MAKE, A, generate_api_key("production").key)
    assert await ran(alone, OWNER, "select id from api_keys") == 1
    assert await ran(alone, OWNER, "update api_keys set status = 'revoked'") == 1


async def test_a_revoked_key_stays_dead(alone: Pool) -> None:
    assert await ran(alone, ADMIN, "update api_keys set status = 'revoked' where id = %s", KEY) == 1
    assert await ran(alone, ADMIN, "select from api_keys where revoked_at is not null") == 1
    for who in (ADMIN, None):
        with pytest.raises(KeyDead):
            await ran(alone, who, "update api_keys set status = 'active' where id = %s", KEY)


@pytest.mark.parametrize("column", ["status", "slug", "trial_ends_at", "metadata", "deleted_at"])
async def test_billing_state_is_not_the_customers_to_change(column: str, alone: Pool) -> None:
    assert (
        await ran(alone, ADMIN, "update organizations set billing_email = 'b@hotel.example'") == 1
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await ran(alone, OWNER, f"update organizations set {column} = {column}")


async def test_a_foreign_organization_is_refused_like_a_missing_one(alone: Pool) -> None:
    told = set()
    for organization in (ORGANIZATIONS["B"], UUID(int=7)):
        with pytest.raises((psycopg.Error, AuroraError)) as refused:
            await ran(alone, OWNER, MAKE, organization, generate_api_key("production").key)
        told.add(str(refused.value))
    assert len(told) == 1
