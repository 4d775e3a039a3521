"""HTTP door of the subscriptions room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.errors import NotFound
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.model import Role
from aurora.features.organizations.service import place_of
from aurora.features.subscriptions import service
from aurora.features.subscriptions.model import BillingPeriod, PlanChange, Price
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(
    prefix="/v1/organizations/{organization_id}/subscription", tags=["subscriptions"]
)


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


class ScheduledOut(BaseModel):
    """The terms that begin when the paid period ends."""

    model_config = ConfigDict(from_attributes=True)
    starts_at: datetime
    plan_id: str
    plan_name: str
    plan_version: int
    price_monthly: Decimal
    price_yearly: Decimal | None
    currency: str
    billing_period: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: str
    quota_mode: str


class ChangedOut(BaseModel):
    """What a change did: from when it holds, and what is scheduled."""

    effective_at: datetime
    subscription: SubscriptionOut
    scheduled: ScheduledOut | None


class CouponCode(BaseModel):
    """A coupon to redeem."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "SUMMER"}]})
    code: str = Field(min_length=1, max_length=40)


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
    """Cancel a subscription at the end of its period (owners)."""
    async with _acting(pool, who, organization_id, "owner") as conn:
        return SubscriptionOut.model_validate(
            await service.cancel_subscription(conn, organization_id)
        )


@router.post("/reactivate")
async def reactivate_subscription(
    organization_id: UUID, who: Who, pool: Database
) -> SubscriptionOut:
    """Take back a cancellation before the period ends (owners)."""
    async with _acting(pool, who, organization_id, "owner") as conn:
        return SubscriptionOut.model_validate(
            await service.cancel_subscription(conn, organization_id, cancel=False)
        )


@router.post("/change")
async def change_subscription(
    organization_id: UUID, body: PlanChange, who: Who, pool: Database
) -> ChangedOut:
    """Move to a plan's present terms (admins): at once if dearer, else when the period ends."""
    async with _acting(pool, who, organization_id, "admin") as conn:
        effective_at = await service.change_plan(conn, organization_id, **body.asked(who))
        return await _changed(conn, organization_id, effective_at)


@router.post("/withdraw")
async def withdraw_change(organization_id: UUID, who: Who, pool: Database) -> SubscriptionOut:
    """Take back a change that is scheduled for the end of the period (admins)."""
    async with _acting(pool, who, organization_id, "admin") as conn:
        return SubscriptionOut.model_validate(await service.withdraw_change(conn, organization_id))


@router.post("/pause")
async def pause_subscription(organization_id: UUID, who: Who, pool: Database) -> ChangedOut:
    """Sell nothing from today on, and rest the keys; the unused days are given back (owners)."""
    async with _acting(pool, who, organization_id, "owner") as conn:
        paused_at = await service.pause_subscription(conn, organization_id)
        return await _changed(conn, organization_id, paused_at)


@router.post("/resume")
async def resume_subscription(organization_id: UUID, who: Who, pool: Database) -> ChangedOut:
    """Sell again from today on; the rest of the period is charged by day (owners)."""
    async with _acting(pool, who, organization_id, "owner") as conn:
        resumed_at = await service.resume_subscription(conn, organization_id)
        return await _changed(conn, organization_id, resumed_at)


@router.post("/redeem")
async def redeem_coupon(
    organization_id: UUID, body: CouponCode, who: Who, pool: Database
) -> SubscriptionOut:
    """Redeem a coupon from the next bill on (admins)."""
    async with _acting(pool, who, organization_id, "admin") as conn:
        await service.redeem_coupon(conn, organization_id, body.code)
        return SubscriptionOut.model_validate(await service.get_subscription(conn, organization_id))


async def _changed(conn: Connection, organization_id: UUID, effective_at: datetime) -> ChangedOut:
    found = await service.get_subscription(conn, organization_id)
    scheduled = await service.find_scheduled_change(conn, organization_id)
    return ChangedOut(
        effective_at=effective_at,
        subscription=SubscriptionOut.model_validate(found),
        scheduled=None if scheduled is None else ScheduledOut.model_validate(scheduled),
    )


@asynccontextmanager
async def _acting(
    pool: Pool, who: Caller, organization_id: UUID, role: Role
) -> AsyncIterator[Connection]:
    """Open the platform's transaction for somebody whose role in the organization is high enough.

    What a change gives back and asks for is computed by the platform: no person has rights in the
    tables behind it, and the role is asked for in the transaction in which the change is made.

    Raises:
        RoleForbidden, OrganizationNotFound, OperatorOnly: As `place_of` and the role say.
    """
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be(role)
        yield conn
