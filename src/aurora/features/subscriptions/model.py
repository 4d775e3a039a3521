"""A subscription: terms copied from the plan, and how far it is billed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from aurora.core.errors import Conflict, Invalid, NotFound
from aurora.features.plans.model import OverageModel, QuotaMode

BillingPeriod = Literal["monthly", "yearly"]
MAX_START_DAYS_AWAY = 366


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What an organization bought; periods are half-open, prices in major units of `currency`."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    plan_id: str
    plan_name: str
    price_monthly: Decimal
    price_yearly: Decimal | None
    currency: str
    billing_period: BillingPeriod
    current_period_start: datetime
    current_period_end: datetime
    next_billing_at: datetime
    time_zone: str
    status: Literal["trialing", "active", "past_due", "cancelled", "unpaid"]
    cancel_at_period_end: bool
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    quota_mode: QuotaMode


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


class PriceInvalid(Invalid):
    """A price below zero."""

    code, title = "price_invalid", "A price is zero or more, with at most two decimals"
    constraints = ("subscriptions_price_monthly_check", "subscriptions_price_yearly_check")


class SubscriptionRunning(Conflict):
    """What is still billed is not deleted."""

    code, title = "subscription_running", "The organization's subscription is still running"
