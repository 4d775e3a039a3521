"""Each seller has books of its own: what was paid to one stays in them, whoever sells later."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.features.commands import Said
from tests.features.commands import aurora as aurora  # noqa: PLC0414 - a fixture
from tests.features.einvoices.corpus import a_seller, sold, today
from tests.features.invoices.selling import an_issued_invoice, credit, value

from aurora.features.books import store
from aurora.features.books.service import list_vouchers
from aurora.features.organizations.service import get_organization

Connection = psycopg.AsyncConnection[Any]
SECOND = "second"


async def a_second_seller(conn: Connection) -> None:
    await conn.execute(
        "insert into legal_entities (id, name, org_number, address, postal_code, city, email,"
        " invoice_prefix, credit_note_prefix) values ('second', 'Nordlys Data Sverige AS',"
        " '987654325', 'Storgata 2', '9008', 'Tromsø', 'b@example.com', 'SEC', 'SCN')"
    )


async def moves_to(conn: Connection, organization_id: UUID, seller: str) -> None:
    """From now on another seller invoices the customer."""
    await conn.execute(
        "insert into billing_profiles (organization_id, legal_entity_id) values (%s, %s)"
        " on conflict (organization_id) do update set legal_entity_id = excluded.legal_entity_id",
        (organization_id, seller),
    )


async def organization_of(conn: Connection, invoice_id: UUID) -> UUID:
    found: UUID = await value(
        conn, "select organization_id from invoices where id = %s", invoice_id
    )
    return found


async def paid(
    conn: Connection,
    organization_id: UUID,
    amount: str,
    reference: str,
    invoice: UUID | None = None,
) -> UUID:
    found: UUID = await value(
        conn,
        "select app.enter_payment(%s, %s, 'NOK', %s, %s, p_invoice_id => %s)",
        organization_id, amount, today(), reference, invoice,
    )  # fmt: skip
    return found


async def kinds_of(conn: Connection, seller: str) -> list[str]:
    day = timedelta(days=1)
    found = await list_vouchers(conn, today() - day, today() + day, legal_entity_id=seller)
    return sorted(each.kind for each in found)


async def a_customer_that_moved(conn: Connection) -> tuple[UUID, UUID]:
    """Invoiced and paid under one seller, one payment of it taken back, then sold by another."""
    await a_seller(conn)
    await a_second_seller(conn)
    first = await sold(conn)
    buyer = await organization_of(conn, first)
    await paid(conn, buyer, "1250.00", "bank 1")
    back = await paid(conn, buyer, "10.00", "bank 2")
    await moves_to(conn, buyer, SECOND)
    await value(conn, "select app.reverse_payment(%s, 'No')", back)
    return buyer, first


IN_THE_FIRST = ["invoice", "payment", "payment", "reversal"]


async def test_what_was_paid_to_one_seller_stays_in_its_books(connection: Connection) -> None:
    await a_customer_that_moved(connection)
    assert await kinds_of(connection, "default") == IN_THE_FIRST
    assert await kinds_of(connection, SECOND) == []


async def test_books_that_ask_who_sells_now_are_caught(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await a_customer_that_moved(connection)
    query = store.QUERIES["list_entries_by_day"]
    # The mutant: payments go where the customer is, as it is known today.
    now = (
        "(select coalesce(max(b.legal_entity_id), 'default') from billing_profiles b"
        " where b.organization_id = p.organization_id)"
    )
    mutant = query.text.replace("p.legal_entity_id", now)
    assert mutant != query.text
    queries = {**store.QUERIES, query.name: dataclasses.replace(query, text=mutant)}
    monkeypatch.setattr(store, "QUERIES", queries)
    assert await kinds_of(connection, "default") != IN_THE_FIRST


async def test_money_to_one_seller_settles_none_of_anothers_invoices(
    connection: Connection,
) -> None:
    buyer, _ = await a_customer_that_moved(connection)
    organization = await get_organization(connection, buyer)
    second = await an_issued_invoice(connection, organization=organization)
    left = "select amount_due::text from invoices where id = %s"
    # What was left over with the first seller waits for an invoice of the first.
    await moves_to(connection, buyer, "default")
    first = await an_issued_invoice(connection, organization=organization)
    await paid(connection, buyer, "5000.00", "bank 3", first)
    assert (await value(connection, left, first), await value(connection, left, second)) == (
        "0.00", "1250.00",
    )  # fmt: skip
    with pytest.raises(psycopg.Error, match="allocation_invalid"):
        async with connection.transaction():
            await value(
                connection,
                "select app.allocate(%s, (select id from payments where reference = 'bank 3'))",
                second,
            )
    # Named, it is paid to the one who sent it.
    await paid(connection, buyer, "1250.00", "bank 4", second)
    assert await kinds_of(connection, SECOND) == ["invoice", "payment"]
    # A credit note gives back what its own seller asked for.
    await credit(connection, second)
    await moves_to(connection, buyer, SECOND)
    third = await an_issued_invoice(connection, organization=organization)
    assert await value(connection, left, third) == "0.00"


def test_the_books_of_a_seller_are_asked_for_by_its_id(aurora: Callable[..., Said]) -> None:
    period = ("billing", "journal", "--from", "2026-01-01", "--to", "2026-01-31")
    code, table = aurora(*period, "--seller", "default")
    assert (code, table.startswith("date,voucher,")) == (0, True)
    code, said = aurora(*period, "--seller", "nobody")
    assert (code, "seller_missing" in said) == (1, True)
