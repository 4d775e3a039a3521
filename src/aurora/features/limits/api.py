"""HTTP door of the limits room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.limits import service
from aurora.features.organizations.service import get_organization
from aurora.features.subscriptions.model import SubscriptionNotFound
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1/quota", tags=["usage"])


class QuotaOut(BaseModel):
    """Billable impressions of the running month; the period is half-open."""

    model_config = ConfigDict(from_attributes=True)
    used: int
    included: int | None
    quota_mode: str
    period_start: datetime
    period_end: datetime


@router.get("")
async def get_quota(
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
    organization_id: UUID | None = None,
) -> QuotaOut:
    """Return how much of the running month's quota is used."""
    organization = who.organization(organization_id, scope="analytics:read")
    if who.kind == "person":
        # What one belongs to is what row level security lets one see.
        async with transaction(pool, who.actor(organization), read_only=True) as conn:
            await get_organization(conn, organization)
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.find_quota(conn, organization)
    if found is None:
        raise SubscriptionNotFound
    return QuotaOut.model_validate(found)
