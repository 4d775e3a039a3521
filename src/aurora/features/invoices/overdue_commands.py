"""Commands for what is overdue: the list, the policy, the steps, exemptions."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import overdue
from aurora.features.invoices.model import Chased, OverdueInvoice, OverduePolicy
from aurora.features.invoices.refusals import OverduePolicyInvalid
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

billing = typer.Typer()

OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]


@billing.command("overdue")
def list_overdue(
    ctx: typer.Context,
    org: Annotated[str | None, typer.Option("--org", help="Only this one (slug).")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="How many.")
    ] = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List what is overdue, the longest first, with reminders, suspension, and exemption."""

    async def work(pool: Pool) -> list[OverdueInvoice]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            return await overdue.list_overdue(conn, organization_id, limit)

    show(run(ctx, work), json=json)


@billing.command("chase")
def chase(ctx: typer.Context, json: JsonOption = False) -> None:
    """Remind, suspend, and reactivate now, as the worker does every five minutes."""

    async def work(pool: Pool) -> Chased:
        async with transaction(pool, PLATFORM) as conn:
            return await overdue.chase_overdue(conn)

    show(run(ctx, work), json=json)


@billing.command("overdue-policy")
def overdue_policy(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", help="First due date; without it the list is shown.")
    ] = None,
    reminders: Annotated[str, typer.Option(help="Days after the due date, like 7,21.")] = "7,21",
    suspend_after: Annotated[
        str, typer.Option(help="Days after the due date; never: nobody is suspended.")
    ] = "45",
    json: JsonOption = False,
) -> None:
    """Show or enter what follows when an invoice is not paid, by its due date."""
    with failing_clearly():
        first = None if since is None else _day(since)
        days = [_days(each) for each in reminders.split(",")]
        suspend = None if suspend_after == "never" else _days(suspend_after)

    async def work(pool: Pool) -> list[OverduePolicy]:
        async with transaction(pool, PLATFORM) as conn:
            if first is not None:
                await overdue.enter_policy(
                    conn, since=first, reminder_days=days, suspend_days=suspend
                )
            return await overdue.list_policies(conn)

    show(run(ctx, work), json=json)


@billing.command("exempt")
def exempt(
    ctx: typer.Context,
    org: OrgOption,
    reason: Annotated[str | None, typer.Option(help="Why; needed unless it ends.")] = None,
    until: Annotated[str | None, typer.Option(help="The last day; without end if absent.")] = None,
    end: Annotated[bool, typer.Option("--end", help="Take the exemption back.")] = False,
    json: JsonOption = False,
) -> None:
    """Exempt an organization from reminders and suspension; one in force ends with it."""
    with failing_clearly():
        last = None if until is None else _day(until)
        if end is not (reason is None):
            raise OverduePolicyInvalid("Name a reason, or --end.")

    async def work(pool: Pool) -> list[OverdueInvoice]:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            await overdue.exempt(conn, organization.id, reason=reason, until=last)
            return await overdue.list_overdue(conn, organization.id, MAX_PAGE_SIZE)

    show(run(ctx, work), json=json)


def _days(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= len("999")):
        raise OverduePolicyInvalid(f"{text!r} is no number of days.")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OverduePolicyInvalid(f"{text!r} is no day; write it like 2027-01-01.") from None
