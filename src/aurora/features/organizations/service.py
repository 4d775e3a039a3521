"""What can be done with organizations and their people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from aurora.core.paging import Page, decode_cursor, page_of
from aurora.core.taxids import check_org_number, check_vat_number
from aurora.db.transaction import Connection
from aurora.features.organizations import store
from aurora.features.organizations.model import (
    Organization,
    OrganizationNotFound,
    OrganizationStatus,
    Role,
    User,
)


async def create_organization(
    conn: Connection,
    *,
    name: str,
    slug: str,
    email: str,
    phone: str | None = None,
    domain: str | None = None,
    address: str | None = None,
    city: str | None = None,
    postal_code: str | None = None,
    country: str = "NO",
    org_number: str | None = None,
    vat_number: str | None = None,
    billing_email: str | None = None,
    invoice_reference: str | None = None,
    settings: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Organization:
    """Create a customer on a 30-day trial.

    Raises:
        SlugTaken, SlugInvalid, NameInvalid, EmailInvalid, CountryInvalid: from the database.
        Invalid: An organization or VAT number that its country's check digits refuse.
    """
    return await store.insert_organization(
        conn,
        name=name.strip(),
        slug=slug,
        email=email,
        phone=phone,
        domain=domain,
        address=address,
        city=city,
        postal_code=postal_code,
        country=country,
        org_number=None if org_number is None else check_org_number(org_number, country),
        vat_number=None if vat_number is None else check_vat_number(vat_number, country),
        billing_email=billing_email,
        invoice_reference=invoice_reference,
        settings=dict(settings or {}),
        metadata=dict(metadata or {}),
    )


async def get_organization(conn: Connection, which: UUID | str) -> Organization:
    """Return one organization by id or slug.

    Raises:
        OrganizationNotFound: There is none, or the caller may not see it.
    """
    found = (
        await store.find_organization(conn, which)
        if isinstance(which, UUID)
        else await store.find_organization_by_slug(conn, which)
    )
    if found is None:
        raise OrganizationNotFound(f"There is no organization {which}.")
    return found


async def find_known_organizations(conn: Connection, ids: Iterable[UUID]) -> set[UUID]:
    """Return which of these ids are organizations; asks nothing where there are none."""
    wanted = list(ids)
    return set(await store.list_organization_ids(conn, wanted)) if wanted else set()


async def list_organizations(
    conn: Connection, *, cursor: str | None, limit: int
) -> Page[Organization]:
    """Return a page of organizations, newest first."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_organizations(conn, after=after, limit=limit + 1)
    return page_of(found, limit, lambda row: (row.created_at, row.id))


async def set_organization_status(
    conn: Connection, organization_id: UUID, status: OrganizationStatus
) -> None:
    """Move an organization to another status."""
    if not await store.update_organization_status(conn, organization_id, status):
        raise OrganizationNotFound


async def create_user(
    conn: Connection, *, organization_id: UUID, email: str, name: str, role: Role = "member"
) -> User:
    """Make a person a member of an organization.

    Raises:
        OrganizationNotFound, MemberExists, EmailInvalid, NameInvalid: from the database.
    """
    return await store.insert_user(
        conn,
        organization_id=organization_id,
        email=email,
        name=name.strip(),
        role=role,
        status="active",
    )


async def list_users(conn: Connection, organization_id: UUID) -> list[User]:
    """Return the people of an organization, oldest membership first."""
    return await store.list_users(conn, organization_id)
