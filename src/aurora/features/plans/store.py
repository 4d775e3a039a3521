"""The only Python that runs the plans room's SQL."""

from __future__ import annotations

from aurora.db.queries import fetch_all, fetch_optional, load_queries
from aurora.db.transaction import Connection
from aurora.features.plans.model import Plan

QUERIES = load_queries(__package__)

MAX_PLANS_LISTED = 200


async def find_plan(conn: Connection, plan_id: str) -> Plan | None:
    """Return the plan with this id, while it can be bought."""
    return await fetch_optional(conn, QUERIES["find_plan"], Plan, plan_id=plan_id)


async def list_plans(conn: Connection) -> list[Plan]:
    """Return the catalogue, smallest plan first, at most `MAX_PLANS_LISTED`."""
    return await fetch_all(conn, QUERIES["list_plans_by_sort_order"], Plan, limit=MAX_PLANS_LISTED)
