"""The command that replays real usage against a new price: aurora plan simulate."""

from __future__ import annotations

import json as json_format
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.model import Simulation
from aurora.features.invoices.simulation import simulate_plan
from aurora.features.organizations.service import get_organization
from aurora.features.plans.model import PriceInvalid, PriceModelInvalid
from aurora.features.subscriptions.model import Overrides
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

plan = typer.Typer()

MAX_MODEL_BYTES = 100_000
SIMULATION_TIMEOUT_MS = 600_000
COLUMNS = (
    "slug",
    "plan_id",
    "months",
    "billable",
    "paid",
    "would_pay",
    "difference",
)


@plan.command("simulate")
def simulate(
    ctx: typer.Context,
    plan_id: Annotated[str, typer.Argument(help="Whose terms are tried.")],
    on: Annotated[str | None, typer.Option(help="Only customers who are on this plan.")] = None,
    org: Annotated[str | None, typer.Option(help="Only this organization (slug).")] = None,
    months: Annotated[int, typer.Option(help="How many that have ended, 1 to 60.")] = 3,
    monthly: Annotated[str | None, typer.Option(help="Another fee a month.")] = None,
    yearly: Annotated[str | None, typer.Option(help="Another fee a year.")] = None,
    included: Annotated[int | None, typer.Option(min=0, help="Other impressions a month.")] = None,
    overage: Annotated[str | None, typer.Option(help="Another price of 1000 beyond them.")] = None,
    overage_model: Annotated[
        Literal["per_begun_1000", "pro_rata"] | None, typer.Option(help="How a part counts.")
    ] = None,
    price_model: Annotated[
        Path | None, typer.Option(help="A file with a price model as JSON, in place of one rate.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Replay what customers really used against a price, and show what each would pay."""
    with failing_clearly():
        tried: Overrides = {
            "price_monthly": _price(monthly),
            "price_yearly": _price(yearly),
            "included_impressions": included,
            "overage_rate": _price(overage),
            "overage_model": overage_model,
            "price_model": None if price_model is None else _model(price_model),
        }

    async def work(pool: Pool) -> Simulation:
        timeout_ms = SIMULATION_TIMEOUT_MS
        async with transaction(
            pool, PLATFORM, read_only=True, statement_timeout_ms=timeout_ms
        ) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            return await simulate_plan(
                conn,
                plan_id,
                months=months,
                on_plan=on,
                organization_id=organization_id,
                overrides=tried,
            )

    done = run(ctx, work)
    if json:
        show(done, json=True)
    else:
        show(done.customers, json=False, columns=COLUMNS)
        totals = {
            "paid": done.paid,
            "would_pay": done.would_pay,
            "difference": done.difference,
            "currency": done.currency,
        }
        show(totals, json=False)


def _price(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        price = Decimal(text)
    except ArithmeticError:
        raise PriceInvalid(f"{text!r} is no price; write it like 3500.00.") from None
    if not price.is_finite() or not 0 <= price < Decimal("1e12"):
        raise PriceInvalid(f"{text} is out of range.")
    return price


def _model(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json_format.loads(file.read(MAX_MODEL_BYTES), parse_float=Decimal)
    except (OSError, ValueError, RecursionError):
        raise PriceModelInvalid(f"{path} holds no price model as JSON.") from None
    if not isinstance(found, dict):
        raise PriceModelInvalid(f"{path} holds no price model as JSON.")
    return found
