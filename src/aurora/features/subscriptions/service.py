"""Starting, reading, changing, and ending subscriptions; what-if periods and prorations."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, Unpack
from uuid import UUID

from aurora.core import clock
from aurora.core.money import currency_digits
from aurora.core.periods import zone_of
from aurora.db.transaction import Connection
from aurora.features.organizations.service import get_organization, set_organization_status
from aurora.features.plans.service import canonical_price_model, get_plan
from aurora.features.subscriptions import store
from aurora.features.subscriptions.model import (
    MAX_PERIODS_LISTED,
    MAX_START_DAYS_AWAY,
    MAX_TRIAL_DAYS,
    BillingPeriod,
    ChangeTime,
    CountedPeriod,
    Overrides,
    PeriodsInvalid,
    PriceByAgreement,
    ScheduledChange,
    StartOutOfRange,
    Subscription,
    SubscriptionExists,
    SubscriptionNotFound,
    Terms,
    TrialEnd,
)

_NOTHING_AGREED: dict[str, Any] = dict.fromkeys(Overrides.__annotations__)


async def start_subscription(
    conn: Connection,
    *,
    organization_id: UUID,
    plan_id: str,
    at: date | None = None,
    billing_period: BillingPeriod = "monthly",
    trial_days: int = 0,
    trial_end: TrialEnd = "convert",
    time_zone: str = clock.SELLER_ZONE_DEFAULT,
    **agreed: Unpack[Overrides],
) -> Subscription:
    """Subscribe an organization to a plan from local midnight of a day on.

    Args:
        conn: An open transaction.
        organization_id: Who subscribes; one on trial becomes active, unless this is a trial too.
        plan_id: What is bought; its terms are copied.
        at: First day, in `time_zone`; today when None.
        billing_period: How often the fee is paid.
        trial_days: Days before anything is paid for; the billing anchor is the day after them.
        trial_end: What the trial becomes: a paid subscription, or a paused one.
        time_zone: Where the midnights are that periods begin at.
        **agreed: Agreed terms in place of the plan's.

    Raises:
        OrganizationNotFound, PlanNotFound: As they say.
        SubscriptionExists: One runs, or the one that ended was billed for this day already; one
            that was cancelled, or only tried, is replaced.
        PriceByAgreement: The plan has no list price and none was named.
        StartOutOfRange: More than a year from today.
    """
    today = clock.now().astimezone(zone_of(time_zone)).date()
    if not 0 <= trial_days <= MAX_TRIAL_DAYS:
        raise StartOutOfRange(f"A trial has 0 to {MAX_TRIAL_DAYS} days, not {trial_days}.")
    anchor = at or today
    if abs((anchor - today).days) > MAX_START_DAYS_AWAY:
        raise StartOutOfRange(f"{anchor} is more than {MAX_START_DAYS_AWAY} days from {today}.")
    organization = await get_organization(conn, organization_id)
    plan = await get_plan(conn, plan_id)
    price: Literal["price_monthly", "price_yearly"]
    price = "price_yearly" if billing_period == "yearly" else "price_monthly"
    if agreed.get(price) is None and getattr(plan, price) is None:
        raise PriceByAgreement
    subscription = await store.insert_subscription(
        conn,
        organization_id=organization_id,
        plan_id=plan_id,
        anchor=anchor,
        billing_period=billing_period,
        trial_days=trial_days,
        trial_end_action=trial_end,
        time_zone=time_zone,
        **(_NOTHING_AGREED | _canonical(agreed)),
    )
    if subscription is None:
        raise SubscriptionExists
    if organization.status == "trial" and not trial_days:
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


async def find_scheduled_change(conn: Connection, organization_id: UUID) -> ScheduledChange | None:
    """Return the terms that begin when the paid period ends, if any were agreed."""
    return await store.find_scheduled(conn, organization_id)


async def list_terms(conn: Connection, organization_id: UUID) -> list[Terms]:
    """Return the terms of a subscription from each moment on, oldest first; future ones too."""
    return await store.list_terms(conn, organization_id)


async def change_plan(
    conn: Connection,
    organization_id: UUID,
    *,
    plan_id: str,
    billing_period: BillingPeriod | None = None,
    overrides: Overrides | None = None,
    when: ChangeTime = "auto",
    on_day: date | None = None,
    preview: bool = False,
) -> datetime:
    """Move a subscription to a plan's present terms; return from when they hold.

    What a change within the paid period gives back and asks for is recorded as adjustments. Of a
    month that was billed they become a credit note and an invoice at once, in this transaction.

    Args:
        conn: An open transaction.
        organization_id: Whose subscription.
        plan_id: The plan, in its present version; the same plan moves to that version.
        billing_period: Another one than now.
        overrides: Agreed terms in place of the plan's.
        when: auto: at once if it is dearer a month, else when the paid period ends.
        on_day: First day, in the subscription's zone; today when None.
        preview: The caller takes it back, so the day may lie in the future.

    Raises:
        SubscriptionNotFound, SubscriptionState, SubscriptionEnding, PlanNotFound, CurrencyFixed,
        PriceByAgreement, PriceInvalid, PriceModelInvalid, ChangeEmpty, ChangeOutOfRange,
        ChangeInFuture: As they say.
    """
    agreed = _canonical(overrides or {})
    return await store.change_plan(
        conn,
        {name: str(v) if isinstance(v, Decimal) else v for name, v in agreed.items()},
        organization_id=organization_id,
        plan_id=plan_id,
        billing_period=billing_period,
        when=when,
        on_day=on_day,
        preview=preview,
    )


async def withdraw_change(conn: Connection, organization_id: UUID) -> Subscription:
    """Take back the change that was meant for the end of the period.

    Raises:
        NoChangeScheduled, SubscriptionNotFound, SubscriptionState: As they say.
    """
    await store.withdraw_change(conn, organization_id)
    return await get_subscription(conn, organization_id)


async def pause_subscription(
    conn: Connection, organization_id: UUID, on_day: date | None = None
) -> datetime:
    """Sell nothing from a day on (today when None), and rest the organization's keys.

    Raises:
        SubscriptionNotFound, SubscriptionState, ChangeOutOfRange, ChangeInFuture: As they say.
    """
    return await store.pause(conn, organization_id, on_day)


async def resume_subscription(
    conn: Connection, organization_id: UUID, on_day: date | None = None
) -> datetime:
    """Sell again from a day on (today when None); the anchor is kept.

    Raises:
        SubscriptionNotFound, SubscriptionState, ChangeOutOfRange, ChangeInFuture: As they say.
    """
    return await store.resume(conn, organization_id, on_day)


async def redeem_coupon(conn: Connection, organization_id: UUID, code: str) -> UUID:
    """Redeem a coupon from the next bill on; return the redemption's id.

    Raises:
        SubscriptionNotFound, SubscriptionState, CouponNotFound, CouponExhausted, CouponCurrency,
        CouponRedeemed: As they say.
    """
    return await store.redeem_coupon(conn, organization_id, code)


async def end_trials(conn: Connection, until: datetime | None = None) -> int:
    """Turn trials that are over into what was agreed; return how many."""
    return await store.end_trials(conn, until)


async def list_periods(
    conn: Connection, *, anchor: date, months: int, count: int, time_zone: str
) -> list[CountedPeriod]:
    """Return the first `count` billing periods of `months` months from an anchor on.

    Raises:
        TimeZoneUnknown: There is no such zone.
        PeriodsInvalid: `count` is not 1 to `MAX_PERIODS_LISTED`, or they leave the calendar.
    """
    zone_of(time_zone)
    if not 1 <= count <= MAX_PERIODS_LISTED:
        raise PeriodsInvalid(f"1 to {MAX_PERIODS_LISTED} periods are listed, not {count}.")
    if anchor.year + months * (count + 1) // 12 >= date.max.year:
        raise PeriodsInvalid(f"{count} periods from {anchor} lie outside the calendar.")
    return await store.list_periods(
        conn, anchor=anchor, months=months, count=count, time_zone=time_zone
    )


async def prorate(
    conn: Connection, *, price: Decimal, days: int, of_days: int, currency: str
) -> Decimal:
    """Return the price of some days of a period, in major units, rounded once, halves up.

    Raises:
        CurrencyUnknown, ProrationInvalid: As they say.
    """
    currency_digits(currency)
    return await store.prorate(conn, price, days, of_days, currency)


def _canonical(agreed: Overrides) -> dict[str, Any]:
    terms = {name: value for name, value in agreed.items() if value is not None}
    if (model := agreed.get("price_model")) is not None:
        terms["price_model"] = canonical_price_model(model)
    return terms
