"""A subscription: terms copied from the plan, and how far it is billed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from aurora.core.errors import Conflict, Invalid, NotFound
from aurora.features.plans.model import OverageModel, QuotaMode
from aurora.integrations.http import Caller, OperatorOnly

BillingPeriod = Literal["monthly", "yearly"]
ChangeTime = Literal["auto", "now", "period_end"]
TrialEnd = Literal["convert", "suspend"]
Price = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]
Rate = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=4)]
MAX_START_DAYS_AWAY = 366
MAX_TRIAL_DAYS = 366
MAX_PERIODS_LISTED = 1_200
MAX_TERMS_LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What an organization bought; periods are half-open, prices in major units of `currency`."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    plan_id: str
    plan_version: int
    plan_name: str
    price_monthly: Decimal
    price_yearly: Decimal | None
    currency: str
    billing_period: BillingPeriod
    current_period_start: datetime
    current_period_end: datetime
    next_billing_at: datetime
    time_zone: str
    status: Literal["trialing", "active", "past_due", "paused", "cancelled", "unpaid"]
    trial_ends_at: datetime | None
    cancel_at_period_end: bool
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    price_model: dict[str, Any] | None
    quota_mode: QuotaMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledChange:
    """The terms that begin when the paid period ends, at `starts_at`."""

    starts_at: datetime
    plan_id: str
    plan_version: int
    plan_name: str
    price_monthly: Decimal
    price_yearly: Decimal | None
    currency: str
    billing_period: BillingPeriod
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    price_model: dict[str, Any] | None
    quota_mode: QuotaMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms(ScheduledChange):
    """The terms in force from `starts_at` on, until the next ones."""

    is_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPeriod:
    """Billing period `n` from an anchor: half-open, with its local days."""

    n: int
    period_start: datetime
    period_end: datetime
    days: int


class Overrides(TypedDict, total=False):
    """Agreed terms in place of the plan's; prices in major units."""

    price_monthly: Decimal | None
    price_yearly: Decimal | None
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: Literal["per_begun_1000", "pro_rata"] | None
    price_model: dict[str, Any] | None
    quota_mode: QuotaMode | None


class AgreedTerms(BaseModel):
    """Terms in place of the plan's, which only operators agree to."""

    model_config = ConfigDict(extra="forbid")
    price_monthly: Price | None = None
    price_yearly: Price | None = None
    included_impressions: int | None = Field(None, ge=0, lt=2**63)
    overage_rate: Rate | None = None
    overage_model: Literal["per_begun_1000", "pro_rata"] | None = None
    price_model: dict[str, Any] | None = None
    quota_mode: QuotaMode | None = None


class PlanChange(BaseModel):
    """A plan to move to, in its present version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"plan": "premium"}]})
    plan: str = Field(min_length=1, max_length=63)
    billing_period: BillingPeriod | None = Field(None, description="As it is when absent.")
    when: ChangeTime = Field("auto", description="auto: a dearer plan at once.")
    on: date | None = Field(None, description="First day; today when absent. Operators only.")
    agreed: AgreedTerms | None = Field(None, description="Operators only.")

    def asked(self, who: Caller) -> dict[str, Any]:
        """Return the change as the service takes it.

        Raises:
            OperatorOnly: Somebody else names terms of their own, a day, or a moment of their own.
        """
        if not who.acts_as_platform and (
            self.on is not None or self.agreed is not None or self.when == "now"
        ):
            raise OperatorOnly("The terms, and from when they hold, are the plan's to say.")
        overrides = None if self.agreed is None else self.agreed.model_dump(exclude_none=True)
        return {
            "plan_id": self.plan,
            "billing_period": self.billing_period,
            "when": self.when,
            "on_day": self.on,
            "overrides": overrides,
        }


class SubscriptionNotFound(NotFound):
    """The organization has no subscription."""

    code, title = "subscription_not_found", "The organization has no subscription"


class SubscriptionExists(Conflict):
    """The organization has one already."""

    code, title = "subscription_exists", "The organization has a subscription already"
    constraints = ("subscriptions_organization_id_key",)


class PriceByAgreement(Invalid):
    """The plan has no list price, so one must be named."""

    code, title = "price_by_agreement", "This plan's price is by agreement: name the price"


class StartOutOfRange(Invalid):
    """The start is more than a year away."""

    code, title = "start_out_of_range", "A subscription starts within a year from today"


class SubscriptionRunning(Conflict):
    """What is still billed is not deleted."""

    code, title = "subscription_running", "The organization's subscription is still running"


class SubscriptionTransitionInvalid(Conflict):
    """That status cannot follow."""

    code = "subscription_transition_invalid"
    title = "A subscription cannot go from the one status to the other"


class SubscriptionBilled(Conflict):
    """What was billed stays billed."""

    code, title = "subscription_billed", "A running subscription is not billed anew"


class SubscriptionState(Conflict):
    """Its status does not allow that."""

    code, title = "subscription_state", "The subscription's status does not allow that"


class SubscriptionEnding(Conflict):
    """It is cancelled at the end of its period."""

    code, title = (
        "subscription_ending",
        "The subscription ends: reactivate it first",
    )


class CurrencyFixed(Conflict):
    """A running subscription keeps its currency."""

    code, title = "currency_fixed", "A running subscription keeps its currency"


class ChangeEmpty(Conflict):
    """The terms are these already."""

    code, title = "change_empty", "The subscription has these terms already"


class ChangeOutOfRange(Invalid):
    """The day lies before the subscription, or in what was billed."""

    code, title = "change_out_of_range", "A change cannot begin on that day"


class ChangeInFuture(Invalid):
    """Neither today nor the end of the paid period."""

    code, title = "change_in_future", "A change begins today or when the paid period ends"


class NoChangeScheduled(Conflict):
    """Nothing is scheduled that could be taken back."""

    code, title = "no_change_scheduled", "No change is scheduled"


class ProrationInvalid(Invalid):
    """No part of a period can be that."""

    code, title = "proration_invalid", "That is no part of a period"


class PeriodsInvalid(Invalid):
    """No such periods can be counted."""

    code, title = "periods_invalid", "Those are no billing periods"


class CouponExhausted(Conflict):
    """Redeemed as often, or as long, as it could be."""

    code, title = "coupon_exhausted", "The coupon cannot be redeemed any more"


class CouponCurrency(Conflict):
    """An amount of another currency than the subscription's."""

    code, title = "coupon_currency", "The coupon is in another currency"


class CouponRedeemed(Conflict):
    """The subscription has redeemed it already."""

    code, title = "coupon_redeemed", "The coupon was redeemed already"
    constraints = ("coupon_redemptions_once_key",)
