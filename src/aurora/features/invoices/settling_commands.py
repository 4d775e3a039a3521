"""Commands that correct and settle invoices: credit, pay, and what was paid."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

from aurora.core import clock
from aurora.core.errors import Invalid
from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import settling
from aurora.features.invoices.model import (
    CreditNote,
    LineToCredit,
    Payment,
    PaymentMethod,
    PaymentNotFound,
)
from aurora.features.invoices.refusals import CreditInvalid, PaymentInvalid
from aurora.features.invoices.service import get_invoice
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import JsonOption, failing_clearly, run, show

invoice = typer.Typer()

CREDIT_COLUMNS = (
    "credit_note_number",
    "invoice_number",
    "credit_note_date",
    "subtotal",
    "tax_amount",
    "total",
    "currency",
    "amount_open",
    "reason",
    "id",
)
PAYMENT_COLUMNS = (
    "received_on",
    "amount",
    "currency",
    "method",
    "reference",
    "amount_allocated",
    "amount_open",
    "reversed_at",
    "id",
)
NumberArgument = Annotated[str, typer.Argument(help="The invoice's number, as printed on it.")]
OrgFilter = Annotated[str | None, typer.Option("--org", help="Only this organization (slug).")]
InvoiceFilter = Annotated[str | None, typer.Option("--invoice", help="Only of this number.")]
LimitOption = Annotated[int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="How many, newest first.")]


class LineUnreadable(Invalid):
    """The text names no line and amount."""

    code, title = "line_unreadable", "A line looks like 2 or 2=500.00"


@invoice.command("credit")
def credit_invoice(
    ctx: typer.Context,
    number: NumberArgument,
    reason: Annotated[str, typer.Option(help="As it is printed.")],
    line: Annotated[
        list[str] | None, typer.Option(help="2 or 2=500.00 without VAT; repeat for several.")
    ] = None,
    amount: Annotated[
        str | None, typer.Option(help="So much without VAT, spread over what is left.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Credit an invoice: all that is left of it, lines, or an amount. Never more than it."""
    with failing_clearly():
        lines = [_line(each) for each in line] if line else None
        so_much = None if amount is None else _amount(amount, CreditInvalid)

    async def work(pool: Pool) -> CreditNote:
        async with transaction(pool, PLATFORM) as conn:
            found = await get_invoice(conn, number)
            return await settling.credit_invoice(
                conn, found.id, reason=reason, lines=lines, amount=so_much
            )

    show(run(ctx, work), json=json, columns=CREDIT_COLUMNS)


@invoice.command("credit-notes")
def list_credit_notes(
    ctx: typer.Context,
    org: OrgFilter = None,
    number: InvoiceFilter = None,
    limit: LimitOption = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List credit notes, newest first."""

    async def work(pool: Pool) -> list[CreditNote]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            invoice_id = None if number is None else (await get_invoice(conn, number)).id
            page = await settling.list_credit_notes(
                conn, organization_id, invoice_id=invoice_id, cursor=None, limit=limit
            )
            return page.items

    show(run(ctx, work), json=json, columns=CREDIT_COLUMNS)


@invoice.command("pay")
def pay_invoice(
    ctx: typer.Context,
    number: NumberArgument,
    reference: Annotated[
        str, typer.Option(help="The bank's; the same one is never entered twice.")
    ],
    amount: Annotated[str | None, typer.Option(help="4375.00; all that is due if absent.")] = None,
    received_on: Annotated[
        str | None, typer.Option(help="When it arrived, 2026-12-03; today if absent.")
    ] = None,
    method: Annotated[PaymentMethod, typer.Option(help="How it came.")] = "bank_transfer",
    json: JsonOption = False,
) -> None:
    """Enter money that arrived for an invoice; more than it pays the oldest open ones."""
    with failing_clearly():
        so_much = None if amount is None else _amount(amount, PaymentInvalid)
        day = _day(received_on)

    async def work(pool: Pool) -> dict[str, Any]:
        async with transaction(pool, PLATFORM) as conn:
            found = await get_invoice(conn, number)
            paid = await settling.enter_payment(
                conn,
                found.organization_id,
                amount=found.amount_due if so_much is None else so_much,
                currency=found.currency,
                received_on=day,
                reference=reference,
                method=method,
                invoice_id=found.id,
            )
            after = await get_invoice(conn, number)
            state = {"invoice_status": after.status, "invoice_due": after.amount_due}
            return asdict(paid) | state

    columns = (*PAYMENT_COLUMNS, "invoice_status", "invoice_due")
    show(run(ctx, work), json=json, columns=columns)


@invoice.command("payments")
def list_payments(
    ctx: typer.Context,
    org: OrgFilter = None,
    number: InvoiceFilter = None,
    limit: LimitOption = DEFAULT_PAGE_SIZE,
    json: JsonOption = False,
) -> None:
    """List payments, newest first."""

    async def work(pool: Pool) -> list[Payment]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization_id = None if org is None else (await get_organization(conn, org)).id
            invoice_id = None if number is None else (await get_invoice(conn, number)).id
            page = await settling.list_payments(
                conn, organization_id, invoice_id=invoice_id, cursor=None, limit=limit
            )
            return page.items

    show(run(ctx, work), json=json, columns=PAYMENT_COLUMNS)


@invoice.command("reverse-payment")
def reverse_payment(
    ctx: typer.Context,
    payment_id: Annotated[str, typer.Argument(help="As `aurora invoice payments` says.")],
    reason: Annotated[str, typer.Option(help="Why it is taken back.")],
    json: JsonOption = False,
) -> None:
    """Take back a payment that was wrong or bounced; its invoices are open again."""
    with failing_clearly():
        try:
            which = UUID(payment_id)
        except ValueError:
            raise PaymentNotFound(f"{payment_id!r} is no payment's id.") from None

    async def work(pool: Pool) -> Payment:
        async with transaction(pool, PLATFORM) as conn:
            return await settling.reverse_payment(conn, which, reason=reason)

    show(run(ctx, work), json=json, columns=(*PAYMENT_COLUMNS, "reversal_reason"))


def _amount(text: str, refusal: type[Invalid]) -> Decimal:
    try:
        amount = Decimal(text)
    except ArithmeticError:
        raise refusal(f"{text!r} is no amount; write it like 4375.00.") from None
    if not amount.is_finite():
        raise refusal(f"{text!r} is no amount; write it like 4375.00.")
    return amount


def _line(text: str) -> LineToCredit:
    place, _, amount = text.partition("=")
    if not (place.isascii() and place.isdigit() and len(place) <= len("9999")):
        raise LineUnreadable(f"{text!r} names no line; write 2, or 2=500.00.")
    so_much = _amount(amount, CreditInvalid) if amount else None
    return LineToCredit(line=int(place), amount=so_much)


def _day(text: str | None) -> date:
    if text is None:
        return clock.now().astimezone(ZoneInfo(clock.SELLER_ZONE_DEFAULT)).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PaymentInvalid(f"{text!r} is no day; write it like 2026-12-03.") from None
