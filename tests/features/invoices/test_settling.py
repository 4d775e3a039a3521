"""Payments settle invoices, each arrival once, and the status follows what was set off."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import an_organization
from tests.conftest import LOGIN_ROLE
from tests.features.invoices.selling import an_issued_invoice, row_of, value

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices.refusals import AllocationInvalid, PaymentInvalid, PaymentTaken


async def pay(
    conn: Connection, organization_id: UUID, amount: str, reference: str, day: str = "0"
) -> UUID:
    paid: UUID = await value(
        conn,
        "select app.enter_payment(%s, %s::numeric, 'NOK',"
        " (app.now() at time zone 'Europe/Oslo')::date + %s::integer, %s)",
        organization_id,
        amount,
        day,
        reference,
    )
    return paid


async def state(conn: Connection, invoice_id: UUID) -> tuple[Any, Any]:
    invoice = await row_of(conn, "invoices", invoice_id)
    return invoice["status"], invoice["amount_due"]


async def test_a_payment_pays_the_oldest_first_and_its_reversal_opens_them_again(
    pool: Pool,
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        first = await an_issued_invoice(conn, organization=buyer)
        second = await an_issued_invoice(conn, organization=buyer)
        payment = await pay(conn, buyer.id, "1500", "bank-1")
        assert [await state(conn, each) for each in (first, second)] == [
            ("paid", 0),
            ("issued", 1000),
        ]
        await pay(conn, buyer.id, "1000", "bank-2")
        assert await state(conn, second) == ("paid", 0)
        await value(conn, "select app.reverse_payment(%s, 'It bounced')", payment)
        assert [await state(conn, each) for each in (first, second)] == [
            ("issued", 1250),
            ("issued", 250),
        ]
        assert (await row_of(conn, "payments", payment))["amount_allocated"] == 0


async def test_what_is_paid_too_much_waits_for_the_next_invoice(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        await pay(conn, buyer.id, "300", "too-early")
        assert await state(conn, await an_issued_invoice(conn, organization=buyer)) == (
            "issued",
            950,
        )


@pytest.mark.parametrize(
    ("amount", "day", "refusal"),
    [("0", "0", PaymentInvalid), ("-1", "0", PaymentInvalid), ("0.001", "0", PaymentInvalid),
     ("1", "1", PaymentInvalid)],
)  # fmt: skip
async def test_an_impossible_payment_is_refused(
    amount: str, day: str, refusal: type[AuroraError], pool: Pool
) -> None:
    with pytest.raises(refusal):
        async with transaction(pool, PLATFORM) as conn:
            await pay(conn, (await an_organization(conn)).id, amount, "x", day)


async def test_the_same_arrival_counts_once(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        await pay(conn, buyer.id, "1", "bank-1")
    with pytest.raises(PaymentTaken):
        async with transaction(pool, PLATFORM) as conn:
            await pay(conn, buyer.id, "1", "bank-1")


async def test_one_customers_money_does_not_pay_anothers_invoice(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        payment = await pay(conn, (await an_organization(conn)).id, "10", "mine")
        invoice_id = await an_issued_invoice(conn)
    with pytest.raises(AllocationInvalid):
        async with transaction(pool, PLATFORM) as conn:
            await value(conn, "select app.allocate(%s, %s)", invoice_id, payment)


async def test_many_payments_at_once_settle_an_invoice_to_the_ore(database: str) -> None:
    pool = await open_pool(make_conninfo(database, user=LOGIN_ROLE), name="paying", max_size=9)
    async with transaction(pool, PLATFORM) as conn:
        buyer = await an_organization(conn)
        invoice_id = await an_issued_invoice(conn, organization=buyer)

    async def one(place: int) -> None:
        async with transaction(pool, PLATFORM) as conn:
            await pay(conn, buyer.id, "200", f"bank-{place}")

    await asyncio.gather(*(one(place) for place in range(8)))
    async with transaction(pool, PLATFORM) as conn:
        assert await state(conn, invoice_id) == ("paid", 0)
        open_amount = await value(conn, "select sum(amount_open) from payments")
    await pool.close()
    assert open_amount == Decimal(350)


async def test_an_invoice_is_overdue_the_day_after_it_was_due(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute("update legal_entities set payment_days = 0")
        invoice_id = await an_issued_invoice(conn)
        assert await value(conn, "select app.mark_overdue()") == 0
        older = await value(
            conn,
            "select app.draft_manual_invoice(organization_id,"
            ' \'[{"description": "A", "quantity": 1, "unit_price": 1}]\', \'NOK\','
            " invoice_date - 1) from invoices where id = %s",
            invoice_id,
        )
        await value(conn, "select app.issue_invoice(%s)", older)
        assert await value(conn, "select app.mark_overdue()") == 1
        assert [await state(conn, each) for each in (invoice_id, older)] == [
            ("issued", 1250),
            ("overdue", 1.25),
        ]
