"""The only Python that runs the invoices room's SQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from uuid import UUID

from aurora.db.queries import fetch_all, fetch_one, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.invoices.model import (
    BillLine,
    DayFigure,
    DocumentRow,
    ImpressionMonth,
    Invoice,
    InvoiceRow,
    LegalEntity,
    MonthKind,
    Replayed,
    SalesDocument,
)

QUERIES = load_queries(__package__)


async def claim_due(
    conn: Connection, *, as_of: date, organization_id: UUID | None, except_ids: Collection[UUID]
) -> UUID | None:
    """Lock one subscription that is due and that no other runner holds; return its id."""
    claimed: UUID | None = await fetch_value(
        conn,
        QUERIES["find_subscription_due"],
        as_of=as_of,
        organization_id=organization_id,
        except_ids=list(except_ids),
    )
    return claimed


async def draft_invoice(conn: Connection, subscription_id: UUID, *, as_of: date) -> UUID | None:
    """Draft the next billing moment's invoice and move on; None: nothing was owed."""
    drafted: UUID | None = await fetch_value(
        conn, QUERIES["insert_invoice_draft"], subscription_id=subscription_id, as_of=as_of
    )
    return drafted


async def issue_invoice(conn: Connection, invoice_id: UUID) -> str:
    """Number a draft; the last statement of its transaction. Return the number."""
    number: str = await fetch_value(conn, QUERIES["update_invoice_issued"], invoice_id=invoice_id)
    return number


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


async def notify_of_invoice(conn: Connection, invoice_id: UUID) -> int | None:
    """Tell the organization's admins, once; return how many were told, None without an invoice."""
    told: int | None = await fetch_value(
        conn, QUERIES["insert_notification_of_invoice"], invoice_id=invoice_id
    )
    return told


async def find_legal_entity(conn: Connection, legal_entity_id: str) -> LegalEntity | None:
    """Return a seller."""
    return await fetch_optional(
        conn, QUERIES["find_legal_entity"], LegalEntity, legal_entity_id=legal_entity_id
    )


async def update_legal_entity(conn: Connection, **fields: object) -> LegalEntity:
    """Enter the real seller; fields are those of the query."""
    return await fetch_one(conn, QUERIES["update_legal_entity"], LegalEntity, **fields)


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
