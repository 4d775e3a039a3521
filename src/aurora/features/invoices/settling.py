"""Crediting invoices, entering and reversing payments, and setting both off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from aurora.core.paging import Page, decode_cursor, page_of
from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import (
    Allocation,
    CreditNote,
    CreditNoteNotFound,
    LineToCredit,
    Payment,
    PaymentMethod,
    PaymentNotFound,
)
from aurora.features.invoices.service import get_invoice


async def credit_invoice(
    conn: Connection,
    invoice_id: UUID,
    *,
    reason: str,
    lines: Sequence[LineToCredit] | None = None,
    amount: Decimal | None = None,
) -> CreditNote:
    """Credit an issued invoice: all that is left, lines of it, or an amount; it is numbered last.

    Args:
        conn: An open transaction, which should end right after.
        invoice_id: What is corrected.
        reason: As it is printed.
        lines: Which lines, and how much of each.
        amount: So much without VAT, spread over all that is left; not together with `lines`.

    Raises:
        InvoiceNotFound, InvoiceNotIssued, CreditInvalid, CreditExceedsInvoice: As they say.
    """
    await get_invoice(conn, invoice_id)
    named = None
    if lines is not None:
        named = [
            {"line": each.line}
            | ({} if each.amount is None else {"amount": format(each.amount, "f")})
            for each in lines
        ]
    note_id = await store.credit_invoice(conn, invoice_id, reason, named, amount)
    return await get_credit_note(conn, note_id)


async def get_credit_note(conn: Connection, which: UUID | str) -> CreditNote:
    """Return one credit note by id or number.

    Raises:
        CreditNoteNotFound: There is none, or the caller may not see it.
    """
    found = await store.find_credit_note(conn, which)
    if found is None:
        raise CreditNoteNotFound
    return found


async def list_credit_notes(
    conn: Connection,
    organization_id: UUID | None,
    *,
    invoice_id: UUID | None = None,
    cursor: str | None,
    limit: int,
) -> Page[CreditNote]:
    """Return a page of credit notes, newest first; of all organizations where none is named."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_credit_notes(
        conn, organization_id, invoice_id, after=after, limit=limit + 1
    )
    return page_of(found, limit, lambda row: (row.created_at, row.id))


async def enter_payment(
    conn: Connection,
    organization_id: UUID,
    *,
    amount: Decimal,
    currency: str,
    received_on: date,
    reference: str,
    method: PaymentMethod = "bank_transfer",
    invoice_id: UUID | None = None,
) -> Payment:
    """Enter money that arrived: it pays the named invoice, then the oldest open ones.

    What is more than all of them waits for the next invoice.

    Raises:
        PaymentInvalid, PaymentTaken, InvoiceNotIssued, AllocationInvalid: As they say.
    """
    payment_id = await store.enter_payment(
        conn,
        organization_id=organization_id,
        amount=amount,
        currency=currency,
        received_on=received_on,
        reference=reference,
        method=method,
        invoice_id=invoice_id,
    )
    return await get_payment(conn, payment_id)


async def get_payment(conn: Connection, payment_id: UUID) -> Payment:
    """Return one payment.

    Raises:
        PaymentNotFound: There is none, or the caller may not see it.
    """
    found = await store.find_payment(conn, payment_id)
    if found is None:
        raise PaymentNotFound
    return found


async def list_payments(
    conn: Connection,
    organization_id: UUID | None,
    *,
    invoice_id: UUID | None = None,
    cursor: str | None,
    limit: int,
) -> Page[Payment]:
    """Return a page of payments, newest first; of one invoice where it is named."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_payments(
        conn, organization_id, invoice_id, after=after, limit=limit + 1
    )
    return page_of(found, limit, lambda row: (row.created_at, row.id))


async def reverse_payment(conn: Connection, payment_id: UUID, *, reason: str) -> Payment:
    """Take back a payment that was wrong or bounced; its invoices are open again.

    Raises:
        PaymentNotFound: There is none.
        PaymentInvalid: It was taken back already, or no reason is given.
    """
    await get_payment(conn, payment_id)
    await store.reverse_payment(conn, payment_id, reason)
    return await get_payment(conn, payment_id)


async def allocate(
    conn: Connection,
    invoice_id: UUID,
    *,
    payment_id: UUID | None = None,
    credit_note_id: UUID | None = None,
    amount: Decimal | None = None,
) -> Decimal:
    """Set what is open of a payment or a credit note off against an invoice; return how much.

    Raises:
        InvoiceNotFound, InvoiceNotIssued, AllocationInvalid: As they say.
    """
    await get_invoice(conn, invoice_id)
    return await store.allocate(conn, invoice_id, payment_id, credit_note_id, amount)


async def list_allocations(conn: Connection, invoice_id: UUID) -> list[Allocation]:
    """Return what settled an invoice, oldest first.

    Raises:
        InvoiceNotFound: There is none, or the caller may not see it.
    """
    await get_invoice(conn, invoice_id)
    return await store.list_allocations(conn, invoice_id)
