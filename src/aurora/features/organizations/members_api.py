"""HTTP door to the people of an organization: members and invitations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations import invitations, service
from aurora.features.organizations.authority import place_of
from aurora.features.organizations.model import Language, Role, UserStatus
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["people"])

Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]

MEMBERS = "/v1/organizations/{organization_id}/users"
INVITATIONS = "/v1/organizations/{organization_id}/invitations"


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


class UserChanges(BaseModel):
    """What is to change of a member; a field that is not named stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "admin"}]})
    name: str | None = Field(None, max_length=200)
    role: Role | None = None
    status: Literal["active", "inactive"] | None = None


class UserOut(BaseModel):
    """A membership."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID | None
    email: str
    name: str
    role: Role
    status: UserStatus
    last_login_at: datetime | None


class UserList(BaseModel):
    """The people of an organization, oldest membership first."""

    items: list[UserOut]


class NewInvitation(BaseModel):
    """A person to invite by mail."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"email": "ola@hotel.example", "name": "Ola Nordmann", "role": "member"}]
        },
    )
    email: str = Field(max_length=254)
    name: str = Field(max_length=200)
    role: Role = "member"
    language: Language | None = None


class InvitationOut(BaseModel):
    """An invitation; its link is in the mail and nowhere else."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    invited_by: UUID | None
    email: str
    name: str
    role: Role
    language: Language
    status: Literal["open", "accepted", "revoked", "expired"]
    expires_at: datetime
    sent_count: int


class InvitationList(BaseModel):
    """The invitations of an organization, newest first."""

    items: list[InvitationOut]


class Acceptance(BaseModel):
    """The token of the link, and the person's own name if it was written wrong."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(min_length=20, max_length=200)
    name: str | None = Field(None, max_length=200)


@router.post(MEMBERS, status_code=201)
async def create_user(organization_id: UUID, body: NewUser, who: Who, pool: Database) -> UserOut:
    """Make a person a member of an organization without asking (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return UserOut.model_validate(
            await service.create_user(conn, organization_id=organization_id, **body.model_dump())
        )


@router.get(MEMBERS)
async def list_users(organization_id: UUID, who: Who, pool: Database) -> UserList:
    """List the people of an organization (members and up)."""
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        (await place_of(conn, who, organization_id)).must_be("member")
        await service.get_organization(conn, organization_id)
        found = await service.list_users(conn, organization_id)
    return UserList(items=[UserOut.model_validate(user) for user in found])


@router.get(MEMBERS + "/{user_id}")
async def get_user(organization_id: UUID, user_id: UUID, who: Who, pool: Database) -> UserOut:
    """Return one member (members and up)."""
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        (await place_of(conn, who, organization_id)).must_be("member")
        return UserOut.model_validate(await service.get_user(conn, organization_id, user_id))


@router.patch(MEMBERS + "/{user_id}")
async def change_user(
    organization_id: UUID, user_id: UUID, body: UserChanges, who: Who, pool: Database
) -> UserOut:
    """Change a member's name, role, or status (admins; owners where an owner is concerned)."""
    async with transaction(pool, who.actor(organization_id)) as conn:
        place = await place_of(conn, who, organization_id)
        changes = body.model_dump(exclude_unset=True)
        return UserOut.model_validate(
            await service.change_user(conn, organization_id, user_id, changes, place)
        )


@router.delete(MEMBERS + "/{user_id}")
async def remove_user(organization_id: UUID, user_id: UUID, who: Who, pool: Database) -> UserOut:
    """Make a member inactive (admins; owners for owners; everybody may leave)."""
    async with transaction(pool, who.actor(organization_id)) as conn:
        place = await place_of(conn, who, organization_id)
        changes = {"status": "inactive"}
        return UserOut.model_validate(
            await service.change_user(conn, organization_id, user_id, changes, place)
        )


@router.post(INVITATIONS, status_code=201)
async def invite(
    organization_id: UUID, body: NewInvitation, who: Who, pool: Database
) -> InvitationOut:
    """Invite a person by mail (admins; owners invite owners)."""
    async with transaction(pool, PLATFORM) as conn:
        place = await place_of(conn, who, organization_id)
        return InvitationOut.model_validate(
            await invitations.invite(
                conn, organization_id=organization_id, place=place, **body.model_dump()
            )
        )


@router.get(INVITATIONS)
async def list_invitations(organization_id: UUID, who: Who, pool: Database) -> InvitationList:
    """List invitations, newest first (admins)."""
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        (await place_of(conn, who, organization_id)).must_be("admin")
        await service.get_organization(conn, organization_id)
        found = await invitations.list_invitations(conn, organization_id)
    return InvitationList(items=[InvitationOut.model_validate(one) for one in found])


@router.post(INVITATIONS + "/{invitation_id}/resend")
async def send_invitation_again(
    organization_id: UUID, invitation_id: UUID, who: Who, pool: Database
) -> InvitationOut:
    """Send an invitation with a new link; the old one is dead (admins)."""
    async with transaction(pool, PLATFORM) as conn:
        place = await place_of(conn, who, organization_id)
        return InvitationOut.model_validate(
            await invitations.send_again(conn, organization_id, invitation_id, place)
        )


@router.delete(INVITATIONS + "/{invitation_id}")
async def take_invitation_back(
    organization_id: UUID, invitation_id: UUID, who: Who, pool: Database
) -> InvitationOut:
    """Take an invitation back (admins)."""
    async with transaction(pool, PLATFORM) as conn:
        place = await place_of(conn, who, organization_id)
        return InvitationOut.model_validate(
            await invitations.take_back(conn, organization_id, invitation_id, place)
        )


@router.post("/v1/invitations/accept", status_code=201)
async def accept_invitation(body: Acceptance, pool: Database) -> UserOut:
    """Become a member with the token of the mail; no credentials are needed."""
    async with transaction(pool, PLATFORM) as conn:
        return UserOut.model_validate(await invitations.accept(conn, body.token, body.name))
