"""The catalogue: reading and changing plans and coupons, and rating units under a price model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from aurora.core.money import currency_digits, round_money
from aurora.db.transaction import Connection
from aurora.features.plans import store
from aurora.features.plans.model import (
    Coupon,
    CouponNotFound,
    Plan,
    PlanNotFound,
    PlanVersion,
    Rating,
)
from aurora.features.plans.price_models import price_model as from_people

_DEFAULTS: dict[str, Any] = {
    "price_monthly": None,
    "price_yearly": None,
    "currency": "NOK",
    "included_impressions": None,
    "overage_rate": None,
    "overage_model": "per_begun_1000",
    "price_model": None,
    "quota_mode": "soft",
    "rate_limit_tier": "basic",
    "rate_limit_per_hour": 10_000,
    "features": {},
}


async def get_plan(conn: Connection, plan_id: str, *, retired: bool = False) -> Plan:
    """Return one plan that can be bought, or with `retired` also one that no longer can.

    Raises:
        PlanNotFound: The catalogue has none with this id.
    """
    found = await store.find_plan(conn, plan_id)
    if found is None or not (found.is_active or retired):
        known = ", ".join(plan.id for plan in await store.list_plans(conn))
        raise PlanNotFound(f"There is no plan {plan_id!r}; there are: {known}.")
    return found


async def list_plans(conn: Connection, *, retired: bool = False) -> list[Plan]:
    """Return the catalogue, smallest plan first."""
    return await store.list_plans(conn, retired=retired)


async def list_versions(conn: Connection, plan_id: str) -> list[PlanVersion]:
    """Return every terms a plan was sold on, newest first.

    Raises:
        PlanNotFound: There is no such plan.
    """
    await get_plan(conn, plan_id, retired=True)
    return await store.list_versions(conn, plan_id)


async def create_plan(conn: Connection, plan_id: str, *, name: str, **terms: Any) -> Plan:
    """Add a plan to the catalogue.

    Args:
        conn: An open transaction.
        plan_id: Lowercase letters, digits, and underscores.
        name: As it is printed on invoices.
        **terms: Fields of `Plan`; prices in major units, `price_model` as in `price_models`.

    Raises:
        PlanExists, PriceInvalid, CurrencyUnknown, PlanInvalid, PriceModelInvalid, TiersOverlap,
        TiersGap, TiersEnd: As they say.
    """
    fields = _DEFAULTS | {"plan_id": plan_id, "name": name} | _checked(terms)
    return await store.insert_plan(conn, fields)


async def change_plan(conn: Connection, plan_id: str, **terms: Any) -> Plan:
    """Sell a plan on other terms from now on: a new version, which no running subscription feels.

    Raises:
        PlanNotFound: There is no such plan. The others as in `create_plan`.
    """
    plan = asdict(await get_plan(conn, plan_id, retired=True))
    del plan["id"], plan["version"]
    changed = _checked(terms)
    if changed.get("price_model") is None and changed.keys() & {"overage_rate", "overage_model"}:
        changed.setdefault("price_model", None)
        if plan["overage_model"] == "price_model":
            changed.setdefault("overage_model", "per_begun_1000")
    updated = await store.update_plan(conn, plan | changed | {"plan_id": plan_id})
    if updated is None:
        raise PlanNotFound
    return updated


async def delete_plan(conn: Connection, plan_id: str) -> None:
    """Remove a plan that nobody ever bought.

    Raises:
        PlanNotFound: There is no such plan.
        PlanInUse: Somebody bought it; retire it.
    """
    if not await store.delete_plan(conn, plan_id):
        raise PlanNotFound(f"There is no plan {plan_id!r}.")


async def create_coupon(
    conn: Connection,
    code: str,
    *,
    description: str = "",
    percent: Decimal | None = None,
    amount: Decimal | None = None,
    currency: str | None = None,
    periods: int | None = None,
    max_redemptions: int | None = None,
    redeem_until: datetime | None = None,
) -> Coupon:
    """Add a coupon: percent of a bill, or an amount a bill (major units of `currency`).

    Args:
        conn: An open transaction.
        code: Capitals, digits, hyphen, and underscore.
        description: For those who keep the coupons.
        percent: Above 0, at most 100.
        amount: Above zero, in the digits of its currency.
        currency: Needed with an amount.
        periods: On how many bills it works; None for all.
        max_redemptions: How often it can be redeemed at most.
        redeem_until: From when on it can no longer be redeemed.

    Raises:
        CouponExists, CouponInvalid, CurrencyUnknown: As they say.
    """
    if currency is not None:
        currency_digits(currency)
    return await store.insert_coupon(
        conn,
        code=code,
        description=description,
        percent=percent,
        amount=amount,
        currency=currency,
        periods=periods,
        max_redemptions=max_redemptions,
        redeem_until=redeem_until,
    )


async def list_coupons(conn: Connection) -> list[Coupon]:
    """Return all coupons."""
    return await store.list_coupons(conn)


async def retire_coupon(conn: Connection, code: str) -> Coupon:
    """Let a coupon be redeemed no longer; what was redeemed goes on.

    Raises:
        CouponNotFound: There is none with this code.
    """
    found = await store.set_coupon_active(conn, code, is_active=False)
    if found is None:
        raise CouponNotFound
    return found


def canonical_price_model(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a price model in the one form that the database holds.

    Raises:
        PriceModelInvalid, TiersOverlap, TiersGap, UnitsInvalid: As they say.
    """
    return from_people(given)


async def rate(
    conn: Connection,
    model: Mapping[str, Any],
    units: Decimal,
    *,
    amounts: Sequence[Decimal] | None = None,
    currency: str = "NOK",
) -> Rating:
    """Return what units cost under a price model, by the engine that makes the bills.

    Args:
        conn: An open transaction.
        model: As `price_models.price_model` takes it.
        units: How many; for a percentage model an amount of money.
        amounts: The amounts of single events, for a percentage model with bounds for each.
        currency: Whose digits the lines are rounded to.

    Raises:
        CurrencyUnknown, PriceModelInvalid, TiersOverlap, TiersGap, TiersEnd, UnitsInvalid,
        UnitsBeyondTiers: As they say.
    """
    currency_digits(currency)
    lines = await store.rate(conn, canonical_price_model(model), units, amounts)
    return Rating(
        units=units,
        amount=sum((line.amount for line in lines), Decimal(0)),
        total=sum((round_money(line.amount, currency) for line in lines), Decimal(0)),
        currency=currency,
        lines=lines,
    )


def _checked(terms: dict[str, Any]) -> dict[str, Any]:
    if (currency := terms.get("currency")) is not None:
        currency_digits(currency)
    if (model := terms.get("price_model")) is not None:
        terms = terms | {
            "price_model": canonical_price_model(model),
            "overage_model": "price_model",
            "overage_rate": None,
        }
    return terms
