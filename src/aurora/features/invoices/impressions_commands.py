"""Command of impressions by month: aurora usage impressions."""

from __future__ import annotations

from typing import Annotated

import typer

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import impressions
from aurora.features.invoices.model import ImpressionMonth, MonthKind
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import JsonOption, run, show

usage = typer.Typer()


@usage.command("impressions")
def show_impressions(
    ctx: typer.Context,
    org: Annotated[str, typer.Option("--org", help="The organization's slug.")],
    by: Annotated[MonthKind, typer.Option(help="Which months.")] = "billing_period",
    months: Annotated[
        int, typer.Option(min=1, max=impressions.MAX_IMPRESSION_MONTHS, help="How many.")
    ] = 12,
    json: JsonOption = False,
) -> None:
    """Show impressions by month: included, beyond, billed, and billed too little or too much."""

    async def work(pool: Pool) -> list[ImpressionMonth]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            page = await impressions.list_impression_months(
                conn, organization.id, by=by, cursor=None, limit=months
            )
            return page.items

    columns = (
        "period_start", "period_end", "billable", "included", "overage", "usage_amount",
        "billed_amount",
    )  # fmt: skip
    show(run(ctx, work), json=json, columns=columns)
