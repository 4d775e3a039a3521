"""The only Python that runs the plans room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from psycopg.types.json import Jsonb

from aurora.db.queries import execute, fetch_all, fetch_one, fetch_optional, load_queries
from aurora.db.transaction import Connection
from aurora.features.plans.model import Coupon, Plan, PlanVersion, RatedLine

QUERIES = load_queries(__package__)

MAX_PLANS_LISTED = 200
MAX_VERSIONS_LISTED = 200
MAX_COUPONS_LISTED = 1_000


async def find_plan(conn: Connection, plan_id: str) -> Plan | None:
    """Return the plan with this id, sold or not."""
    return await fetch_optional(conn, QUERIES["find_plan"], Plan, plan_id=plan_id)


async def list_plans(conn: Connection, *, retired: bool = False) -> list[Plan]:
    """Return the catalogue, smallest plan first, at most `MAX_PLANS_LISTED`."""
    query = QUERIES["list_plans_by_sort_order"]
    return await fetch_all(conn, query, Plan, retired=retired, limit=MAX_PLANS_LISTED)


async def list_versions(conn: Connection, plan_id: str) -> list[PlanVersion]:
    """Return every terms a plan was sold on, newest first, at most `MAX_VERSIONS_LISTED`."""
    query = QUERIES["list_plan_versions_by_plan"]
    return await fetch_all(conn, query, PlanVersion, plan_id=plan_id, limit=MAX_VERSIONS_LISTED)


async def insert_plan(conn: Connection, fields: dict[str, Any]) -> Plan:
    """Add a plan; fields are those of the query."""
    return await fetch_one(conn, QUERIES["insert_plan"], Plan, **_jsonb(fields))


async def update_plan(conn: Connection, fields: dict[str, Any]) -> Plan | None:
    """Change a plan's terms; None without such a plan."""
    return await fetch_optional(conn, QUERIES["update_plan"], Plan, **_jsonb(fields))


async def delete_plan(conn: Connection, plan_id: str) -> bool:
    """Remove a plan that nobody bought; return whether there was one."""
    return await execute(conn, QUERIES["delete_plan"], plan_id=plan_id) > 0


async def insert_coupon(conn: Connection, **fields: object) -> Coupon:
    """Add a coupon; fields are those of the query."""
    return await fetch_one(conn, QUERIES["insert_coupon"], Coupon, **fields)


async def list_coupons(conn: Connection) -> list[Coupon]:
    """Return all coupons, at most `MAX_COUPONS_LISTED`."""
    return await fetch_all(conn, QUERIES["list_coupons_by_code"], Coupon, limit=MAX_COUPONS_LISTED)


async def set_coupon_active(conn: Connection, code: str, *, is_active: bool) -> Coupon | None:
    """Let a coupon be redeemed or not; None without such a coupon."""
    query = QUERIES["update_coupon_is_active"]
    return await fetch_optional(conn, query, Coupon, code=code, is_active=is_active)


async def rate(
    conn: Connection, model: dict[str, Any], units: Decimal, amounts: Sequence[Decimal] | None
) -> list[RatedLine]:
    """Return what units cost under a price model."""
    return await fetch_all(
        conn,
        QUERIES["list_rated_lines_by_model"],
        RatedLine,
        price_model=Jsonb(model),
        units=units,
        amounts=None if amounts is None else list(amounts),
    )


def _jsonb(fields: dict[str, Any]) -> dict[str, Any]:
    model = fields["price_model"]
    return fields | {
        "price_model": None if model is None else Jsonb(model),
        "features": Jsonb(fields["features"]),
    }
