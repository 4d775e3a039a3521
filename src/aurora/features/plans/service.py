"""Reading the catalogue."""

from __future__ import annotations

from aurora.db.transaction import Connection
from aurora.features.plans import store
from aurora.features.plans.model import Plan, PlanNotFound


async def get_plan(conn: Connection, plan_id: str) -> Plan:
    """Return one plan that can be bought.

    Raises:
        PlanNotFound: The catalogue has none with this id.
    """
    found = await store.find_plan(conn, plan_id)
    if found is None:
        known = ", ".join(plan.id for plan in await store.list_plans(conn))
        raise PlanNotFound(f"There is no plan {plan_id!r}; there are: {known}.")
    return found


async def list_plans(conn: Connection) -> list[Plan]:
    """Return the catalogue, smallest plan first."""
    return await store.list_plans(conn)
