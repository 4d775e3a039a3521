"""HTTP door of the keys room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys import service
from aurora.features.keys.model import DEFAULT_SCOPES, ApiKey, Environment, Kind
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller, caller_of, pool_of

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
    rate_limit_per_hour: int | None = Field(None, ge=0, le=2_000_000_000)
    expires_at: AwareDatetime | None = None
    allowed_origins: list[str] = Field(default_factory=lambda: ["*"], max_length=50)
    ip_whitelist: list[str] | None = Field(None, max_length=200)


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
    status: str
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None


class KeyOnce(KeyOut):
    """A key just made; `key` is shown this once and stored nowhere."""

    key: str


class KeyList(BaseModel):
    """The keys of an organization, newest first."""

    items: list[KeyOut]


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.post("", status_code=201)
async def create_key(organization_id: UUID, body: NewKey, who: Who, pool: Database) -> KeyOnce:
    """Make a key (operators). The answer is the only place where the key is ever shown."""
    who.must_be_operator()
    fields = body.model_dump(exclude={"rate_limit_tier"})
    async with transaction(pool, PLATFORM) as conn:
        made = await service.create_api_key(
            conn, organization_id=organization_id, tier=body.rate_limit_tier, **fields
        )
    return KeyOnce.model_validate({**_fields(made.record), "key": made.key})


@router.get("")
async def list_keys(organization_id: UUID, who: Who, pool: Database) -> KeyList:
    """List the keys of an organization (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        await get_organization(conn, organization_id)
        found = await service.list_api_keys(conn, organization_id)
    return KeyList(items=[KeyOut.model_validate(key) for key in found])


@router.post("/{key_id}/revoke")
async def revoke_key(organization_id: UUID, key_id: UUID, who: Who, pool: Database) -> KeyOut:
    """Revoke a key for good (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return KeyOut.model_validate(await service.revoke_api_key(conn, organization_id, key_id))


def _fields(record: ApiKey) -> dict[str, object]:
    return KeyOut.model_validate(record).model_dump()
