"""HTTP door of the organizations room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.errors import NotFound
from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import service
from aurora.features.organizations.model import OrganizationStatus, Role
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1/organizations", tags=["organizations"])


class NewOrganization(BaseModel):
    """A customer to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Radisson Blu Tromsø",
                    "slug": "radisson-blu-tromso",
                    "email": "post@hotel.example",
                    "country": "NO",
                    "org_number": "123456785",
                }
            ]
        },
    )
    name: str = Field(max_length=200)
    slug: str = Field(max_length=63)
    email: str = Field(max_length=254)
    phone: str | None = Field(None, max_length=50)
    domain: str | None = Field(None, max_length=253)
    address: str | None = Field(None, max_length=500)
    city: str | None = Field(None, max_length=200)
    postal_code: str | None = Field(None, max_length=20)
    country: str = Field("NO", max_length=2)
    org_number: str | None = Field(None, max_length=50)
    vat_number: str | None = Field(None, max_length=50)
    billing_email: str | None = Field(None, max_length=254)
    invoice_reference: str | None = Field(None, max_length=200)
    settings: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class OrganizationOut(BaseModel):
    """A customer."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    updated_at: datetime
    name: str
    slug: str
    domain: str | None
    email: str
    phone: str | None
    address: str | None
    city: str | None
    postal_code: str | None
    country: str
    org_number: str | None
    vat_number: str | None
    billing_email: str | None
    invoice_reference: str | None
    status: OrganizationStatus
    trial_ends_at: datetime | None
    settings: dict[str, Any]


class OrganizationPage(BaseModel):
    """A page of customers, newest first."""

    items: list[OrganizationOut]
    next_cursor: str | None


class NewUser(BaseModel):
    """A person to make a member."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"email": "kari@hotel.example", "name": "Kari Nordmann", "role": "owner"}]
        },
    )
    email: str = Field(max_length=254)
    name: str = Field(max_length=200)
    role: Role = "member"


class UserOut(BaseModel):
    """A membership."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID | None
    email: str
    name: str
    role: Role
    status: str
    last_login_at: datetime | None


class UserList(BaseModel):
    """The people of an organization, oldest membership first."""

    items: list[UserOut]


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.post("", status_code=201)
async def create_organization(body: NewOrganization, who: Who, pool: Database) -> OrganizationOut:
    """Create an organization on trial (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return OrganizationOut.model_validate(
            await service.create_organization(conn, **body.model_dump())
        )


@router.get("")
async def list_organizations(
    who: Who,
    pool: Database,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> OrganizationPage:
    """List organizations, newest first: all to an operator, one's own to a person."""
    async with transaction(pool, who.everywhere(), read_only=True) as conn:
        page = await service.list_organizations(conn, cursor=cursor, limit=limit)
    return OrganizationPage(
        items=[OrganizationOut.model_validate(item) for item in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/{organization_id}")
async def get_organization(organization_id: UUID, who: Who, pool: Database) -> OrganizationOut:
    """Return one organization: any to an operator, its own to a key."""
    if who.kind == "key" and organization_id != who.organization_id:
        raise NotFound
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        return OrganizationOut.model_validate(await service.get_organization(conn, organization_id))


@router.post("/{organization_id}/users", status_code=201)
async def create_user(organization_id: UUID, body: NewUser, who: Who, pool: Database) -> UserOut:
    """Make a person a member of an organization (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return UserOut.model_validate(
            await service.create_user(conn, organization_id=organization_id, **body.model_dump())
        )


@router.get("/{organization_id}/users")
async def list_users(organization_id: UUID, who: Who, pool: Database) -> UserList:
    """List the people of an organization (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        await service.get_organization(conn, organization_id)
        found = await service.list_users(conn, organization_id)
    return UserList(items=[UserOut.model_validate(user) for user in found])
