"""Commands that enter what documents stand on: rates of a day, and how whom is invoiced."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from aurora.core.errors import Invalid
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import entering
from aurora.features.invoices.model import BillingProfile, EnteredRate
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

billing = typer.Typer()

SourceOption = Annotated[str, typer.Option(help="Who says so, such as Norges Bank.")]


class EnteredInvalid(Invalid):
    """A figure or a day cannot be read."""

    code, title = "entered_invalid", "That is no figure, or no day"


@billing.command("exchange-rate")
def enter_exchange_rate(
    ctx: typer.Context,
    currency: Annotated[str, typer.Argument(help="ISO 4217, such as EUR.")],
    nok: Annotated[str, typer.Argument(help="Kroner for one unit.")],
    on: Annotated[str, typer.Option(help="The day, like 2026-12-01.")],
    source: SourceOption,
    json: JsonOption = False,
) -> None:
    """Enter an exchange rate; invoices of that day and the week after it state VAT in NOK by it."""
    rate, day = _figure(nok), _day(on)

    async def work(pool: Pool) -> EnteredRate:
        async with transaction(pool, PLATFORM) as conn:
            return await entering.enter_exchange_rate(conn, currency, rate, on=day, source=source)

    show(run(ctx, work), json=json)


@billing.command("late-interest")
def enter_late_interest(
    ctx: typer.Context,
    percent: Annotated[str, typer.Argument(help="Percent a year.")],
    since: Annotated[str, typer.Option("--from", help="The first day, like 2027-01-01.")],
    source: SourceOption,
    json: JsonOption = False,
) -> None:
    """Enter the late interest that counts from a day on; the state sets it twice a year."""
    rate, day = _figure(percent), _day(since)

    async def work(pool: Pool) -> EnteredRate:
        async with transaction(pool, PLATFORM) as conn:
            return await entering.enter_late_interest(conn, rate, since=day, source=source)

    show(run(ctx, work), json=json)


@billing.command("profile")
def change_profile(
    ctx: typer.Context,
    org: Annotated[str, typer.Option("--org", help="The organization's slug.")],
    vat_area: Annotated[
        str | None,
        typer.Option(help="mainland, svalbard, jan_mayen, or abroad; empty: by its country."),
    ] = None,
    vat_treatment: Annotated[
        str | None, typer.Option(help="standard, reverse_charge, or exempt.")
    ] = None,
    exemption_reason: Annotated[
        str | None, typer.Option(help="Why it is exempt, as printed.")
    ] = None,
    einvoice: Annotated[str | None, typer.Option(help="when_possible, required, or never.")] = None,
    order_reference: Annotated[
        str | None, typer.Option(help="The buyer's order; empty: none.")
    ] = None,
    payment_days: Annotated[
        int | None, typer.Option(min=0, max=365, help="In place of the seller's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show or change how an organization is invoiced; what was issued stays as it is."""

    async def work(pool: Pool) -> BillingProfile:
        async with transaction(pool, PLATFORM) as conn:
            organization = await get_organization(conn, org)
            return await entering.change_billing_profile(
                conn,
                organization.id,
                vat_area=vat_area,
                vat_treatment=vat_treatment,
                exemption_reason=exemption_reason,
                einvoice=einvoice,
                order_reference=order_reference,
                payment_days=payment_days,
            )

    show(run(ctx, work), json=json)


def _figure(text: str) -> Decimal:
    with failing_clearly():
        try:
            figure = Decimal(text)
        except InvalidOperation:
            figure = Decimal("nan")
        if not figure.is_finite():
            raise EnteredInvalid(f"{text!r} is no figure; write it like 11.6543.")
        return figure


def _day(text: str) -> date:
    with failing_clearly():
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise EnteredInvalid(f"{text!r} is no day; write it like 2026-12-01.") from None
