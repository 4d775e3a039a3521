"""Commands of the plans room: aurora plan."""

from __future__ import annotations

from typing import Annotated

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.plans import service
from aurora.features.plans.model import Plan
from aurora.integrations.terminal import JsonOption, run, show

plan = typer.Typer(help="Plans: the catalogue.", no_args_is_help=True)

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


@plan.command("list")
def list_plans(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the plans that can be bought."""

    async def work(pool: Pool) -> list[Plan]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.list_plans(conn)

    show(run(ctx, work), json=json, columns=PLAN_COLUMNS)


@plan.command("show")
def show_plan(
    ctx: typer.Context,
    plan_id: Annotated[str, typer.Argument(help="As `aurora plan list` says.")],
    json: JsonOption = False,
) -> None:
    """Show one plan."""

    async def work(pool: Pool) -> Plan:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return await service.get_plan(conn, plan_id, retired=True)

    show(run(ctx, work), json=json)
