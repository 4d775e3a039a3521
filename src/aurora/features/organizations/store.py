"""The only Python that runs the organizations room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import (
    execute,
    fetch_all,
    fetch_one,
    fetch_optional,
    fetch_value,
    load_queries,
)
from aurora.db.transaction import Connection
from aurora.features.organizations.model import (
    MAX_USERS_LISTED,
    TRIAL_DAYS,
    Organization,
    OrganizationStatus,
    Role,
    User,
)

QUERIES = load_queries(__package__)


async def insert_organization(conn: Connection, **fields: object) -> Organization:
    """Insert a customer on trial; fields are those of the query."""
    return await fetch_one(
        conn,
        QUERIES["insert_organization"],
        Organization,
        trial_days=TRIAL_DAYS,
        **{**fields, "settings": Jsonb(fields["settings"]), "metadata": Jsonb(fields["metadata"])},
    )


async def find_organization(conn: Connection, organization_id: UUID) -> Organization | None:
    """Return the organization with this id, if the caller may see it."""
    return await fetch_optional(
        conn, QUERIES["find_organization"], Organization, organization_id=organization_id
    )


async def find_organization_by_slug(conn: Connection, slug: str) -> Organization | None:
    """Return the organization with this slug, if the caller may see it."""
    return await fetch_optional(conn, QUERIES["find_organization_by_slug"], Organization, slug=slug)


async def list_organization_ids(conn: Connection, ids: Sequence[UUID]) -> list[UUID]:
    """Return which of these ids are organizations."""
    found: list[UUID] = await fetch_value(
        conn, QUERIES["list_organization_ids"], organization_ids=list(ids)
    )
    return found


async def list_organizations(
    conn: Connection, *, after: tuple[datetime, UUID] | None, limit: int
) -> list[Organization]:
    """Return up to `limit` organizations, newest first, after the given place."""
    created_at, organization_id = after or (None, None)
    return await fetch_all(
        conn,
        QUERIES["list_organizations_by_created_at"],
        Organization,
        after_created_at=created_at,
        after_id=organization_id,
        limit=limit,
    )


async def update_organization_status(
    conn: Connection, organization_id: UUID, status: OrganizationStatus
) -> int:
    """Set the status; return how many rows that changed (0 or 1)."""
    return await execute(
        conn,
        QUERIES["update_organization_status"],
        organization_id=organization_id,
        status=status,
    )


async def insert_user(
    conn: Connection, *, organization_id: UUID, email: str, name: str, role: Role, status: str
) -> User:
    """Insert a membership."""
    return await fetch_one(
        conn,
        QUERIES["insert_user"],
        User,
        organization_id=organization_id,
        email=email,
        name=name,
        role=role,
        status=status,
    )


async def list_users(conn: Connection, organization_id: UUID) -> list[User]:
    """Return the people of an organization, at most `MAX_USERS_LISTED`."""
    return await fetch_all(
        conn,
        QUERIES["list_users_by_organization"],
        User,
        organization_id=organization_id,
        limit=MAX_USERS_LISTED,
    )
