"""Starting, reading, and cancelling subscriptions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from aurora.core import clock
from aurora.db.transaction import Connection
from aurora.features.organizations.service import get_organization, set_organization_status
from aurora.features.plans.service import get_plan
from aurora.features.subscriptions import store
from aurora.features.subscriptions.model import (
    MAX_START_DAYS_AWAY,
    BillingPeriod,
    PriceByAgreement,
    StartOutOfRange,
    Subscription,
    SubscriptionExists,
    SubscriptionNotFound,
)


async def start_subscription(
    conn: Connection,
    *,
    organization_id: UUID,
    plan_id: str,
    at: date | None = None,
    billing_period: BillingPeriod = "monthly",
    price_monthly: Decimal | None = None,
    price_yearly: Decimal | None = None,
    included_impressions: int | None = None,
    time_zone: str = clock.SELLER_ZONE_DEFAULT,
) -> Subscription:
    """Subscribe an organization to a plan from local midnight of a day on.

    Args:
        conn: An open transaction.
        organization_id: Who subscribes; a trial becomes active.
        plan_id: What is bought; its terms are copied.
        at: First day, in `time_zone`; today when None.
        billing_period: How often the fee is paid.
        price_monthly: An agreed price in place of the list's, in major units.
        price_yearly: The same for a year.
        included_impressions: An agreed number a month in place of the plan's.
        time_zone: Where the midnights are that periods begin at.

    Raises:
        OrganizationNotFound, PlanNotFound: As they say.
        SubscriptionExists: One runs, or the one that ended was billed for this day already; one
            that was cancelled, or only tried, is replaced.
        PriceByAgreement: The plan has no list price and none was named.
        StartOutOfRange: More than a year from today.
    """
    today = clock.now().astimezone(ZoneInfo(time_zone)).date()
    anchor = at or today
    if abs((anchor - today).days) > MAX_START_DAYS_AWAY:
        raise StartOutOfRange(f"{anchor} is more than {MAX_START_DAYS_AWAY} days from {today}.")
    organization = await get_organization(conn, organization_id)
    plan = await get_plan(conn, plan_id)
    named, listed = (
        (price_yearly, plan.price_yearly)
        if billing_period == "yearly"
        else (price_monthly, plan.price_monthly)
    )
    if named is None and listed is None:
        raise PriceByAgreement
    subscription = await store.insert_subscription(
        conn,
        organization_id=organization_id,
        plan_id=plan_id,
        anchor=anchor,
        billing_period=billing_period,
        price_monthly=price_monthly,
        price_yearly=price_yearly,
        included_impressions=included_impressions,
        time_zone=time_zone,
    )
    if subscription is None:
        raise SubscriptionExists
    if organization.status == "trial":
        await set_organization_status(conn, organization_id, "active")
    return subscription


async def get_subscription(conn: Connection, organization_id: UUID) -> Subscription:
    """Return the organization's subscription.

    Raises:
        SubscriptionNotFound: It has none.
    """
    found = await store.find_subscription(conn, organization_id)
    if found is None:
        raise SubscriptionNotFound
    return found


async def cancel_subscription(
    conn: Connection, organization_id: UUID, *, cancel: bool = True
) -> Subscription:
    """Cancel at the end of the running period, or take that back with `cancel=False`.

    Raises:
        SubscriptionNotFound: Nothing is running.
    """
    found = await store.set_cancel_at_period_end(conn, organization_id, cancel=cancel)
    if found is None:
        raise SubscriptionNotFound
    return found
