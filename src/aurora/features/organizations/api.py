"""HTTP door of the organizations room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import logos_api, members_api, service
from aurora.features.organizations.authority import place_of
from aurora.features.organizations.model import (
    OrganizationNotFound,
    OrganizationSettings,
    OrganizationStatus,
)
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["organizations"])
ORGANIZATIONS = "/v1/organizations"
ORGANIZATION = ORGANIZATIONS + "/{organization_id}"


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
    org_number_unverified: bool = False
    vat_number_unverified: bool = False
    settings: OrganizationSettings = Field(default_factory=OrganizationSettings)
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
    org_number_unverified: bool
    vat_number: str | None
    vat_number_unverified: bool
    billing_email: str | None
    invoice_reference: str | None
    status: OrganizationStatus
    trial_ends_at: datetime | None
    settings: dict[str, Any]
    logo_sha256: str | None
    deleted_at: datetime | None


class OrganizationPage(BaseModel):
    """A page of customers, newest first."""

    items: list[OrganizationOut]
    next_cursor: str | None


class OrganizationChanges(BaseModel):
    """What is to change; a field that is not named stays, null empties it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"phone": "+47 77 00 00 00", "settings": {"language": "nb"}}]
        },
    )
    name: str | None = Field(None, max_length=200)
    slug: str | None = Field(None, max_length=63)
    email: str | None = Field(None, max_length=254)
    phone: str | None = Field(None, max_length=50)
    domain: str | None = Field(None, max_length=253)
    address: str | None = Field(None, max_length=500)
    city: str | None = Field(None, max_length=200)
    postal_code: str | None = Field(None, max_length=20)
    country: str | None = Field(None, max_length=2)
    org_number: str | None = Field(None, max_length=50)
    org_number_unverified: bool = False
    vat_number: str | None = Field(None, max_length=50)
    vat_number_unverified: bool = False
    billing_email: str | None = Field(None, max_length=254)
    invoice_reference: str | None = Field(None, max_length=200)
    settings: OrganizationSettings = Field(default_factory=OrganizationSettings)


class StatusChange(BaseModel):
    """The status that comes next."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"status": "active"}]}
    )
    status: OrganizationStatus


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


def _given(settings: OrganizationSettings) -> dict[str, Any]:
    return {name: value for name, value in settings.named().items() if value is not None}


@router.post(ORGANIZATIONS, status_code=201)
async def create_organization(body: NewOrganization, who: Who, pool: Database) -> OrganizationOut:
    """Create an organization on trial (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return OrganizationOut.model_validate(
            await service.create_organization(
                conn, **body.model_dump() | {"settings": _given(body.settings)}
            )
        )


@router.get(ORGANIZATIONS)
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


@router.get(ORGANIZATION)
async def get_organization(organization_id: UUID, who: Who, pool: Database) -> OrganizationOut:
    """Return one organization: any to an operator, its own to a key or a member."""
    if who.kind == "key" and organization_id != who.organization_id:
        raise OrganizationNotFound(f"There is no organization {organization_id}.")
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        return OrganizationOut.model_validate(await service.get_organization(conn, organization_id))


@router.patch(ORGANIZATION)
async def change_organization(
    organization_id: UUID, body: OrganizationChanges, who: Who, pool: Database
) -> OrganizationOut:
    """Change the named fields (admins; the slug is the operators')."""
    changes = body.model_dump(exclude_unset=True)
    if "settings" in changes:
        changes["settings"] = body.settings.named()
    async with transaction(pool, who.actor(organization_id)) as conn:
        place = await place_of(conn, who, organization_id)
        place.must_be("admin")
        if "slug" in changes:
            place.must_be_operator()
        return OrganizationOut.model_validate(
            await service.change_organization(conn, organization_id, changes)
        )


@router.post(ORGANIZATION + "/status")
async def set_organization_status(
    organization_id: UUID, body: StatusChange, who: Who, pool: Database
) -> OrganizationOut:
    """Move an organization to another status (operators; owners cancel)."""
    async with transaction(pool, PLATFORM) as conn:
        place = await place_of(conn, who, organization_id)
        return OrganizationOut.model_validate(
            await service.set_organization_status(conn, organization_id, body.status, place)
        )


@router.delete(ORGANIZATION)
async def delete_organization(organization_id: UUID, who: Who, pool: Database) -> OrganizationOut:
    """Delete a cancelled organization softly; its documents and its slug stay (operators)."""
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be_operator()
        return OrganizationOut.model_validate(
            await service.delete_organization(conn, organization_id)
        )


@router.post(ORGANIZATION + "/restore")
async def restore_organization(organization_id: UUID, who: Who, pool: Database) -> OrganizationOut:
    """Take a deletion back; the organization stays cancelled (operators)."""
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be_operator()
        return OrganizationOut.model_validate(
            await service.restore_organization(conn, organization_id)
        )


router.include_router(members_api.router)
router.include_router(logos_api.router)
