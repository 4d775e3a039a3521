"""HTTP door to an organization's logo."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations import logos, service
from aurora.features.organizations.authority import place_of
from aurora.features.organizations.model import LogoOut, NewLogo, OrganizationNotFound
from aurora.integrations.http import Caller, caller_of, picture_response, pool_of

router = APIRouter(tags=["organizations"])
LOGO = "/v1/organizations/{organization_id}/logo"

Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.put(LOGO)
async def set_logo(organization_id: UUID, body: NewLogo, who: Who, pool: Database) -> LogoOut:
    """Set the logo that the organization's next documents and pages show (admins)."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        await _must_be_admin(conn, who, organization_id)
    # Drawn between two transactions: it takes a while, and nobody waits for the connection.
    picture = await logos.draw_logo(body.content)
    async with transaction(pool, PLATFORM) as conn:
        await _must_be_admin(conn, who, organization_id)
        await logos.set_logo(conn, organization_id, picture)
        return LogoOut.model_validate(await logos.get_logo(conn, organization_id))


@router.get(
    LOGO,
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The logo, as it is printed"}},
)
async def get_logo(organization_id: UUID, who: Who, pool: Database) -> Response:
    """Return the logo as PNG: any to an operator, its own to a key or a member."""
    if who.kind == "key" and organization_id != who.organization_id:
        raise OrganizationNotFound(f"There is no organization {organization_id}.")
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        await service.get_organization(conn, organization_id)
        return picture_response((await logos.get_logo(conn, organization_id)).content)


@router.delete(LOGO, status_code=204)
async def remove_logo(organization_id: UUID, who: Who, pool: Database) -> None:
    """Take the logo away; documents that were made keep the one they show (admins)."""
    async with transaction(pool, PLATFORM) as conn:
        await _must_be_admin(conn, who, organization_id)
        await logos.set_logo(conn, organization_id, None)


async def _must_be_admin(conn: Connection, who: Caller, organization_id: UUID) -> None:
    place = await place_of(conn, who, organization_id)
    place.must_be("admin")
    await service.get_organization(conn, organization_id)
