"""Invoices that are issued in the database, for the tests that credit, settle, and print them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from tests.builders import an_organization

from aurora.db.transaction import Connection
from aurora.features.organizations.model import Organization


async def value(conn: Connection, query: str, *parameters: object) -> Any:
    """Return the only column of the only row."""
    row = await (await conn.execute(query.encode(), parameters or None)).fetchone()
    assert row is not None
    return row[0]


async def row_of(conn: Connection, table: str, document_id: UUID) -> dict[str, Any]:
    """Return a row as JSON has it, with figures as they are stored."""
    found: dict[str, Any] = json.loads(
        await value(conn, f"select to_jsonb(t)::text from {table} t where id = %s", document_id)
    )
    return found


def a_sale(description: str = "Onboarding", price: str = "1000.00", **more: Any) -> dict[str, Any]:
    """One line as somebody writes it."""
    return {"description": description, "quantity": 1, "unit_price": price, **more}


async def an_issued_invoice(
    conn: Connection,
    *lines: dict[str, Any],
    organization: Organization | None = None,
    currency: str = "NOK",
) -> UUID:
    """Issue an invoice of these lines; of one for 1,000 without VAT when none is named."""
    buyer = organization or await an_organization(conn)
    drafted: UUID = await value(
        conn,
        "select app.draft_manual_invoice(%s, %s::jsonb, %s)",
        buyer.id,
        json.dumps(lines or [a_sale()]),
        currency,
    )
    await value(conn, "select app.issue_invoice(%s)", drafted)
    return drafted


async def credit(
    conn: Connection,
    invoice_id: UUID,
    lines: list[dict[str, Any]] | None = None,
    amount: str | None = None,
) -> UUID:
    """Credit an invoice: all that is left, lines of it, or an amount without VAT."""
    note: UUID = await value(
        conn,
        "select app.credit_invoice(%s, 'A mistake', %s::jsonb, p_amount => %s::numeric)",
        invoice_id,
        None if lines is None else json.dumps(lines),
        amount,
    )
    return note
