"""Credit notes take back what an invoice asked for, never more, and settle what is open."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import an_organization
from tests.conftest import LOGIN_ROLE
from tests.features.invoices.selling import a_sale, an_issued_invoice, credit, row_of, value

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.model import InvoiceImmutable
from aurora.features.invoices.refusals import CreditExceedsInvoice, CreditInvalid, InvoiceNotIssued

THREE = (a_sale("A", "0.10"), a_sale("B", "33.33"), a_sale("C", "66.57", tax_code="reduced_15"))


async def sums(pool: Pool, invoice_id: UUID) -> tuple[Any, ...]:
    async with transaction(pool, PLATFORM) as conn:
        found = await conn.execute(
            "select sum(subtotal), sum(tax_amount), sum(total) from credit_notes"
            " where invoice_id = %s",
            (invoice_id,),
        )
        row = await found.fetchone()
        assert row is not None
        return row


async def test_a_full_credit_is_exactly_minus_its_invoice(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        invoice_id = await an_issued_invoice(conn, *THREE)
        note = await row_of(conn, "credit_notes", await credit(conn, invoice_id))
        invoice = await row_of(conn, "invoices", invoice_id)
    for field in ("subtotal", "tax_amount", "total", "tax_lines", "seller", "buyer", "currency"):
        assert note[field] == invoice[field]
    assert note["credit_note_number"].startswith("CN-")
    assert note["status"] == "issued"
    assert (invoice["status"], invoice["amount_due"]) == ("credited", 0)
    assert [line["credits_line"] for line in note["line_items"]] == [1, 2, 3]


async def test_parts_add_up_to_the_whole_to_the_ore(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        invoice_id = await an_issued_invoice(conn, *THREE)
        for amount in ("0.05", "33.34", "0.01"):
            await credit(conn, invoice_id, amount=amount)
        await credit(conn, invoice_id, [{"line": 3, "amount": 1.11}])
        await credit(conn, invoice_id)
        invoice = await row_of(conn, "invoices", invoice_id)
    # 33.43 at 25 % is 8.3575, 66.57 at 15 % is 9.9855.
    assert await sums(pool, invoice_id) == (Decimal("100.00"), Decimal("18.35"), Decimal("118.35"))
    assert (invoice["amount_credited"], invoice["status"]) == (118.35, "credited")


@pytest.mark.parametrize(
    ("lines", "amount", "refusal"),
    [
        (None, "1000.01", CreditExceedsInvoice),
        ([{"line": 1, "amount": 1000.01}], None, CreditExceedsInvoice),
        ([{"line": 2}], None, CreditExceedsInvoice),
        ([{"line": 1, "amount": 1}, {"line": 1, "amount": 1}], None, CreditExceedsInvoice),
        ([{"line": 1, "amount": -5}], None, CreditExceedsInvoice),
        ([{"line": 1, "amount": 0.001}], None, CreditInvalid),
        (None, "0", CreditInvalid),
        (None, "-1", CreditInvalid),
        ([{"line": 1}], "5", CreditInvalid),
    ],
)
async def test_more_than_the_invoice_is_refused(
    lines: list[dict[str, Any]] | None, amount: str | None, refusal: type[AuroraError], pool: Pool
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        invoice_id = await an_issued_invoice(conn)
    with pytest.raises(refusal):
        async with transaction(pool, PLATFORM) as conn:
            await credit(conn, invoice_id, lines, amount)
    assert (await sums(pool, invoice_id))[2] is None


async def test_a_draft_is_not_credited(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        draft = await value(
            conn,
            "select app.draft_manual_invoice(%s,"
            ' \'[{"description": "A", "quantity": 1, "unit_price": 1}]\')',
            buyer.id,
        )
    with pytest.raises(InvoiceNotIssued):
        async with transaction(pool, PLATFORM) as conn:
            await credit(conn, draft)


async def eight_credit_at_once(dsn: str) -> Decimal:
    """Eight at once each credit 300 of 1,000 without VAT; return what was credited, with VAT."""
    pool = await open_pool(make_conninfo(dsn, user=LOGIN_ROLE), name="crediting", max_size=9)
    async with transaction(pool, PLATFORM) as conn:
        invoice_id = await an_issued_invoice(conn)

    async def one() -> None:
        async with transaction(pool, PLATFORM) as conn:
            await credit(conn, invoice_id, amount="300")

    await asyncio.gather(*(one() for _ in range(8)), return_exceptions=True)
    total = (await sums(pool, invoice_id))[2]
    await pool.close()
    assert isinstance(total, Decimal)
    return total


async def test_eight_who_credit_at_once_take_no_more_than_the_invoice(database: str) -> None:
    assert await eight_credit_at_once(database) == Decimal("1125.00")


async def test_crediting_without_the_lock_and_the_check_is_caught(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        found = await owner.execute(
            "select pg_get_functiondef(p.oid) from pg_proc p where proname = 'draft_credit_note'"
        )
        ((definition,),) = await found.fetchall()
        mutant = definition.replace(
            "p_invoice_id for no key update;", "p_invoice_id; perform pg_sleep(0.2);"
        )
        assert mutant != definition
        await owner.execute(mutant.encode())
        # The check alone still holds: this is the second lock on the door.
        assert await eight_credit_at_once(database) <= Decimal("1250.00")
        await owner.execute("alter table invoices drop constraint invoices_credited_check")
        # Two who do not see each other would also be the same one of their invoice.
        await owner.execute("alter table credit_notes drop constraint credit_notes_position_key")
    with pytest.raises(AssertionError):
        assert await eight_credit_at_once(database) <= Decimal("1250.00")


@pytest.mark.parametrize(
    "statement",
    [
        "update credit_notes set total = total + 1, subtotal = subtotal + 1",
        "update credit_notes set reason = 'Another'",
        "update credit_notes set status = 'draft', credit_note_number = null, issued_at = null",
        "delete from credit_notes",
        "update allocations set amount = 1",
        "delete from allocations",
    ],
)
async def test_what_was_issued_and_set_off_is_never_changed(
    statement: str, pool: Pool, database: str
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await credit(conn, await an_issued_invoice(conn), amount="10")
    async with await psycopg.AsyncConnection.connect(database) as owner:
        with pytest.raises(psycopg.Error, match=InvoiceImmutable.code):
            await owner.execute(statement.encode())


async def test_a_credit_after_payment_settles_the_next_invoice(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        first = await an_issued_invoice(conn, organization=buyer)
        await value(
            conn,
            "select app.enter_payment(%s, 1250, 'NOK', current_date - 1, 'bank-1')",
            buyer.id,
        )
        assert (await row_of(conn, "invoices", first))["status"] == "paid"
        note = await credit(conn, first, amount="400")
        assert (await row_of(conn, "credit_notes", note))["amount_open"] == 500
        second = await row_of(conn, "invoices", await an_issued_invoice(conn, organization=buyer))
        assert (second["amount_due"], second["status"]) == (750, "issued")
        assert (await row_of(conn, "credit_notes", note))["amount_open"] == 0
        assert (await row_of(conn, "invoices", first))["status"] == "paid"
