"""Commands for invoices that somebody writes: aurora invoice draft, edit, issue, void."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import typer

from aurora.core.errors import Invalid, TooLarge
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import drafting
from aurora.features.invoices.drafting import InvoicePreview
from aurora.features.invoices.model import (
    MAX_NOTE_LENGTH,
    MAX_NOTES,
    DraftChanges,
    EnteredLine,
    Invoice,
    InvoiceNotDraft,
    InvoiceNotFound,
)
from aurora.features.invoices.service import get_invoice
from aurora.features.organizations.service import get_organization
from aurora.integrations.terminal import (
    EXIT_FAILED,
    JsonOption,
    err,
    failing_clearly,
    read_file,
    run,
    show,
)

invoice = typer.Typer()

MAX_LINES_BYTES: Final = 1_000_000

LINE_COLUMNS = (
    *("description", "quantity", "unit", "unit_price", "amount", "tax_rate"),
    *("period_start", "period_end"),
)
DRAFT_COLUMNS = (
    *("invoice_number", "status", "invoice_date", "due_date", "subtotal", "tax_amount", "total"),
    *("currency", "id"),
)
DraftArgument = Annotated[
    str, typer.Argument(help="The draft's id, as `aurora invoice list` says.")
]
LineOption = Annotated[
    list[str] | None,
    typer.Option("--line", help='"Onboarding=9500.00" or "Onboarding=2x9500.00"; repeat it.'),
]
LinesOption = Annotated[
    Path | None, typer.Option("--lines", help="A JSON file of lines; - reads standard input.")
]
DateOption = Annotated[
    str | None, typer.Option("--date", help="2026-12-01; the day it is issued if absent.")
]
NoteOption = Annotated[
    list[str] | None, typer.Option("--note", help="Printed below the lines; repeat it.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be; keep nothing.")]


class EnteredLineUnreadable(Invalid):
    """The text names no line, or the file holds no list of them."""

    code, title = "entered_line_unreadable", 'A line looks like "Onboarding=2x9500.00"'


class LinesTooLong(TooLarge):
    """The file is longer than any invoice."""

    code, title = "lines_too_long", "A file of lines has at most 1,000,000 bytes"


@invoice.command("draft")
def draft_invoice(
    ctx: typer.Context,
    org: Annotated[str, typer.Option("--org", help="Who buys: the organization's slug.")],
    line: LineOption = None,
    lines: LinesOption = None,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "NOK",
    day: DateOption = None,
    note: NoteOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Draft an invoice of lines that you write. It has no number until it is issued."""
    with failing_clearly():
        entered: dict[str, Any] = {
            "lines": _lines(line, lines),
            "currency": currency.upper(),
            "invoice_date": _day(day),
            "notes": _notes(note),
        }

    async def work(pool: Pool) -> Invoice | InvoicePreview:
        async with transaction(pool, PLATFORM) as conn:
            buyer = await get_organization(conn, org)
            if dry_run:
                return await drafting.preview_draft(conn, buyer.id, **entered)
            return await drafting.draft_invoice(conn, buyer.id, **entered)

    _show(run(ctx, work), json=json)


@invoice.command("edit")
def edit_draft(
    ctx: typer.Context,
    draft: DraftArgument,
    line: LineOption = None,
    lines: LinesOption = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217.")] = None,
    day: Annotated[
        str | None, typer.Option("--date", help="2026-12-01; empty: the day it is issued.")
    ] = None,
    note: NoteOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Change a draft: what is named is replaced, lines all together; the rest stays."""
    with failing_clearly():
        named: dict[str, Any] = {}
        if line or lines:
            named["lines"] = _lines(line, lines)
        if currency is not None:
            named["currency"] = currency.upper()
        if day is not None:
            named["invoice_date"] = _day(day or None)
        if note is not None:
            named["notes"] = _notes(note)
        changes, draft_id = DraftChanges(**named), _id(draft)

    async def work(pool: Pool) -> Invoice | InvoicePreview:
        async with transaction(pool, PLATFORM) as conn:
            if dry_run:
                return await drafting.preview_change(conn, draft_id, changes)
            return await drafting.change_draft(conn, draft_id, changes)

    _show(run(ctx, work), json=json)


@invoice.command("issue")
def issue_draft(
    ctx: typer.Context,
    draft: DraftArgument,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Give a draft the next number of its series. From then on it never changes."""
    with failing_clearly():
        draft_id = _id(draft)

    async def work(pool: Pool) -> Invoice | InvoicePreview:
        async with transaction(pool, PLATFORM) as conn:
            if not dry_run:
                return await drafting.issue_draft(conn, draft_id)
            found = await get_invoice(conn, draft_id)
            if found.status != "draft":
                raise InvoiceNotDraft
            return InvoicePreview(
                invoice=found, obstacle=await drafting.obstacle_of(conn, draft_id)
            )

    shown = run(ctx, work)
    _show(shown, json=json)
    if isinstance(shown, InvoicePreview) and shown.obstacle is not None:
        raise typer.Exit(EXIT_FAILED)


@invoice.command("void")
def void_draft(ctx: typer.Context, draft: DraftArgument, json: JsonOption = False) -> None:
    """Put a draft aside for good. What has a number is credited instead."""
    with failing_clearly():
        draft_id = _id(draft)

    async def work(pool: Pool) -> Invoice:
        async with transaction(pool, PLATFORM) as conn:
            return await drafting.void_draft(conn, draft_id)

    _show(run(ctx, work), json=json)


def _show(result: Invoice | InvoicePreview, *, json: bool) -> None:
    if json:
        show(result, json=True)
        return
    obstacle = result.obstacle if isinstance(result, InvoicePreview) else None
    found = result.invoice if isinstance(result, InvoicePreview) else result
    show(found.line_items, json=False, columns=LINE_COLUMNS)
    # A draft that was made and taken back has an id that leads nowhere.
    kept = DRAFT_COLUMNS if isinstance(result, Invoice) else DRAFT_COLUMNS[1:-1]
    show([found], json=False, columns=kept)
    if obstacle is not None:
        err.print(f"It could not be issued: {obstacle.detail} ({obstacle.code})", soft_wrap=True)


def _lines(line: list[str] | None, file: Path | None) -> list[EnteredLine]:
    if file is None:
        return [_line(each) for each in line or []]
    if line:
        raise EnteredLineUnreadable("Name lines, or a file of them.")
    if str(file) == "-":
        text = sys.stdin.buffer.read(MAX_LINES_BYTES + 1)
    else:
        text = read_file(file, max_bytes=MAX_LINES_BYTES)
    if len(text) > MAX_LINES_BYTES:
        raise LinesTooLong
    try:
        return msgspec.json.decode(text, type=list[EnteredLine])
    except msgspec.DecodeError as error:
        raise EnteredLineUnreadable(f"{file}: {error}") from None


def _line(text: str) -> EnteredLine:
    description, _, figures = text.rpartition("=")
    quantity, times, price = figures.partition("x")
    try:
        return EnteredLine(
            description=description.strip(),
            quantity=Decimal(quantity if times else 1),
            unit_price=Decimal(price if times else quantity),
        )
    except ArithmeticError:
        raise EnteredLineUnreadable(
            f'{text!r} is no line; write it like "Onboarding=2x9500.00".'
        ) from None


def _notes(notes: list[str] | None) -> list[str]:
    said = [each for each in notes or [] if each.strip()]
    if len(said) > MAX_NOTES or any(len(each) > MAX_NOTE_LENGTH for each in said):
        raise EnteredLineUnreadable(f"At most {MAX_NOTES} notes of {MAX_NOTE_LENGTH} characters.")
    return said


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise EnteredLineUnreadable(f"{text!r} is no day; write it like 2026-12-01.") from None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvoiceNotFound(
            f"{text!r} is no draft's id: it has no number, and `aurora invoice list` says its id."
        ) from None
