"""HTTP door of the subscriptions room."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.errors import NotFound
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.subscriptions import service
from aurora.features.subscriptions.model import BillingPeriod
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(
    prefix="/v1/organizations/{organization_id}/subscription", tags=["subscriptions"]
)

Price = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]


class NewSubscription(BaseModel):
    """A plan to subscribe to."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"plan": "basic", "at": "2026-11-01"}]}
    )
    plan: str = Field(max_length=63)
    at: date | None = Field(None, description="First day, Europe/Oslo; today when absent.")
    billing_period: BillingPeriod = "monthly"
    price_monthly: Price | None = None
    price_yearly: Price | None = None
    included_impressions: int | None = Field(None, ge=0, lt=2**63)


class SubscriptionOut(BaseModel):
    """A subscription; periods are half-open, prices decimal strings in major units."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    organization_id: UUID
    plan_id: str
    plan_name: str
    price_monthly: Decimal
    price_yearly: Decimal | None
    currency: str
    billing_period: str
    current_period_start: datetime
    current_period_end: datetime
    next_billing_at: datetime
    status: str
    cancel_at_period_end: bool
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: str
    quota_mode: str


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.post("", status_code=201)
async def start_subscription(
    organization_id: UUID, body: NewSubscription, who: Who, pool: Database
) -> SubscriptionOut:
    """Subscribe an organization to a plan (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return SubscriptionOut.model_validate(
            await service.start_subscription(
                conn,
                organization_id=organization_id,
                plan_id=body.plan,
                **body.model_dump(exclude={"plan"}),
            )
        )


@router.get("")
async def get_subscription(organization_id: UUID, who: Who, pool: Database) -> SubscriptionOut:
    """Return an organization's subscription: any to an operator, its own to a key."""
    if who.kind == "key" and organization_id != who.organization_id:
        raise NotFound
    async with transaction(pool, who.actor(organization_id), read_only=True) as conn:
        return SubscriptionOut.model_validate(await service.get_subscription(conn, organization_id))


@router.post("/cancel")
async def cancel_subscription(organization_id: UUID, who: Who, pool: Database) -> SubscriptionOut:
    """Cancel a subscription at the end of its period (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return SubscriptionOut.model_validate(
            await service.cancel_subscription(conn, organization_id)
        )
