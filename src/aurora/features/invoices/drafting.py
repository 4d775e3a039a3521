"""Invoices that somebody writes: drafted, changed, and then issued with a number or put aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from aurora.core.errors import Unavailable
from aurora.db.errors import translate
from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.billing_run import DELIVER_JOB
from aurora.features.invoices.model import DraftChanges, EnteredLine, Invoice
from aurora.features.invoices.service import get_invoice
from aurora.integrations.jobs import enqueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a draft could not be issued as it stands: the refusal that issuing it would meet."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePreview:
    """An invoice as it would be, of which nothing is kept; None: nothing keeps it from issue."""

    invoice: Invoice
    obstacle: Obstacle | None


async def draft_invoice(
    conn: Connection,
    organization_id: UUID,
    *,
    lines: Sequence[EnteredLine],
    currency: str = "NOK",
    invoice_date: date | None = None,
    notes: Sequence[str] = (),
) -> Invoice:
    """Draft an invoice of lines that somebody wrote; it has VAT and parties, and no number yet.

    Args:
        conn: An open transaction of the platform.
        organization_id: Who buys; it is there.
        lines: At least one, in their order on the document.
        currency: ISO 4217.
        invoice_date: The day it is dated; None: the day on which it is issued.
        notes: Printed below the lines.

    Raises:
        InvoiceLineInvalid, InvoiceIncomplete, InvoiceTooLong, InvoiceDateInFuture, CurrencyUnknown,
        TaxRateMissing, ExchangeRateMissing, SellerMissing: As they say.
    """
    invoice_id: UUID = await store.write_draft(
        conn,
        "insert_entered_invoice",
        organization_id=organization_id,
        lines=Jsonb([line.as_json() for line in lines]),
        currency=currency,
        invoice_date=invoice_date,
        notes=Jsonb(list(notes)),
    )
    return await get_invoice(conn, invoice_id)


async def change_draft(conn: Connection, invoice_id: UUID, changes: DraftChanges) -> Invoice:
    """Change what is named of a draft, and compute it anew with parties and rates of now.

    Raises:
        InvoiceNotFound: There is none.
        InvoiceNotDraft: It was issued or put aside.
        InvoiceNotEntered: It is a subscription's, whose lines nobody wrote.
        And what `draft_invoice` raises.
    """
    await get_invoice(conn, invoice_id)
    await store.write_draft(
        conn, "update_draft", invoice_id=invoice_id, changes=Jsonb(changes.as_json())
    )
    return await get_invoice(conn, invoice_id)


async def issue_draft(conn: Connection, invoice_id: UUID) -> Invoice:
    """Give a draft the next number of its series, as of today; the transaction should end then.

    What somebody wrote is computed anew, so that seller, buyer, VAT, and rates are those of the
    day; then the parties are checked, and only then is a number taken. Its delivery is enqueued.

    Raises:
        InvoiceNotFound, InvoiceNotDraft, InvoiceIncomplete, EInvoiceBlocked: As they say.
        And what `draft_invoice` raises.
    """
    await get_invoice(conn, invoice_id)
    # Before the number: from there on, whoever issues waits for this transaction.
    await enqueue(conn, DELIVER_JOB, str(invoice_id).encode())
    await store.write_draft(conn, "update_draft_issued", invoice_id=invoice_id)
    return await get_invoice(conn, invoice_id)


async def void_draft(conn: Connection, invoice_id: UUID) -> Invoice:
    """Put a draft aside for good; what has a number can only be credited.

    Raises:
        InvoiceNotFound, InvoiceNotDraft: As they say.
    """
    await get_invoice(conn, invoice_id)
    await store.write_draft(conn, "update_draft_void", invoice_id=invoice_id)
    return await get_invoice(conn, invoice_id)


async def obstacle_of(conn: Connection, invoice_id: UUID) -> Obstacle | None:
    """Return what would keep a draft from being issued now, or None; nothing stays changed."""
    try:
        async with conn.transaction(force_rollback=True):
            await store.write_draft(conn, "update_draft_issued", invoice_id=invoice_id)
    except psycopg.Error as error:
        refusal = translate(error)
        if refusal is None or isinstance(refusal, Unavailable):
            raise
        return Obstacle(code=refusal.code, detail=refusal.detail)
    return None


async def preview_draft(
    conn: Connection,
    organization_id: UUID,
    *,
    lines: Sequence[EnteredLine],
    currency: str = "NOK",
    invoice_date: date | None = None,
    notes: Sequence[str] = (),
) -> InvoicePreview:
    """Return the invoice that `draft_invoice` would draft, and what would keep it from issue.

    It is drafted as it would be, tried, and rolled back: so the preview is what then happens.

    Raises:
        As `draft_invoice`.
    """
    async with conn.transaction(force_rollback=True):
        drafted = await draft_invoice(
            conn,
            organization_id,
            lines=lines,
            currency=currency,
            invoice_date=invoice_date,
            notes=notes,
        )
        return InvoicePreview(invoice=drafted, obstacle=await obstacle_of(conn, drafted.id))


async def preview_change(
    conn: Connection, invoice_id: UUID, changes: DraftChanges
) -> InvoicePreview:
    """Return what a draft would become by a change; nothing stays changed.

    Raises:
        As `change_draft`.
    """
    async with conn.transaction(force_rollback=True):
        changed = await change_draft(conn, invoice_id, changes)
        return InvoicePreview(invoice=changed, obstacle=await obstacle_of(conn, invoice_id))
