"""HTTP door to impressions by month."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import impressions
from aurora.features.invoices.model import MonthKind
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["usage"])


class ImpressionMonthOut(BaseModel):
    """A month, half-open; null where nothing is included or nothing was billed yet."""

    model_config = ConfigDict(from_attributes=True)
    period_start: datetime
    period_end: datetime
    impressions: int
    billable: int
    included: int | None
    overage: int | None
    usage_amount: Decimal | None
    billed_amount: Decimal | None
    pending_amount: Decimal | None
    currency: str | None


class ImpressionsOut(BaseModel):
    """A page of months, the latest first."""

    organization_id: UUID
    by: MonthKind
    items: list[ImpressionMonthOut]
    next_cursor: str | None


@router.get("/v1/usage/impressions")
async def get_impressions(
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
    organization_id: UUID | None = None,
    by: MonthKind = "billing_period",
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=impressions.MAX_IMPRESSION_MONTHS)] = 12,
) -> ImpressionsOut:
    """Return impressions by month, what is included, what is beyond, and what was billed."""
    organization = who.organization(organization_id, scope="analytics:read")
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
    # Terms and bills are the platform's to read; what comes of them here is the caller's own.
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        page = await impressions.list_impression_months(
            conn, organization, by=by, cursor=cursor, limit=limit
        )
    return ImpressionsOut(
        organization_id=organization,
        by=by,
        items=[ImpressionMonthOut.model_validate(month) for month in page.items],
        next_cursor=page.next_cursor,
    )
