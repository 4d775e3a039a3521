"""Commands of the invoices room: aurora billing, aurora invoice."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aurora.core.errors import Invalid
from aurora.core.money import Language
from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import service, settling
from aurora.features.invoices.billing_run import count_due
from aurora.features.invoices.billing_run import run_billing as bill
from aurora.features.invoices.model import BillingRun, BillLine, CreditNote, Invoice, LegalEntity
from aurora.features.invoices.seller_commands import logo
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import (
    EXIT_FAILED,
    JsonOption,
    OutputOption,
    err,
    failing_clearly,
    run,
    show,
    write_file,
)

billing = typer.Typer(help="Billing: from usage to numbered invoices.", no_args_is_help=True)
invoice = typer.Typer(help="Invoices, and the seller who issues them.", no_args_is_help=True)
invoice.add_typer(logo, name="logo")

INVOICE_COLUMNS = (
    "invoice_number",
    "status",
    "invoice_date",
    "due_date",
    "subtotal",
    "tax_amount",
    "total",
    "currency",
    "id",
)
OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]
NumberArgument = Annotated[
    str, typer.Argument(help="The invoice's number, as printed on it; of a draft its id.")
]


class AsOfInvalid(Invalid):
    """The text is not a day."""

    code, title = "as_of_invalid", "--as-of takes a day like 2026-12-01"


@billing.command("run")
def run_billing(
    ctx: typer.Context,
    as_of: Annotated[str, typer.Option(help="Bill every billing moment up to this day.")],
    org: Annotated[str | None, typer.Option(help="Only this organization (slug).")] = None,
    dry_run: Annotated[bool, typer.Option(help="Do the same and roll it back.")] = False,
    json: JsonOption = False,
) -> None:
    """Bill what is due. Safe to kill, to run again, and to run twice at once."""
    with failing_clearly():
        try:
            day = date.fromisoformat(as_of)
        except ValueError:
            raise AsOfInvalid(f"{as_of!r} is not a day; write it like 2026-12-01.") from None

    async def work(pool: Pool) -> BillingRun:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            due = await count_due(conn, as_of=day, organization_id=organization_id)
        with _progress(due, quiet=json) as progress:
            task = progress.add_task("billing", total=due)
            return await bill(
                pool,
                as_of=day,
                organization_id=organization_id,
                dry_run=dry_run,
                on_billed=lambda: progress.advance(task),
            )

    done = run(ctx, work)
    if json:
        show(done, json=True)
    else:
        columns = ("invoice_number", "subtotal", "tax_amount", "total", "currency", "id")
        show(done.issued, json=False, columns=columns)
        for failure in done.failed:
            err.print(f"subscription {failure.subscription_id}: {failure.detail} ({failure.code})")
        if done.waiting:
            err.print(f"{done.waiting} wait until their usage is folded: run it again")
    if done.failed:
        raise typer.Exit(EXIT_FAILED)


@billing.command("preview")
def preview_bill(ctx: typer.Context, org: OrgOption, json: JsonOption = False) -> None:
    """Show what an organization's next bill would say if it were made now."""

    async def work(pool: Pool) -> list[BillLine]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            return await service.preview_bill(conn, organization.id)

    columns = ("description", "quantity", "unit", "unit_price", "amount", "period_start")
    show(run(ctx, work), json=json, columns=columns)


@invoice.command("list")
def list_invoices(
    ctx: typer.Context,
    org: Annotated[str | None, typer.Option(help="Only this organization (slug).")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="How many, newest first.")
    ] = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List invoices, newest first."""

    async def work(pool: Pool) -> list[Invoice]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            page = await service.list_invoices(conn, organization_id, cursor=None, limit=limit)
            return page.items

    show(run(ctx, work), json=json, columns=INVOICE_COLUMNS)


@invoice.command("show")
def show_invoice(ctx: typer.Context, number: NumberArgument, json: JsonOption = False) -> None:
    """Show one invoice or credit note by its number."""

    async def work(pool: Pool) -> Invoice | CreditNote:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            document = await service.get_document(conn, _named(number))
            if document.kind == "credit_note":
                return await settling.get_credit_note(conn, document.id)
            return await service.get_invoice(conn, document.id)

    show(run(ctx, work), json=json)


@invoice.command("pdf")
def write_pdf(
    ctx: typer.Context,
    number: NumberArgument,
    output: OutputOption,
    language: Annotated[
        Language | None, typer.Option(help="Of the page; the document's own if none is named.")
    ] = None,
) -> None:
    """Write an invoice or credit note as PDF/A-3b, with its EHF file inside."""

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            document = await service.get_document(conn, _named(number))
        return await service.render_document(document, language)

    write_file(output, run(ctx, work))


@invoice.command("ehf")
def write_ehf(ctx: typer.Context, number: NumberArgument, output: OutputOption) -> None:
    """Write an invoice or credit note as EHF 3 (Peppol BIS Billing 3.0, UBL 2.1)."""

    async def work(pool: Pool) -> bytes:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            return service.write_ehf(await service.get_document(conn, _named(number)))

    write_file(output, run(ctx, work))


@invoice.command("seller")
def enter_seller(  # noqa: PLR0917 - options are named
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Registered name.")] = None,
    org_number: Annotated[str | None, typer.Option(help="Organization number.")] = None,
    vat_registered: Annotated[bool | None, typer.Option(help="In the VAT register.")] = None,
    in_business_register: Annotated[bool | None, typer.Option(help="AS, ASA, NUF.")] = None,
    address: Annotated[str | None, typer.Option(help="Street address.")] = None,
    postal_code: Annotated[str | None, typer.Option(help="As in the country.")] = None,
    city: Annotated[str | None, typer.Option(help="Postal town.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1 code.")] = None,
    email: Annotated[str | None, typer.Option(help="Where questions go.")] = None,
    phone: Annotated[str | None, typer.Option(help="As printed.")] = None,
    website: Annotated[str | None, typer.Option(help="As printed.")] = None,
    bank_account: Annotated[
        str | None, typer.Option(help="Where buyers pay: a Norwegian account number.")
    ] = None,
    iban: Annotated[str | None, typer.Option(help="Where buyers abroad pay.")] = None,
    bic: Annotated[str | None, typer.Option(help="Of the bank with that account.")] = None,
    payment_days: Annotated[
        int | None, typer.Option(min=0, max=365, help="Days from the invoice to its due date.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the seller, or enter the real one, whole, in place of the specimen."""
    changes: dict[str, object] = {
        "name": name,
        "org_number": org_number,
        "vat_registered": vat_registered,
        "in_business_register": in_business_register,
        "address": address,
        "postal_code": postal_code,
        "city": city,
        "country": country,
        "email": email,
        "phone": phone,
        "website": website,
        "bank_account": bank_account,
        "iban": iban,
        "bic": bic,
        "payment_days": payment_days,
    }

    async def work(pool: Pool) -> LegalEntity:
        async with transaction(pool, PLATFORM) as conn:
            if all(value is None for value in changes.values()):
                return await service.get_seller(conn)
            return await service.enter_seller(conn, **changes)

    show(run(ctx, work), json=json)


def _named(text: str) -> UUID | str:
    """Return the id that a draft is named by, or the number of what has one."""
    try:
        return UUID(text)
    except ValueError:
        return text


def _progress(total: int, *, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=quiet or total == 0,
        transient=True,
    )
