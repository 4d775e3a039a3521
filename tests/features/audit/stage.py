"""What the tests of the audit begin with: customers, keys, and a way to read what was recorded."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, Connection, transaction
from aurora.features.audit.model import Verification
from aurora.features.audit.service import verify_chains
from aurora.features.keys.model import NewApiKey
from aurora.features.keys.service import create_api_key
from aurora.features.organizations.service import create_organization, create_user

OPERATOR = Actor("service_role", name="operator", request_id="req_1")


async def an_organization(pool: Pool, acting_as: Actor = PLATFORM) -> UUID:
    """Make a customer; its chain then has one event."""
    slug = f"hotel-{uuid4().hex[:12]}"
    async with transaction(pool, acting_as) as conn:
        made = await create_organization(conn, name="Hotel", slug=slug, email="post@hotel.example")
    return made.id


async def a_member(pool: Pool, organization_id: UUID, role: Any = "admin") -> UUID:
    """Make a person who can sign in and a member; return the auth_id."""
    auth_id = uuid4()
    async with transaction(pool, PLATFORM) as conn:
        user = await create_user(
            conn,
            organization_id=organization_id,
            email=f"{auth_id.hex[:12]}@hotel.example",
            name="Kari Nordmann",
            role=role,
        )
        await conn.execute("update users set auth_id = %s where id = %s", (auth_id, user.id))
    return auth_id


async def a_key(pool: Pool, organization_id: UUID, acting_as: Actor = PLATFORM) -> NewApiKey:
    """Make a key."""
    async with transaction(pool, acting_as) as conn:
        return await create_api_key(conn, organization_id=organization_id, name="A key")


async def events_of(conn: Connection, organization_id: UUID | None) -> list[dict[str, Any]]:
    """Return a chain in its order, as whoever the connection acts for sees it."""
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(
        "select * from audit_events where organization_id is not distinct from %s"
        " order by sequence",
        (organization_id,),
    )
    return await cursor.fetchall()


async def recorded(pool: Pool, organization_id: UUID | None) -> list[dict[str, Any]]:
    """Return a chain in its order, as the platform sees it."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return await events_of(conn, organization_id)


async def last_event(pool: Pool, organization_id: UUID | None) -> dict[str, Any]:
    """Return the newest event of a chain."""
    return (await recorded(pool, organization_id))[-1]


async def verified(pool: Pool, **options: Any) -> Verification:
    """Check all chains."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return await verify_chains(conn, **options)


async def tamper(database: str, *statements: str, **values: object) -> None:
    """Do what only a superuser can: change the record behind the back of its triggers."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        await owner.execute("set session_replication_role = replica")
        for statement in statements:
            await owner.execute(statement.encode(), values or None)


async def change(pool: Pool, statement: str, *values: object, acting_as: Actor = PLATFORM) -> None:
    """Change something and commit."""
    async with transaction(pool, acting_as) as conn:
        await conn.execute(statement.encode(), values or None)
