"""The only Python that runs the organizations room's SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
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
    INVITATION_DAYS,
    MAX_INVITATIONS_LISTED,
    MAX_USERS_LISTED,
    TRIAL_DAYS,
    Invitation,
    Logo,
    Organization,
    OrganizationStatus,
    Role,
    User,
)
from aurora.integrations.pictures import Picture

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


async def update_organization(
    conn: Connection,
    organization_id: UUID,
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Organization | None:
    """Change the named columns and merge the settings; None when there is no such row."""
    return await fetch_optional(
        conn,
        QUERIES["update_organization"],
        Organization,
        organization_id=organization_id,
        changes=Jsonb(dict(changes)),
        settings=Jsonb(dict(settings)),
    )


async def update_organization_slug(conn: Connection, organization_id: UUID, slug: str) -> int:
    """Set the slug; return how many rows that changed (0 or 1)."""
    query = QUERIES["update_organization_slug"]
    return await execute(conn, query, organization_id=organization_id, slug=slug)


async def delete_organization(conn: Connection, organization_id: UUID) -> Organization | None:
    """Delete softly; None when there is no such row."""
    query = QUERIES["update_organization_deleted"]
    return await fetch_optional(conn, query, Organization, organization_id=organization_id)


async def restore_organization(conn: Connection, organization_id: UUID) -> Organization | None:
    """Take a soft deletion back; None when there is no such row."""
    query = QUERIES["update_organization_restored"]
    return await fetch_optional(conn, query, Organization, organization_id=organization_id)


async def find_transition(
    conn: Connection, from_status: OrganizationStatus, to_status: OrganizationStatus
) -> str | None:
    """Return who at least may do this: owner, operator, or None for nobody."""
    query = QUERIES["find_organization_transition"]
    may: str | None = await fetch_value(conn, query, from_status=from_status, to_status=to_status)
    return may


async def find_user(conn: Connection, organization_id: UUID, user_id: UUID) -> User | None:
    """Return one membership."""
    return await fetch_optional(
        conn, QUERIES["find_user"], User, organization_id=organization_id, user_id=user_id
    )


async def find_user_by_auth_id(
    conn: Connection, organization_id: UUID, auth_id: UUID
) -> User | None:
    """Return a person's active membership in an organization."""
    query = QUERIES["find_user_by_auth_id"]
    return await fetch_optional(conn, query, User, organization_id=organization_id, auth_id=auth_id)


async def update_user(
    conn: Connection, organization_id: UUID, user_id: UUID, changes: Mapping[str, Any]
) -> User | None:
    """Change the named columns of a membership; None when there is no such row."""
    return await fetch_optional(
        conn,
        QUERIES["update_user"],
        User,
        organization_id=organization_id,
        user_id=user_id,
        changes=Jsonb(dict(changes)),
    )


async def count_active_members(conn: Connection, organization_id: UUID, email: str) -> int:
    """Return how many active members have this address: 0 or 1."""
    query = QUERIES["count_active_members_by_email"]
    found: int = await fetch_value(conn, query, organization_id=organization_id, email=email)
    return found


async def count_open_invitations(conn: Connection, organization_id: UUID) -> int:
    """Return how many invitations wait for an answer."""
    query = QUERIES["count_open_invitations"]
    found: int = await fetch_value(conn, query, organization_id=organization_id)
    return found


async def close_expired_invitations(conn: Connection, organization_id: UUID) -> int:
    """Close what nobody can accept any more; return how many."""
    query = QUERIES["update_invitations_expired"]
    return await execute(conn, query, organization_id=organization_id)


async def insert_invitation(conn: Connection, **fields: object) -> Invitation:
    """Insert an invitation; fields are those of the query."""
    return await fetch_one(
        conn, QUERIES["insert_invitation"], Invitation, days=INVITATION_DAYS, **fields
    )


async def find_invitation(
    conn: Connection, organization_id: UUID, invitation_id: UUID
) -> Invitation | None:
    """Return one invitation of an organization."""
    query = QUERIES["find_invitation"]
    return await fetch_optional(
        conn, query, Invitation, organization_id=organization_id, invitation_id=invitation_id
    )


async def list_invitations(conn: Connection, organization_id: UUID) -> list[Invitation]:
    """Return the invitations of an organization, newest first."""
    return await fetch_all(
        conn,
        QUERIES["list_invitations_by_organization"],
        Invitation,
        organization_id=organization_id,
        limit=MAX_INVITATIONS_LISTED,
    )


async def renew_invitation(
    conn: Connection, organization_id: UUID, invitation_id: UUID, token_hash: str
) -> Invitation | None:
    """Give an open invitation a new token; None when there is none."""
    return await fetch_optional(
        conn,
        QUERIES["update_invitation_token"],
        Invitation,
        organization_id=organization_id,
        invitation_id=invitation_id,
        token_hash=token_hash,
        days=INVITATION_DAYS,
    )


async def revoke_invitation(
    conn: Connection, organization_id: UUID, invitation_id: UUID
) -> Invitation | None:
    """Take an invitation back; None when there is none, or it was accepted."""
    query = QUERIES["update_invitation_revoked"]
    return await fetch_optional(
        conn, query, Invitation, organization_id=organization_id, invitation_id=invitation_id
    )


async def accept_invitation(conn: Connection, token_hash: str, name: str | None) -> User:
    """Make the holder of a token a member."""
    query = QUERIES["accept_invitation"]
    return await fetch_one(conn, query, User, token_hash=token_hash, name=name)


async def set_logo(conn: Connection, organization_id: UUID, picture: Picture | None) -> str | None:
    """Give an organization a logo, or none; return the digest."""
    digest: str | None = await fetch_value(
        conn,
        QUERIES["set_organization_logo"],
        organization_id=organization_id,
        content=None if picture is None else picture.content,
        width=None if picture is None else picture.width,
        height=None if picture is None else picture.height,
    )
    return digest


async def find_logo(conn: Connection, organization_id: UUID) -> Logo | None:
    """Return the logo of now, if the caller may see it."""
    return await fetch_optional(
        conn, QUERIES["find_organization_logo"], Logo, organization_id=organization_id
    )
