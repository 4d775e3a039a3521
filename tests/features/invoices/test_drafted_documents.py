"""What somebody wrote is a document like any other: e-invoice, page, explanation, replay, books."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.builders import an_organization
from tests.features.einvoices.corpus import a_seller, today
from tests.features.einvoices.oracle import Oracle, an_oracle
from tests.features.invoices.printed import pages_of
from tests.features.invoices.selling import value

from aurora.db.errors import translate
from aurora.db.transaction import Connection
from aurora.features.books.service import journal_csv, list_vouchers
from aurora.features.invoices.drafting import draft_invoice
from aurora.features.invoices.explaining import explain_line, replay_document
from aurora.features.invoices.model import EnteredLine, SalesDocument
from aurora.features.invoices.service import get_document, render_document, write_ehf


async def an_issued_one(conn: Connection, **buyer: Any) -> UUID:
    await a_seller(conn)
    organization = await an_organization(
        conn, **{"org_number": "923609016", "address": "Fjordveien 4", **buyer}
    )
    lines = [
        EnteredLine(description="Onboarding", quantity=Decimal(2), unit_price=Decimal("9500.00")),
        EnteredLine(
            description="Support", quantity=Decimal("1.5"), unit_price=Decimal("1333.333"),
            unit="hour", period_start=date(2026, 10, 1), period_end=date(2026, 10, 31),
        ),
        EnteredLine(description="Meals", unit_price=Decimal(400), tax_code="reduced_15"),
    ]  # fmt: skip
    draft = await draft_invoice(conn, organization.id, lines=lines, notes=["Thank you"])
    return (await issued(conn, draft.id)).id


async def issued(conn: Connection, draft_id: UUID) -> SalesDocument:
    await value(conn, "select app.issue_invoice(%s)", draft_id)
    return await get_document(conn, draft_id)


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with an_oracle() as judges:
        yield judges


async def test_what_was_written_is_e_invoiced_printed_explained_and_booked(
    oracle: Oracle, connection: Connection
) -> None:
    invoice_id = await an_issued_one(connection)
    document = await get_document(connection, invoice_id)
    assert (document.subtotal, document.tax_amount) == (Decimal("21400.00"), Decimal("5310.00"))
    assert oracle.findings(write_ehf(document)) == []
    page = await render_document(document)
    assert page == await render_document(document)
    text = "\n".join(pages_of(page))
    assert "timer" in text
    assert "Thank you" in text
    explained = await explain_line(connection, invoice_id, 2)
    assert explained.entered_by_hand
    assert (explained.usage, explained.credits) == (None, None)
    rows = csv.DictReader(
        io.StringIO(journal_csv(await list_vouchers(connection, today(), today())).decode())
    )
    owed = [row for row in rows if row["account"] == "1500"]
    assert [row["debit"] for row in owed] == ["26710.00"]
    assert owed[0]["voucher"] == document.number


async def test_what_was_written_is_replayed_from_what_was_entered(connection: Connection) -> None:
    invoice_id = await an_issued_one(connection)
    number = str((await get_document(connection, invoice_id)).number)
    assert (await replay_document(connection, number)).differences == []
    await connection.execute("set local session_replication_role = replica")
    # Line, VAT, and sums all changed so that they agree: only what was entered tells.
    await connection.execute(
        "update invoices set line_items = jsonb_set(jsonb_set(line_items, '{0,unit_price}',"
        " '9000.00'), '{0,amount}', '18000.00'), subtotal = subtotal - 1000,"
        " tax_amount = tax_amount - 250, total = total - 1250"
    )
    replay = await replay_document(connection, number)
    assert {(each.line, each.field) for each in replay.differences} >= {
        (1, "unit_price"), (1, "amount"), (0, "subtotal"), (0, "tax_amount"), (0, "total"),
    }  # fmt: skip


async def test_the_rates_are_those_of_the_day_of_issue(connection: Connection) -> None:
    await a_seller(connection)
    buyer = await an_organization(connection, org_number="923609016", address="Fjordveien 4")
    line = EnteredLine(description="Meals", unit_price=Decimal(400))
    draft = await draft_invoice(connection, buyer.id, lines=[line])
    await connection.execute(
        "insert into tax_rates (code, valid_from, category, rate, saft_code, source)"
        " values ('standard', (app.now() at time zone 'Europe/Oslo')::date, 'S', 30, '3', 'a test')"
    )
    await connection.execute("update legal_entities set name = 'Renamed AS'")
    # The mutant: gives the number to the draft as it was written down then.
    definition = await value(
        connection, "select pg_get_functiondef('app.issue_invoice(uuid)'::regprocedure)"
    )
    mutant = definition.replace("if v_invoice.terms ? 'entered' then", "if false then")
    assert mutant != definition
    async with connection.transaction(force_rollback=True):
        await connection.execute("reset role")
        await connection.execute(mutant.encode())
        stale = await issued(connection, draft.id)
        assert (stale.tax_amount, stale.seller["name"]) != (Decimal("120.00"), "Renamed AS")
    fresh = await issued(connection, draft.id)
    assert (fresh.tax_amount, fresh.seller["name"]) == (Decimal("120.00"), "Renamed AS")


async def test_a_wrong_organization_number_stops_it_before_the_number(
    connection: Connection,
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        await an_issued_one(connection, org_number="123456789", org_number_unverified=True)
    refusal = translate(refused.value)
    assert refusal is not None
    assert refusal.code == "einvoice_blocked"
