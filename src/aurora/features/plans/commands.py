"""Commands of the plans room: aurora plan, aurora coupon."""

from __future__ import annotations

import json as json_format
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import typer

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.plans import service
from aurora.features.plans.model import (
    Coupon,
    CouponInvalid,
    Plan,
    PlanVersion,
    PriceInvalid,
    PriceModelInvalid,
    QuotaMode,
)
from aurora.integrations.terminal import JsonOption, failing_clearly, out, run, show

plan = typer.Typer(help="Plans: the catalogue.", no_args_is_help=True)
coupon = typer.Typer(help="Coupons: discounts that may be redeemed.", no_args_is_help=True)

MAX_MODEL_BYTES = 100_000
PLAN_COLUMNS = (
    "id",
    "name",
    "price_monthly",
    "price_yearly",
    "currency",
    "included_impressions",
    "overage_rate",
    "overage_model",
)
VERSION_COLUMNS = ("version", "created_at", *PLAN_COLUMNS[1:])
COUPON_COLUMNS = (
    "code",
    "percent",
    "amount",
    "currency",
    "periods",
    "redemptions",
    "max_redemptions",
    "redeem_until",
    "is_active",
)
PlanArgument = Annotated[str, typer.Argument(help="As `aurora plan list` says.")]
MonthlyOption = Annotated[str | None, typer.Option(help="Fee a month, 3500.00.")]
YearlyOption = Annotated[str | None, typer.Option(help="Fee a year, 35000.00.")]
IncludedOption = Annotated[int | None, typer.Option(min=0, help="Impressions a month.")]
OverageOption = Annotated[str | None, typer.Option(help="Price of 1000 impressions beyond them.")]
OverageModelOption = Annotated[
    Literal["per_begun_1000", "pro_rata"] | None, typer.Option(help="How a part of 1000 counts.")
]
ModelOption = Annotated[
    Path | None, typer.Option(help="A file with a price model as JSON, in place of one rate.")
]
QuotaOption = Annotated[QuotaMode | None, typer.Option(help="soft bills overage, hard stops.")]
TierOption = Annotated[str | None, typer.Option(help="Name of the rate limit's tier.")]
LimitOption = Annotated[int | None, typer.Option(min=0, help="Requests an hour and key.")]


@plan.command("list")
def list_plans(
    ctx: typer.Context,
    retired: Annotated[bool, typer.Option(help="Those no longer sold, too.")] = False,
    json: JsonOption = False,
) -> None:
    """List the plans that can be bought."""

    async def work(pool: Pool) -> list[Plan]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.list_plans(conn, retired=retired)

    show(run(ctx, work), json=json, columns=PLAN_COLUMNS)


@plan.command("show")
def show_plan(ctx: typer.Context, plan_id: PlanArgument, json: JsonOption = False) -> None:
    """Show one plan."""

    async def work(pool: Pool) -> Plan:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.get_plan(conn, plan_id, retired=True)

    show(run(ctx, work), json=json)


@plan.command("versions")
def list_versions(ctx: typer.Context, plan_id: PlanArgument, json: JsonOption = False) -> None:
    """List every terms a plan was sold on, newest first."""

    async def work(pool: Pool) -> list[PlanVersion]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.list_versions(conn, plan_id)

    show(run(ctx, work), json=json, columns=VERSION_COLUMNS)


@plan.command("create")
def create_plan(  # noqa: PLR0917 - options are named
    ctx: typer.Context,
    plan_id: Annotated[str, typer.Argument(help="Lowercase letters, digits, underscores.")],
    name: Annotated[str, typer.Option(help="As it is printed on invoices.")],
    monthly: MonthlyOption = None,
    yearly: YearlyOption = None,
    currency: Annotated[str, typer.Option(help="ISO 4217 code.")] = "NOK",
    included: IncludedOption = None,
    overage: OverageOption = None,
    overage_model: OverageModelOption = None,
    price_model: ModelOption = None,
    quota: QuotaOption = None,
    tier: TierOption = None,
    rate_limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Add a plan to the catalogue; without a price it is sold by agreement."""
    with failing_clearly():
        terms = _terms(
            monthly, yearly, included, overage, overage_model, price_model, quota, tier, rate_limit
        )

    async def work(pool: Pool) -> Plan:
        async with transaction(pool, PLATFORM) as conn:
            return await service.create_plan(
                conn, plan_id, name=name, currency=currency.upper(), **terms
            )

    show(run(ctx, work), json=json)


@plan.command("change")
def change_plan(  # noqa: PLR0917 - options are named
    ctx: typer.Context,
    plan_id: PlanArgument,
    name: Annotated[str | None, typer.Option(help="As it is printed on invoices.")] = None,
    monthly: MonthlyOption = None,
    yearly: YearlyOption = None,
    included: IncludedOption = None,
    overage: OverageOption = None,
    overage_model: OverageModelOption = None,
    price_model: ModelOption = None,
    quota: QuotaOption = None,
    tier: TierOption = None,
    rate_limit: LimitOption = None,
    json: JsonOption = False,
) -> None:
    """Sell a plan on other terms from now on; no running subscription feels it."""
    with failing_clearly():
        terms = _terms(
            monthly, yearly, included, overage, overage_model, price_model, quota, tier, rate_limit
        ) | ({} if name is None else {"name": name})
    _change(ctx, plan_id, terms, json=json)


@plan.command("retire")
def retire_plan(ctx: typer.Context, plan_id: PlanArgument, json: JsonOption = False) -> None:
    """Sell a plan no longer; who has bought it keeps it."""
    _change(ctx, plan_id, {"is_active": False}, json=json)


@plan.command("restore")
def restore_plan(ctx: typer.Context, plan_id: PlanArgument, json: JsonOption = False) -> None:
    """Sell a retired plan again."""
    _change(ctx, plan_id, {"is_active": True}, json=json)


@plan.command("delete")
def delete_plan(ctx: typer.Context, plan_id: PlanArgument) -> None:
    """Remove a plan that nobody ever bought."""

    async def work(pool: Pool) -> None:
        async with transaction(pool, PLATFORM) as conn:
            await service.delete_plan(conn, plan_id)

    run(ctx, work)
    out.print(f"{plan_id} is gone")


@coupon.command("create")
def create_coupon(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(help="Capitals, digits, hyphen, underscore.")],
    percent: Annotated[str | None, typer.Option(help="Of a bill, above 0 to 100.")] = None,
    amount: Annotated[str | None, typer.Option(help="So much a bill, 100.00.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the amount; NOK if absent.")] = None,
    bills: Annotated[int | None, typer.Option(help="On how many; all if absent.")] = None,
    max_redemptions: Annotated[int | None, typer.Option(help="How often at most.")] = None,
    until: Annotated[
        str | None, typer.Option(help="Last day it can be redeemed, 2026-12-31.")
    ] = None,
    description: Annotated[str, typer.Option(help="For those who keep the coupons.")] = "",
    json: JsonOption = False,
) -> None:
    """Add a coupon: percent of a bill, or an amount a bill."""
    with failing_clearly():
        fields: dict[str, Any] = {
            "percent": _number(percent, CouponInvalid),
            "amount": _number(amount, CouponInvalid),
            "currency": currency.upper() if currency else ("NOK" if amount else None),
            "periods": bills,
            "max_redemptions": max_redemptions,
            "redeem_until": _after(until),
        }

    async def work(pool: Pool) -> Coupon:
        async with transaction(pool, PLATFORM) as conn:
            return await service.create_coupon(conn, code, description=description, **fields)

    show(run(ctx, work), json=json, columns=COUPON_COLUMNS)


@coupon.command("list")
def list_coupons(ctx: typer.Context, json: JsonOption = False) -> None:
    """List all coupons."""

    async def work(pool: Pool) -> list[Coupon]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.list_coupons(conn)

    show(run(ctx, work), json=json, columns=COUPON_COLUMNS)


@coupon.command("retire")
def retire_coupon(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(help="As `aurora coupon list` says.")],
    json: JsonOption = False,
) -> None:
    """Let a coupon be redeemed no longer; what was redeemed goes on."""

    async def work(pool: Pool) -> Coupon:
        async with transaction(pool, PLATFORM) as conn:
            return await service.retire_coupon(conn, code)

    show(run(ctx, work), json=json, columns=COUPON_COLUMNS)


def _change(ctx: typer.Context, plan_id: str, terms: dict[str, Any], *, json: bool) -> None:
    async def work(pool: Pool) -> Plan:
        async with transaction(pool, PLATFORM) as conn:
            return await service.change_plan(conn, plan_id, **terms)

    show(run(ctx, work), json=json)


def _terms(
    monthly: str | None,
    yearly: str | None,
    included: int | None,
    overage: str | None,
    overage_model: str | None,
    price_model: Path | None,
    quota: str | None,
    tier: str | None,
    rate_limit: int | None,
) -> dict[str, Any]:
    """Return the terms that were named, as the service takes them."""
    given = {
        "price_monthly": _number(monthly, PriceInvalid),
        "price_yearly": _number(yearly, PriceInvalid),
        "included_impressions": included,
        "overage_rate": _number(overage, PriceInvalid),
        "overage_model": overage_model,
        "price_model": None if price_model is None else _model(price_model),
        "quota_mode": quota,
        "rate_limit_tier": tier,
        "rate_limit_per_hour": rate_limit,
    }
    return {name: value for name, value in given.items() if value is not None}


def _number(text: str | None, refusal: type[PriceInvalid | CouponInvalid]) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise refusal(f"{text!r} is no number; write it like 3500.00.") from None
    if not number.is_finite() or not 0 <= number < Decimal("1e12"):
        raise refusal(f"{text} is out of range.")
    return number


def _model(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json_format.loads(file.read(MAX_MODEL_BYTES), parse_float=Decimal)
    except (OSError, ValueError, RecursionError):
        raise PriceModelInvalid(f"{path} holds no price model as JSON.") from None
    if not isinstance(found, dict):
        raise PriceModelInvalid(f"{path} holds no price model as JSON.")
    return found


def _after(day: str | None) -> datetime | None:
    """Return the moment after a last day, in the seller's zone."""
    if day is None:
        return None
    try:
        last = date.fromisoformat(day)
        return datetime.combine(
            date.fromordinal(last.toordinal() + 1), time(), ZoneInfo(clock.SELLER_ZONE_DEFAULT)
        )
    except (ValueError, OverflowError):
        raise CouponInvalid(f"{day!r} is no day; write it like 2026-12-31.") from None
