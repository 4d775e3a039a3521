"""A plan of the catalogue, its versions, coupons, and what a price model makes of so many units."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from aurora.core.errors import Conflict, Invalid, NotFound
from aurora.core.money import CurrencyUnknown

OverageModel = Literal["per_begun_1000", "pro_rata", "price_model"]
QuotaMode = Literal["soft", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What can be bought; prices are in major units of `currency`, None means by agreement."""

    id: str
    name: str
    version: int
    is_active: bool
    price_monthly: Decimal | None
    price_yearly: Decimal | None
    currency: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    price_model: dict[str, Any] | None
    quota_mode: QuotaMode
    rate_limit_tier: str
    rate_limit_per_hour: int
    features: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanVersion:
    """Terms that a plan was sold on from `created_at`, until the next version."""

    plan_id: str
    version: int
    created_at: datetime
    name: str
    price_monthly: Decimal | None
    price_yearly: Decimal | None
    currency: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    price_model: dict[str, Any] | None
    quota_mode: QuotaMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A discount that may be redeemed: `percent` of a bill, or `amount` (major units) a bill."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedLine:
    """One line of what units cost: quantity times `unit_price` per `base_quantity`, not rounded."""

    line_number: int
    tier: int | None
    kind: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    base_quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What units cost: `amount` exactly, `total` with each line rounded as a bill rounds it."""

    units: Decimal
    amount: Decimal
    total: Decimal
    currency: str
    lines: list[RatedLine]


class PlanNotFound(NotFound):
    """The catalogue has no such plan."""

    code, title = "plan_not_found", "There is no such plan"
    constraints = (
        "subscriptions_plan_id_fkey",
        "subscriptions_plan_version_fkey",
    )


class PlanExists(Conflict):
    """A plan has this id already."""

    code, title = "plan_exists", "There is a plan with this id already"
    constraints = ("plans_pkey",)


class PlanInUse(Conflict):
    """Somebody bought it, so it can only be retired."""

    code, title = "plan_in_use", "The plan was bought: it can be retired, not deleted"
    constraints = ("subscription_terms_plan_version_fkey",)


class PlanInvalid(Invalid):
    """A field of the plan is out of its range."""

    code, title = "plan_invalid", "A field of the plan is not valid"
    constraints = (
        "plans_id_check",
        "plans_included_impressions_check",
        "plans_overage_model_check",
        "plans_price_model_check",
        "plans_quota_mode_check",
        "plans_rate_limit_per_hour_check",
        "plans_features_check",
    )


class PlanIdFixed(Conflict):
    """Subscriptions and versions know a plan by its id."""

    code, title = "plan_id_fixed", "A plan keeps its id"


class PlanVersionFixed(Conflict):
    """What somebody may have bought stays as it was."""

    code, title = "plan_version_fixed", "A version of a plan is never changed"


class PriceInvalid(Invalid):
    """A price below zero, or with more decimals than its currency."""

    code, title = "price_invalid", "A price is zero or more, in the digits of its currency"
    constraints = (
        "plans_price_monthly_check",
        "plans_price_yearly_check",
        "plans_overage_rate_check",
        "subscriptions_price_monthly_check",
        "subscriptions_price_yearly_check",
        "subscriptions_overage_rate_check",
    )


class SoldInNoSuchCurrency(CurrencyUnknown):
    """The database's word for a currency that is not sold in."""

    constraints = (
        "plans_currency_check",
        "subscriptions_currency_check",
        "coupons_currency_check",
    )


class PriceModelInvalid(Invalid):
    """The price model cannot be applied."""

    code, title = "price_model_invalid", "The price model is not valid"


class TiersOverlap(Invalid):
    """A tier does not reach further than the one before it."""

    code, title = "tiers_overlap", "The tiers overlap"


class TiersGap(Invalid):
    """Units between two tiers have no price."""

    code, title = "tiers_gap", "The tiers leave a gap"


class TiersEnd(Invalid):
    """Units beyond the last tier have no price."""

    code, title = "tiers_end", "The last tier has to be open"


class UnitsInvalid(Invalid):
    """The units are no number that can be rated."""

    code, title = "units_invalid", "Units are a number of zero or more"


class UnitsBeyondTiers(Invalid):
    """More units than the blocks of all tiers hold."""

    code, title = "units_beyond_tiers", "So many units lie beyond the last tier"


class CouponNotFound(NotFound):
    """No coupon with this code can be redeemed."""

    code, title = "coupon_not_found", "There is no such coupon"


class CouponExists(Conflict):
    """The code is another coupon's."""

    code, title = "coupon_exists", "There is a coupon with this code already"
    constraints = ("coupons_pkey",)


class CouponInvalid(Invalid):
    """A field of the coupon is out of its range."""

    code, title = "coupon_invalid", "A coupon is a percent or an amount with its currency"
    constraints = (
        "coupons_id_check",
        "coupons_value_check",
        "coupons_percent_check",
        "coupons_amount_check",
        "coupons_periods_check",
        "coupons_max_redemptions_check",
    )
