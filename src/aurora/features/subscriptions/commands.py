"""Commands of the subscriptions room: aurora subscription."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import typer

from aurora.core.errors import Invalid
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.service import get_organization
from aurora.features.plans.model import PriceInvalid
from aurora.features.subscriptions import service
from aurora.features.subscriptions.model import BillingPeriod, ChangeTime, Subscription
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

subscription = typer.Typer(help="Subscriptions: who bought what.", no_args_is_help=True)

COLUMNS = (
    "plan_id",
    "status",
    "price_monthly",
    "currency",
    "current_period_start",
    "current_period_end",
    "next_billing_at",
    "included_impressions",
    "id",
)
OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]


class DateInvalid(Invalid):
    """The text is not a day."""

    code, title = "date_invalid", "A date looks like 2026-11-01"


@subscription.command("start")
def start_subscription(
    ctx: typer.Context,
    org: OrgOption,
    plan: Annotated[str, typer.Option(help="A plan of 'aurora plan list'.")],
    at: Annotated[str | None, typer.Option(help="First day, 2026-11-01; today if absent.")] = None,
    billing_period: Annotated[
        BillingPeriod, typer.Option(help="How often the base fee falls due.")
    ] = "monthly",
    price: Annotated[str | None, typer.Option(help="Agreed price a period, 5000.00.")] = None,
    included: Annotated[int | None, typer.Option(min=0, help="Impressions a month.")] = None,
    json: JsonOption = False,
) -> None:
    """Subscribe an organization to a plan."""
    with failing_clearly():
        first_day = _parse_date(at)
        agreed = _parse_price(price)

    async def work(pool: Pool) -> Subscription:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.start_subscription(
                conn,
                organization_id=organization.id,
                plan_id=plan,
                at=first_day,
                billing_period=billing_period,
                price_monthly=agreed if billing_period == "monthly" else None,
                price_yearly=agreed if billing_period == "yearly" else None,
                included_impressions=included,
            )

    show(run(ctx, work), json=json, columns=COLUMNS)


@subscription.command("show")
def show_subscription(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Show an organization's subscription."""

    async def work(pool: Pool) -> Subscription:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await service.get_subscription(conn, organization.id)

    show(run(ctx, work), json=json, columns=COLUMNS)


@subscription.command("cancel")
def cancel_subscription(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Cancel a subscription at the end of its period."""

    async def work(pool: Pool) -> Subscription:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await service.cancel_subscription(conn, organization.id)

    show(run(ctx, work), json=json, columns=COLUMNS)


PlanOption = Annotated[str, typer.Option(help="A plan of 'aurora plan list'.")]
AtOption = Annotated[str | None, typer.Option(help="First day, 2026-11-01; today if absent.")]


@subscription.command("change")
def change_subscription(
    ctx: typer.Context,
    org: OrgOption,
    plan: PlanOption,
    at: AtOption = None,
    billing_period: Annotated[
        BillingPeriod | None, typer.Option(help="Another; as it is if absent.")
    ] = None,
    when: Annotated[ChangeTime, typer.Option(help="auto: a dearer plan at once.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Move a subscription to a plan's present terms: at once, or when its period ends."""
    with failing_clearly():
        first_day = _parse_date(at)

    async def work(conn: Connection, organization_id: UUID) -> None:
        await service.change_plan(
            conn,
            organization_id,
            plan_id=plan,
            billing_period=billing_period,
            when=when,
            on_day=first_day,
        )

    _change(ctx, org, work, json=json)


@subscription.command("withdraw")
def withdraw_change(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Take back a change that is scheduled for the end of the period."""
    _change(ctx, org, service.withdraw_change, json=json)


@subscription.command("reactivate")
def reactivate_subscription(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Take back a cancellation before the period ends."""

    async def work(conn: Connection, organization_id: UUID) -> None:
        await service.cancel_subscription(conn, organization_id, cancel=False)

    _change(ctx, org, work, json=json)


@subscription.command("pause")
def pause_subscription(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Sell nothing from today on; the unused days are given back."""
    _change(ctx, org, service.pause_subscription, json=json)


@subscription.command("resume")
def resume_subscription(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Sell again from today on; the rest of the period is charged by day."""
    _change(ctx, org, service.resume_subscription, json=json)


@subscription.command("redeem")
def redeem_coupon(
    ctx: typer.Context,
    org: OrgOption,
    coupon: Annotated[str, typer.Option(help="The code of a coupon.")],
    json: JsonOption = False,
) -> None:
    """Redeem a coupon from the next bill on."""

    async def work(conn: Connection, organization_id: UUID) -> None:
        await service.redeem_coupon(conn, organization_id, coupon)

    _change(ctx, org, work, json=json)


def _change(
    ctx: typer.Context,
    org: str,
    change: Callable[[Connection, UUID], Awaitable[object]],
    *,
    json: bool,
) -> None:
    """Make a change and show the subscription, with what is scheduled for it."""

    async def work(pool: Pool) -> dict[str, object]:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            await change(conn, organization.id)
            found = await service.get_subscription(conn, organization.id)
            scheduled = await service.find_scheduled_change(conn, organization.id)
            return {**asdict(found), "scheduled": None if scheduled is None else asdict(scheduled)}

    show(run(ctx, work), json=json, columns=(*COLUMNS, "scheduled"))


def _parse_date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise DateInvalid(f"{text!r} is not a date; write it like 2026-11-01.") from None


def _parse_price(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        price = Decimal(text)
    except ArithmeticError:
        raise PriceInvalid(f"{text!r} is not a price; write it like 5000.00.") from None
    if not price.is_finite() or price < 0 or price != round(price, 2):
        raise PriceInvalid
    return price
