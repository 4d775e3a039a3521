"""HTTP door of the plans room: customers read the catalogue, operators keep it and the coupons."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.plans import service
from aurora.features.plans.model import QuotaMode
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["plans"])

MAX_IMPRESSIONS = 2**63 - 1
MAX_LIMIT = 2_000_000_000
MAX_PERIODS = 1_200
PlanId = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,62}$")]
Price = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]
Rate = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=4)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]


class PlanOut(BaseModel):
    """A plan; prices are decimal strings in major units, null means by agreement."""

    model_config = ConfigDict(from_attributes=True)
    id: str
    name: str
    version: int
    is_active: bool
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


class PlanTerms(BaseModel):
    """Terms of a plan; prices in major units, null means by agreement."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"price_monthly": "3600.00"}]}
    )
    name: str = Field("", min_length=1, max_length=200)
    price_monthly: Price | None = None
    price_yearly: Price | None = None
    currency: Currency = "NOK"
    included_impressions: int | None = Field(None, ge=0, le=MAX_IMPRESSIONS)
    overage_rate: Rate | None = Field(None, description="Price of 1000 impressions beyond them.")
    overage_model: Literal["per_begun_1000", "pro_rata"] = "per_begun_1000"
    price_model: dict[str, Any] | None = Field(None, description="In place of one rate.")
    quota_mode: QuotaMode = "soft"
    rate_limit_tier: str = Field("basic", min_length=1, max_length=63)
    rate_limit_per_hour: int = Field(10_000, ge=0, le=MAX_LIMIT)
    features: dict[str, Any] = Field(default_factory=dict)


class PlanChanges(PlanTerms):
    """What is to change of a plan; a field that is not named stays."""

    is_active: bool = Field(True, description="false: it is no longer sold.")


class NewPlan(PlanTerms):
    """A plan to add to the catalogue."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"id": "summer", "name": "Summer", "price_monthly": "1000.00"}]
        },
    )
    id: PlanId
    name: str = Field(min_length=1, max_length=200)


class VersionOut(BaseModel):
    """Terms that a plan was sold on from `created_at`, until the next version."""

    model_config = ConfigDict(from_attributes=True)
    plan_id: str
    version: int
    created_at: datetime
    name: str
    price_monthly: Decimal | None
    price_yearly: Decimal | None
    currency: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: str
    price_model: dict[str, Any] | None
    quota_mode: str


class VersionList(BaseModel):
    """Every terms a plan was sold on, newest first."""

    items: list[VersionOut]


class NewCoupon(BaseModel):
    """A coupon: percent of a bill, or an amount a bill."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"code": "SUMMER", "percent": "20"}]}
    )
    code: str = Field(pattern="^[A-Z0-9][A-Z0-9_-]{0,39}$")
    description: str = Field("", max_length=500)
    percent: Decimal | None = Field(None, gt=0, le=100, max_digits=6, decimal_places=3)
    amount: Annotated[Decimal, Field(gt=0, max_digits=14, decimal_places=2)] | None = None
    currency: Currency | None = None
    periods: int | None = Field(None, ge=1, le=MAX_PERIODS, description="Bills; null: all.")
    max_redemptions: int | None = Field(None, ge=1, le=MAX_LIMIT)
    redeem_until: AwareDatetime | None = None


class CouponOut(BaseModel):
    """A coupon, and how often it was redeemed."""

    model_config = ConfigDict(from_attributes=True)
    code: str
    description: str
    percent: Decimal | None
    amount: Decimal | None
    currency: str | None
    periods: int | None
    max_redemptions: int | None
    redemptions: int
    redeem_until: datetime | None
    is_active: bool


class CouponList(BaseModel):
    """All coupons."""

    items: list[CouponOut]


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.get("/v1/plans")
async def list_plans(_who: Who, pool: Database) -> PlanList:
    """List the plans that can be bought."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.list_plans(conn)
    return PlanList(items=[PlanOut.model_validate(plan) for plan in found])


@router.post("/v1/plans", status_code=201)
async def create_plan(body: NewPlan, who: Who, pool: Database) -> PlanOut:
    """Add a plan to the catalogue (operators)."""
    who.must_be_operator()
    terms = body.model_dump(exclude_unset=True, exclude={"id", "name"})
    async with transaction(pool, PLATFORM) as conn:
        return PlanOut.model_validate(
            await service.create_plan(conn, body.id, name=body.name, **terms)
        )


@router.get("/v1/plans/{plan_id}")
async def get_plan(plan_id: str, who: Who, pool: Database) -> PlanOut:
    """Return one plan that can be bought; an operator hears of one that no longer can, too."""
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return PlanOut.model_validate(
            await service.get_plan(conn, plan_id, retired=who.acts_as_platform)
        )


@router.patch("/v1/plans/{plan_id}")
async def change_plan(plan_id: str, body: PlanChanges, who: Who, pool: Database) -> PlanOut:
    """Sell a plan on other terms, or no longer: no running subscription feels it (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return PlanOut.model_validate(
            await service.change_plan(conn, plan_id, **body.model_dump(exclude_unset=True))
        )


@router.delete("/v1/plans/{plan_id}", status_code=204)
async def delete_plan(plan_id: str, who: Who, pool: Database) -> None:
    """Remove a plan that nobody ever bought (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await service.delete_plan(conn, plan_id)


@router.get("/v1/plans/{plan_id}/versions")
async def list_versions(plan_id: str, who: Who, pool: Database) -> VersionList:
    """List every terms a plan was sold on, newest first (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.list_versions(conn, plan_id)
    return VersionList(items=[VersionOut.model_validate(each) for each in found])


@router.get("/v1/coupons")
async def list_coupons(who: Who, pool: Database) -> CouponList:
    """List all coupons (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.list_coupons(conn)
    return CouponList(items=[CouponOut.model_validate(each) for each in found])


@router.post("/v1/coupons", status_code=201)
async def create_coupon(body: NewCoupon, who: Who, pool: Database) -> CouponOut:
    """Add a coupon (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return CouponOut.model_validate(await service.create_coupon(conn, **body.model_dump()))


@router.post("/v1/coupons/{code}/retire")
async def retire_coupon(code: str, who: Who, pool: Database) -> CouponOut:
    """Let a coupon be redeemed no longer; what was redeemed goes on (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return CouponOut.model_validate(await service.retire_coupon(conn, code))
