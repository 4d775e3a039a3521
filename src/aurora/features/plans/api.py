"""HTTP door of the plans room."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.plans import service
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1/plans", tags=["plans"])


class PlanOut(BaseModel):
    """A plan; prices are decimal strings in major units, null means by agreement."""

    model_config = ConfigDict(from_attributes=True)
    id: str
    name: str
    version: int
    price_monthly: Decimal | None
    price_yearly: Decimal | None
    currency: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: str
    price_model: dict[str, Any] | None
    quota_mode: str
    rate_limit_tier: str
    rate_limit_per_hour: int
    features: dict[str, Any]


class PlanList(BaseModel):
    """The catalogue, smallest plan first."""

    items: list[PlanOut]


@router.get("")
async def list_plans(
    _who: Annotated[Caller, Depends(caller_of)], pool: Annotated[Pool, Depends(pool_of)]
) -> PlanList:
    """List the plans that can be bought."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.list_plans(conn)
    return PlanList(items=[PlanOut.model_validate(plan) for plan in found])
