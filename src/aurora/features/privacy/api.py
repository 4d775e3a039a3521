"""HTTP door of the privacy room."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.emails import check_email
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations.service import place_of
from aurora.features.privacy import service
from aurora.integrations.http import Caller, caller_of, pool_of
from aurora.integrations.jobs import enqueue

router = APIRouter(tags=["privacy"])

Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
ZIP = "application/zip"


class PersonAsked(BaseModel):
    """Whose data is meant; in the body, because addresses of pages are logged."""

    model_config = ConfigDict(extra="forbid")
    email: str = Field(max_length=254)


class PersonErasure(PersonAsked):
    """Whose data goes, said twice."""

    confirm: str = Field(max_length=254, description="The same address again.")


class OrganizationErasure(BaseModel):
    """A sign that this organization is meant."""

    model_config = ConfigDict(extra="forbid")
    confirm: str = Field(max_length=63, description="The organization's slug.")


class Erased(BaseModel):
    """What was touched; all zero when there was nothing left."""

    model_config = ConfigDict(from_attributes=True)
    people: int
    invitations: int
    contacts: int
    keys_revoked: int


@router.get("/v1/organizations/{organization_id}/export", response_class=StreamingResponse)
async def export_organization(organization_id: UUID, who: Who, pool: Database) -> StreamingResponse:
    """Send everything about an organization as one zip of JSON and CSV (owners)."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        (await place_of(conn, who, organization_id)).must_be("owner")
        subject = await service.find_subject(conn, organization_id)
    return StreamingResponse(
        service.export_organization(pool, organization_id),
        media_type=ZIP,
        headers=_attachment(f"aurora-{subject.slug}.zip"),
    )


@router.post("/v1/organizations/{organization_id}/erase")
async def erase_organization(
    organization_id: UUID, body: OrganizationErasure, who: Who, pool: Database
) -> Erased:
    """Erase an organization for good, but for issued documents (operators).

    The raw usage is stripped of what could name a visitor by the worker, soon after.
    """
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be_operator()
        done = await service.erase_organization(conn, organization_id, confirm=body.confirm)
        await enqueue(conn, service.STRIP_JOB, str(organization_id).encode())
    return Erased.model_validate(done)


@router.post("/v1/people/export", response_class=StreamingResponse)
async def export_person(body: PersonAsked, who: Who, pool: Database) -> StreamingResponse:
    """Send everything about a person as one zip of JSON and CSV (operators)."""
    who.must_be_operator()
    return StreamingResponse(
        service.export_person(pool, check_email(body.email)),
        media_type=ZIP,
        headers=_attachment("aurora-person.zip"),
    )


@router.post("/v1/people/erase")
async def erase_person(body: PersonErasure, who: Who, pool: Database) -> Erased:
    """Erase a person everywhere but in issued documents (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return Erased.model_validate(
            await service.erase_person(conn, body.email, confirm=body.confirm)
        )


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
