"""What an upgrade asks for is an invoice at once: once, explained, computed anew, as previewed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.features.invoices.test_adjusting import bill, notes
from tests.features.subscriptions.test_changes import (
    a_customer,
    ask,
    lines,
    month_days,
    share,
    today,
    turn,
)

from aurora.features.invoices.change_preview import preview_change
from aurora.features.invoices.explaining import explain_line, replay_document

Connection = psycopg.AsyncConnection[Any]


async def charged(conn: Connection, customer: UUID) -> list[dict[str, Any]]:
    """The invoices that were made between bills, oldest first."""
    return await ask(
        conn,
        "select * from invoices where organization_id = %s"
        ' and line_items @> \'[{"kind": "charge"}]\' order by billed_at',
        customer,
    )


async def upgrade(conn: Connection, customer: UUID, plan: str = "premium") -> None:
    await ask(conn, "select app.change_plan(%s, %s)", customer, plan)


async def check_an_upgrade(conn: Connection) -> None:
    customer = await a_customer(conn)
    await bill(conn, customer)
    await upgrade(conn, customer)
    of_days = await month_days(conn, customer)
    [invoice] = await charged(conn, customer)
    assert (invoice["status"], invoice["invoice_date"]) == ("issued", today())
    assert invoice["invoice_number"].endswith("-000002")
    assert invoice["subtotal"] == share(7000, of_days - 20, of_days)
    [line] = invoice["line_items"]
    assert (line["period_start"], line["quantity"]) == (str(today()), of_days - 20)
    # The credit note of the same change went to the first invoice, which is open.
    assert await lines(conn, customer) == [("fee", Decimal(7000))]
    for month in (1, 2):
        await turn(conn, 31 * month)
        later = await bill(conn, customer)
        assert later is not None
        assert [each["kind"] for each in later["line_items"]] == ["fee"], "it was billed again"


async def test_an_upgrade_is_invoiced_at_once_and_never_again(connection: Connection) -> None:
    await check_an_upgrade(connection)


async def test_a_charge_that_waits_for_the_next_bill_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "alter table subscription_adjustments disable trigger"
        " subscription_adjustments_charge_at_once",
    )
    with pytest.raises((AssertionError, ValueError)):
        await check_an_upgrade(connection)


async def test_a_charge_that_the_next_bill_asks_for_again_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create function app.forgets() returns trigger language plpgsql as"
        " $$ begin update public.subscription_adjustments set billed_at = null"
        " where billed_at <> date_trunc('day', billed_at); return null; end $$",
    )
    await ask(
        connection,
        "create trigger a_mutant after insert on invoices for each row"
        " execute function app.forgets()",
    )
    with pytest.raises(AssertionError):
        await check_an_upgrade(connection)


async def test_the_preview_shows_both_documents_as_they_then_are(connection: Connection) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    preview = await preview_change(connection, customer, plan_id="premium")
    assert (await notes(connection, customer), await charged(connection, customer)) == ([], [])
    await upgrade(connection, customer)
    [note], [invoice] = await notes(connection, customer), await charged(connection, customer)
    assert (preview.credit, preview.credited_total) == (note["subtotal"], note["total"])
    assert (preview.charge, preview.charged_total) == (invoice["subtotal"], invoice["total"])
    for shown, made in (
        (preview.credited_lines, note["line_items"]),
        (preview.charged_lines, invoice["line_items"]),
    ):
        assert [(x.description, str(x.amount), str(x.period_start)) for x in shown] == [
            (x["description"], str(x["amount"]), x["period_start"]) for x in made
        ]
    # A preview rolled back took no number.
    assert invoice["invoice_number"].endswith("-000002")


async def test_two_upgrades_of_one_day_are_two_invoices_and_the_second_credits_the_first(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await upgrade(connection, customer)
    await upgrade(connection, customer, "premium_plus")
    first, second = await charged(connection, customer)
    assert first["billed_at"] < second["billed_at"]
    _, of_first = await notes(connection, customer)
    assert (of_first["invoice_id"], of_first["subtotal"]) == (first["id"], first["subtotal"])
    assert await lines(connection, customer) == [("fee", Decimal(14_000))]


async def test_it_is_explained_and_computed_anew_to_the_same_bytes(connection: Connection) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await upgrade(connection, customer)
    [invoice] = await charged(connection, customer)
    explained = await explain_line(connection, invoice["id"], 1)
    assert (explained.kind, explained.amount) == ("charge", invoice["subtotal"])
    assert explained.facts["list_price"] == "7000.00"
    for days in (0, 31):
        await turn(connection, days)
        if days:
            await bill(connection, customer)
        assert (await replay_document(connection, invoice["invoice_number"])).matches
    await ask(connection, "update subscription_adjustments set amount = amount + 1")
    assert not (await replay_document(connection, invoice["invoice_number"])).matches


async def test_what_no_lawful_invoice_can_be_made_of_waits_for_the_next_bill(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(connection, "update legal_entities set is_specimen = false")
    await ask(connection, "update organizations set address = null, org_number = null")
    await upgrade(connection, customer)
    assert await charged(connection, customer) == []
    assert [kind for kind, _ in await lines(connection, customer)] == ["fee", "charge"]
    assert len(await notes(connection, customer)) == 1


async def test_a_resumed_subscription_pays_for_the_rest_of_the_month_at_once(
    connection: Connection,
) -> None:
    customer = await a_customer(connection, at=today() - timedelta(days=5))
    await bill(connection, customer)
    await ask(connection, "select app.pause_subscription(%s)", customer)
    await turn(connection, 3)
    await ask(connection, "select app.resume_subscription(%s)", customer)
    of_days = await month_days(connection, customer)
    [invoice] = await charged(connection, customer)
    assert invoice["subtotal"] == share(3500, of_days - 8, of_days)
    assert invoice["invoice_date"] == today() + timedelta(days=3)
