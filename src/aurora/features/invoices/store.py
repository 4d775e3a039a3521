"""The only Python that runs the invoices room's SQL."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import (
    T,
    execute,
    fetch_all,
    fetch_in_turn,
    fetch_one,
    fetch_optional,
    fetch_value,
    load_queries,
)
from aurora.db.transaction import Connection, Turns
from aurora.features.invoices.model import (
    Allocation,
    BillingProfile,
    BillingStep,
    BillLine,
    CreditNote,
    CreditNoteRow,
    DayFigure,
    DocumentRow,
    EnteredRate,
    ImpressionMonth,
    Invoice,
    InvoiceRow,
    LegalEntity,
    Logo,
    MonthKind,
    Payment,
    Replayed,
    SalesDocument,
    SimulatedCustomer,
)

QUERIES = load_queries(__package__)

MAX_ALLOCATIONS_LISTED = 1_000


async def bill_next(conn: Connection, **fields: Any) -> BillingStep | None:
    """Bill one that is due and that no other runner holds, by the fields of the query."""
    return await fetch_optional(conn, QUERIES["bill_next"], BillingStep, **fields)


async def bill_in_turn(turns: Turns, *, times: int, **fields: Any) -> list[BillingStep]:
    """Do the same so many times, each in a transaction of its own; fewer steps: none is left."""
    return await fetch_in_turn(turns, QUERIES["bill_next"], BillingStep, times=times, **fields)


async def draft_invoice(conn: Connection, subscription_id: UUID, *, as_of: date) -> UUID | None:
    """Draft the next billing moment's invoice and move on; None: nothing was owed."""
    drafted: UUID | None = await fetch_value(
        conn, QUERIES["insert_invoice_draft"], subscription_id=subscription_id, as_of=as_of
    )
    return drafted


async def write_draft(
    conn: Connection,
    step: Literal[
        "insert_entered_invoice", "update_draft", "update_draft_issued", "update_draft_void"
    ],
    **fields: Any,
) -> Any:
    """Draft an invoice that somebody wrote, or take it a step on; return what the query does."""
    return await fetch_value(conn, QUERIES[step], **fields)


async def count_due(conn: Connection, *, as_of: date, organization_id: UUID | None) -> int:
    """Return how many subscriptions are due."""
    count: int = await fetch_value(
        conn, QUERIES["count_subscriptions_due"], as_of=as_of, organization_id=organization_id
    )
    return count


async def list_bill_lines(conn: Connection, organization_id: UUID) -> list[BillLine]:
    """Return what the next bill would say now."""
    return await fetch_all(
        conn,
        QUERIES["list_bill_lines_by_organization"],
        BillLine,
        organization_id=organization_id,
    )


async def find_invoice(conn: Connection, invoice_id: UUID) -> Invoice | None:
    """Return one invoice by id, if the caller may see it."""
    row = await fetch_optional(conn, QUERIES["find_invoice"], InvoiceRow, invoice_id=invoice_id)
    return None if row is None else row.parsed()


async def find_invoice_by_number(conn: Connection, number: str) -> Invoice | None:
    """Return one issued invoice by number, if the caller may see it."""
    row = await fetch_optional(
        conn, QUERIES["find_invoice_by_number"], InvoiceRow, invoice_number=number
    )
    return None if row is None else row.parsed()


async def find_document(conn: Connection, document_id: UUID) -> SalesDocument | None:
    """Return an invoice or credit note by id, if the caller may see it."""
    row = await fetch_optional(conn, QUERIES["find_document"], DocumentRow, document_id=document_id)
    return None if row is None else row.parsed()


async def find_document_by_number(conn: Connection, number: str) -> SalesDocument | None:
    """Return an issued invoice or credit note by number, if the caller may see it."""
    row = await fetch_optional(conn, QUERIES["find_document_by_number"], DocumentRow, number=number)
    return None if row is None else row.parsed()


async def list_replayed(
    conn: Connection, *, after: UUID | None, limit: int, invoice_id: UUID | None
) -> list[Replayed]:
    """Return issued invoices beside what the stored facts give now, by id; or one of them."""
    return await fetch_all(
        conn,
        QUERIES["list_replayed_invoices"],
        Replayed,
        after=after,
        limit=limit,
        invoice_id=invoice_id,
    )


async def list_replayed_credit_notes(
    conn: Connection, *, after: UUID | None, limit: int, credit_note_id: UUID | None
) -> list[Replayed]:
    """Return issued credit notes beside what the stored facts give now, by id; or one of them."""
    return await fetch_all(
        conn,
        QUERIES["list_replayed_credit_notes"],
        Replayed,
        after=after,
        limit=limit,
        credit_note_id=credit_note_id,
    )


async def get_credited(conn: Connection, invoice_id: UUID, line: int) -> Decimal:
    """Return what credit notes took back of a line, without VAT."""
    credited: Decimal = await fetch_value(
        conn, QUERIES["get_credited"], invoice_id=invoice_id, line=line
    )
    return credited


async def list_billable_days(
    conn: Connection, organization_id: UUID, start: datetime, end: datetime
) -> list[DayFigure]:
    """Return the billable impressions of [start, end) by UTC day."""
    return await fetch_all(
        conn,
        QUERIES["list_billable_days"],
        DayFigure,
        organization_id=organization_id,
        first=start,
        until=end,
    )


async def list_invoices(
    conn: Connection,
    organization_id: UUID | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Invoice]:
    """Return up to `limit` invoices, newest first, after the given place."""
    created_at, invoice_id = after or (None, None)
    rows = await fetch_all(
        conn,
        QUERIES["list_invoices_by_organization"],
        InvoiceRow,
        organization_id=organization_id,
        after_created_at=created_at,
        after_id=invoice_id,
        limit=limit,
    )
    return [row.parsed() for row in rows]


async def deliver_invoice(conn: Connection, invoice_id: UUID) -> int:
    """Tell the organization's admins, once, and mark it sent; return how many were told."""
    told: int = await fetch_value(conn, QUERIES["deliver_invoice"], invoice_id=invoice_id)
    return told


async def deliver_credit_notes(conn: Connection, limit: int) -> int:
    """Tell admins of credit notes that nobody told them of; return how many were sent."""
    sent: int = await fetch_value(conn, QUERIES["deliver_credit_notes"], limit=limit)
    return sent


async def mark_overdue(conn: Connection, limit: int) -> int:
    """Mark invoices whose due date has passed; return how many."""
    marked: int = await fetch_value(conn, QUERIES["mark_overdue"], limit=limit)
    return marked


async def ask_overdue(conn: Connection, query: str, kind: type[T], **fields: Any) -> list[T]:
    """Run one of the queries about what is overdue; fields are those of the query."""
    return await fetch_all(conn, QUERIES[query], kind, **fields)


async def exempt_organization(conn: Connection, **fields: Any) -> None:
    """Exempt an organization, or end that; fields are those of the query."""
    await fetch_value(conn, QUERIES["exempt_organization"], **fields)


async def find_legal_entity(conn: Connection, legal_entity_id: str) -> LegalEntity | None:
    """Return a seller."""
    return await fetch_optional(
        conn, QUERIES["find_legal_entity"], LegalEntity, legal_entity_id=legal_entity_id
    )


async def update_legal_entity(conn: Connection, **fields: object) -> LegalEntity:
    """Enter the real seller; fields are those of the query."""
    return await fetch_one(conn, QUERIES["update_legal_entity"], LegalEntity, **fields)


async def credit_invoice(
    conn: Connection,
    invoice_id: UUID,
    reason: str,
    lines: list[dict[str, Any]] | None,
    amount: Decimal | None,
) -> UUID:
    """Credit an issued invoice; return the credit note's id."""
    credited: UUID = await fetch_value(
        conn,
        QUERIES["credit_invoice"],
        invoice_id=invoice_id,
        reason=reason,
        lines=None if lines is None else Jsonb(lines),
        amount=amount,
    )
    return credited


async def find_credit_note(conn: Connection, which: UUID | str) -> CreditNote | None:
    """Return one credit note by id or number, if the caller may see it."""
    row = await fetch_optional(
        conn,
        QUERIES["find_credit_note"],
        CreditNoteRow,
        credit_note_id=which if isinstance(which, UUID) else None,
        credit_note_number=None if isinstance(which, UUID) else which,
    )
    return None if row is None else row.parsed()


async def list_credit_notes(
    conn: Connection,
    organization_id: UUID | None,
    invoice_id: UUID | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[CreditNote]:
    """Return up to `limit` credit notes, newest first, after the given place."""
    created_at, note_id = after or (None, None)
    rows = await fetch_all(
        conn,
        QUERIES["list_credit_notes_by_organization"],
        CreditNoteRow,
        organization_id=organization_id,
        invoice_id=invoice_id,
        after_created_at=created_at,
        after_id=note_id,
        limit=limit,
    )
    return [row.parsed() for row in rows]


async def enter_payment(conn: Connection, **fields: Any) -> UUID:
    """Enter money that arrived and set it off; fields are those of the query."""
    entered: UUID = await fetch_value(conn, QUERIES["enter_payment"], **fields)
    return entered


async def find_payment(conn: Connection, payment_id: UUID) -> Payment | None:
    """Return one payment, if the caller may see it."""
    return await fetch_optional(conn, QUERIES["find_payment"], Payment, payment_id=payment_id)


async def list_payments(
    conn: Connection,
    organization_id: UUID | None,
    invoice_id: UUID | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Payment]:
    """Return up to `limit` payments, newest first, after the given place."""
    created_at, payment_id = after or (None, None)
    return await fetch_all(
        conn,
        QUERIES["list_payments_by_organization"],
        Payment,
        organization_id=organization_id,
        invoice_id=invoice_id,
        after_created_at=created_at,
        after_id=payment_id,
        limit=limit,
    )


async def reverse_payment(conn: Connection, payment_id: UUID, reason: str) -> None:
    """Take a payment back."""
    await execute(conn, QUERIES["reverse_payment"], payment_id=payment_id, reason=reason)


async def allocate(
    conn: Connection,
    invoice_id: UUID,
    payment_id: UUID | None,
    credit_note_id: UUID | None,
    amount: Decimal | None,
) -> Decimal:
    """Set a payment or a credit note off against an invoice; return how much."""
    allocated: Decimal = await fetch_value(
        conn,
        QUERIES["allocate"],
        invoice_id=invoice_id,
        payment_id=payment_id,
        credit_note_id=credit_note_id,
        amount=amount,
    )
    return allocated


async def list_allocations(conn: Connection, invoice_id: UUID) -> list[Allocation]:
    """Return what settled an invoice, oldest first, at most `MAX_ALLOCATIONS_LISTED`."""
    query = QUERIES["list_allocations_by_invoice"]
    return await fetch_all(
        conn, query, Allocation, invoice_id=invoice_id, limit=MAX_ALLOCATIONS_LISTED
    )


async def list_impression_months(
    conn: Connection, organization_id: UUID, *, by: MonthKind, before: datetime, limit: int
) -> list[ImpressionMonth]:
    """Return months that begin before a moment, latest first."""
    return await fetch_all(
        conn,
        QUERIES["list_impression_months_by_organization"],
        ImpressionMonth,
        organization_id=organization_id,
        by=by,
        before=before,
        limit=limit,
    )


async def simulate_plan(
    conn: Connection, overrides: dict[str, Any], **fields: Any
) -> list[SimulatedCustomer]:
    """Return what each customer paid and would have paid; fields are those of the query."""
    query = QUERIES["simulate_plan"]
    return await fetch_all(conn, query, SimulatedCustomer, overrides=Jsonb(overrides), **fields)


async def enter_rate(
    conn: Connection, kind: Literal["exchange_rate", "late_interest_rate"], **fields: Any
) -> EnteredRate:
    """Enter a rate of a day; fields are those of the query."""
    return await fetch_one(conn, QUERIES[f"insert_{kind}"], EnteredRate, **fields)


async def update_billing_profile(conn: Connection, **fields: Any) -> BillingProfile:
    """Change how an organization is invoiced; fields are those of the query."""
    return await fetch_one(conn, QUERIES["update_billing_profile"], BillingProfile, **fields)


async def set_seller_logo(conn: Connection, **fields: Any) -> str | None:
    """Give a seller a logo, or none; fields are those of the query. Return the digest."""
    digest: str | None = await fetch_value(conn, QUERIES["set_seller_logo"], **fields)
    return digest


async def find_seller_logo(conn: Connection, legal_entity_id: str) -> Logo | None:
    """Return the logo of a seller as it is now."""
    return await fetch_optional(
        conn, QUERIES["find_seller_logo"], Logo, legal_entity_id=legal_entity_id
    )
