"""HTTP door of the keys room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.keys import service
from aurora.features.keys.model import (
    DEFAULT_OVERLAP,
    DEFAULT_SCOPES,
    LIMITS,
    MAX_OVERLAP,
    Environment,
    Kind,
    NewApiKey,
)
from aurora.features.organizations.model import Role
from aurora.features.organizations.service import get_organization, place_of
from aurora.integrations.http import Caller, OperatorOnly, caller_of, pool_of

MAX_LIMIT = 2_000_000_000

router = APIRouter(prefix="/v1/organizations/{organization_id}/keys", tags=["keys"])


class NewKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Production website",
                    "environment": "production",
                    "scopes": ["aurora:read", "analytics:read"],
                    "allowed_origins": ["https://www.hotel.example"],
                }
            ]
        },
    )
    name: str = Field(max_length=200)
    environment: Environment = "production"
    kind: Kind = "secret"
    description: str | None = Field(None, max_length=1000)
    scopes: list[str] = Field(default_factory=lambda: list(DEFAULT_SCOPES), max_length=50)
    rate_limit_tier: str = Field("basic", max_length=63)
    rate_limit_per_hour: int | None = Field(None, ge=0, le=MAX_LIMIT)
    burst_per_second: int | None = Field(None, ge=1, le=MAX_LIMIT)
    not_before: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    allowed_origins: list[str] = Field(default_factory=lambda: ["*"], max_length=50)
    ip_whitelist: list[str] | None = Field(None, max_length=200)
    metadata: dict[str, Any] = Field(default_factory=dict)


class KeyOut(BaseModel):
    """A key, without its secret."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    key_prefix: str
    name: str
    description: str | None
    kind: Kind
    environment: Environment
    scopes: list[str]
    rate_limit_tier: str
    rate_limit_per_hour: int
    burst_per_second: int | None
    status: str
    last_used_at: datetime | None
    not_before: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_from: UUID | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None
    metadata: dict[str, Any]


class KeyOnce(KeyOut):
    """A key just made; `key` is shown this once and stored nowhere."""

    key: str


class KeyList(BaseModel):
    """The keys of an organization, newest first."""

    items: list[KeyOut]


class KeyChanges(BaseModel):
    """What is to change of a key; a field that is not named stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"allowed_origins": ["https://a.example"]}]}
    )
    name: str = Field("", max_length=200)
    description: str | None = Field(None, max_length=1000)
    scopes: list[str] = Field(default_factory=list, max_length=50)
    not_before: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    allowed_origins: list[str] = Field(default_factory=list, max_length=50)
    ip_whitelist: list[str] | None = Field(None, max_length=200)
    metadata: dict[str, Any] = Field(default_factory=dict)
    rate_limit_tier: str = Field("basic", max_length=63)
    rate_limit_per_hour: int = Field(0, ge=0, le=MAX_LIMIT)
    burst_per_second: int | None = Field(None, ge=1, le=MAX_LIMIT)


class Rotation(BaseModel):
    """How long the old key goes on beside the new one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_s": 3600}]})
    overlap_s: int = Field(
        int(DEFAULT_OVERLAP.total_seconds()), ge=0, le=int(MAX_OVERLAP.total_seconds())
    )


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.post("", status_code=201)
async def create_key(organization_id: UUID, body: NewKey, who: Who, pool: Database) -> KeyOnce:
    """Make a key (admins). The answer is the only place where the key is ever shown.

    Limits are the plan's; an operator may name others.
    """
    fields = body.model_dump(exclude={"rate_limit_tier"})
    async with _acting(pool, who, organization_id, "admin") as (conn, as_member):
        if as_member and body.model_fields_set & LIMITS:
            raise OperatorOnly("The limits of a key follow the plan; an operator changes them.")
        made = await service.create_api_key(
            conn,
            organization_id=organization_id,
            tier=body.rate_limit_tier,
            as_member=as_member,
            **fields,
        )
    return _once(made)


@router.get("")
async def list_keys(organization_id: UUID, who: Who, pool: Database) -> KeyList:
    """List the keys of an organization (members), newest first."""
    async with _acting(pool, who, organization_id, "member", read_only=True) as (conn, _):
        await get_organization(conn, organization_id)
        found = await service.list_api_keys(conn, organization_id)
    return KeyList(items=[KeyOut.model_validate(key) for key in found])


@router.get("/{key_id}")
async def get_key(organization_id: UUID, key_id: UUID, who: Who, pool: Database) -> KeyOut:
    """Return one key (members), without its secret."""
    async with _acting(pool, who, organization_id, "member", read_only=True) as (conn, _):
        return KeyOut.model_validate(await service.get_api_key(conn, organization_id, key_id))


@router.patch("/{key_id}")
async def update_key(
    organization_id: UUID, key_id: UUID, body: KeyChanges, who: Who, pool: Database
) -> KeyOut:
    """Change what a key may do, and from where (admins); its limits are an operator's to change."""
    changed = body.model_dump(exclude_unset=True)
    async with _acting(pool, who, organization_id, "admin") as (conn, as_member):
        if as_member and changed.keys() & LIMITS:
            raise OperatorOnly("The limits of a key follow the plan; an operator changes them.")
        key = await service.update_api_key(conn, organization_id, key_id, changed)
        return KeyOut.model_validate(key)


@router.post("/{key_id}/rotate", status_code=201)
async def rotate_key(
    organization_id: UUID, key_id: UUID, body: Rotation, who: Who, pool: Database
) -> KeyOnce:
    """Make a key like this one (admins), which itself ends once the overlap has passed."""
    async with _acting(pool, who, organization_id, "admin") as (conn, as_member):
        made = await service.rotate_api_key(
            conn,
            organization_id,
            key_id,
            overlap=timedelta(seconds=body.overlap_s),
            as_member=as_member,
        )
    return _once(made)


@router.post("/{key_id}/revoke")
async def revoke_key(organization_id: UUID, key_id: UUID, who: Who, pool: Database) -> KeyOut:
    """Revoke a key for good (admins): it is dead at this server before the answer comes."""
    async with _acting(pool, who, organization_id, "admin") as (conn, _):
        return KeyOut.model_validate(await service.revoke_api_key(conn, organization_id, key_id))


@asynccontextmanager
async def _acting(
    pool: Pool, who: Caller, organization_id: UUID, role: Role, *, read_only: bool = False
) -> AsyncIterator[tuple[Connection, bool]]:
    """Open a transaction of whoever calls, and say whether it is a member's."""
    # A key, or a service token of other scopes, is refused by its place before anything is asked.
    actor = who.everywhere() if who.person_id is not None else PLATFORM
    async with transaction(pool, actor, read_only=read_only) as conn:
        (await place_of(conn, who, organization_id)).must_be(role)
        yield conn, not who.acts_as_platform and who.person_id is not None


def _once(made: NewApiKey) -> KeyOnce:
    return KeyOnce.model_validate(
        {**KeyOut.model_validate(made.record).model_dump(), "key": made.key}
    )
