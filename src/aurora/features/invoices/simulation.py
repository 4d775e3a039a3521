"""What customers would have paid under another price, from what they really used."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import (
    MAX_MONTHS_SIMULATED,
    MonthsInvalid,
    Simulation,
)
from aurora.features.plans.service import canonical_price_model, get_plan
from aurora.features.subscriptions.model import Overrides


async def simulate_plan(
    conn: Connection,
    plan_id: str,
    *,
    months: int,
    on_plan: str | None = None,
    organization_id: UUID | None = None,
    overrides: Overrides | None = None,
) -> Simulation:
    """Replay the months that have ended against a plan's terms; nothing changes.

    Fees and usage are compared without VAT and coupons; a year's fee counts by its twelfth.

    Args:
        conn: An open transaction.
        plan_id: The plan, in its present version.
        months: How many months that have ended, 1 to `MAX_MONTHS_SIMULATED`, of each customer.
        on_plan: Only customers who are on this plan.
        organization_id: Only this customer.
        overrides: Terms to try in place of the plan's.

    Raises:
        PlanNotFound, PriceByAgreement, PriceInvalid, PriceModelInvalid, MonthsInvalid: As they say.
    """
    if not 1 <= months <= MAX_MONTHS_SIMULATED:
        raise MonthsInvalid(f"1 to {MAX_MONTHS_SIMULATED} months are replayed, not {months}.")
    plan = await get_plan(conn, plan_id)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    if (model := (overrides or {}).get("price_model")) is not None:
        given["price_model"] = canonical_price_model(model)
    tried = {name: str(v) if isinstance(v, Decimal) else v for name, v in given.items()}
    customers = await store.simulate_plan(
        conn,
        tried,
        plan_id=plan_id,
        months=months,
        on_plan=on_plan,
        organization_id=organization_id,
    )
    zero = Decimal("0.00")
    paid = sum((each.paid for each in customers), zero)
    would_pay = sum((each.would_pay for each in customers), zero)
    return Simulation(
        plan_id=plan_id,
        currency=plan.currency,
        customers=customers,
        paid=paid,
        would_pay=would_pay,
        difference=would_pay - paid,
    )
