"""What a change gives back becomes a credit note; what came late is billed at its own price."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
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

Connection = psycopg.AsyncConnection[Any]


async def bill(conn: Connection, customer: UUID) -> dict[str, Any] | None:
    """Bill the next moment and issue the invoice; None where nothing was owed."""
    [drafted] = await ask(
        conn,
        "select app.bill_subscription(id, (next_billing_at at time zone 'Europe/Oslo')::date) as id"
        " from subscriptions where organization_id = %s",
        customer,
    )
    if drafted["id"] is None:
        return None
    await ask(conn, "select app.issue_invoice(%s)", drafted["id"])
    [invoice] = await ask(conn, "select * from invoices where id = %s", drafted["id"])
    return invoice


async def notes(conn: Connection, customer: UUID) -> list[dict[str, Any]]:
    return await ask(
        conn,
        "select c.*, i.billed_at from credit_notes c join invoices i on i.id = c.invoice_id"
        " where c.organization_id = %s order by c.created_at, c.credit_note_number",
        customer,
    )


async def check_an_upgrade(conn: Connection) -> None:
    customer = await a_customer(conn)
    first = await bill(conn, customer)
    assert first is not None
    await ask(conn, "select app.change_plan(%s, 'premium')", customer)
    of_days = await month_days(conn, customer)
    unused = of_days - 20
    given_back = share(3500, unused, of_days)
    [note] = await notes(conn, customer)
    assert (note["invoice_id"], note["status"]) == (first["id"], "issued")
    assert note["subtotal"] == given_back
    [line] = note["line_items"]
    assert line["credits_line"] == 1
    assert line["period_start"] == str(today())
    await turn(conn, of_days)
    second = await bill(conn, customer)
    assert second is not None
    assert second["subtotal"] == 7000
    open_ones = await ask(
        conn,
        "select 1 from subscription_adjustments where billed_at is null and settled_at is null",
    )
    assert open_ones == []


async def test_an_upgrade_credits_the_invoice_of_the_unused_days_at_once(
    connection: Connection,
) -> None:
    await check_an_upgrade(connection)


async def test_an_upgrade_that_waits_for_the_next_bill_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "alter table subscription_adjustments disable trigger"
        " subscription_adjustments_settle_credit",
    )
    with pytest.raises((AssertionError, ValueError)):
        await check_an_upgrade(connection)


async def test_a_credit_after_payment_settles_the_invoice_of_the_same_change(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    first = await bill(connection, customer)
    assert first is not None
    await ask(
        connection,
        "select app.enter_payment(%s, %s, 'NOK', current_date - 1, 'bank 1')",
        customer,
        first["total"],
    )
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    [note] = await notes(connection, customer)
    [charged] = await ask(
        connection, "select * from invoices where id <> %s and status <> 'draft'", first["id"]
    )
    assert note["amount_open"] == 0
    assert charged["amount_due"] == charged["total"] - note["total"] > 0


async def test_what_was_never_invoiced_is_given_back_on_the_bill_that_asks_for_it(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    # A month that no bill was made of: fee, credit, and charge come with that bill.
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    await ask(connection, "select app.change_plan(%s, 'premium_plus')", customer)
    assert await notes(connection, customer) == []
    assert await ask(connection, "select 1 from invoices") == []
    unused = await month_days(connection, customer) - 20
    of_premium = share(7000, unused, unused + 20)
    assert sorted((await lines(connection, customer))[1:]) == [
        ("charge", of_premium),
        ("charge", share(14_000, unused, unused + 20)),
        ("credit", -of_premium),
        ("credit", -share(3500, unused, unused + 20)),
    ]


async def test_a_yearly_fee_is_given_back_from_its_own_invoice_in_a_month_not_billed_yet(
    connection: Connection,
) -> None:
    # The month that began ten days ago is not billed; the year was, four months before.
    began = today() - timedelta(days=130)
    customer = await a_customer(connection, at=began, billing_period="yearly")
    year = await bill(connection, customer)
    assert year is not None
    for _ in range(3):
        await bill(connection, customer)
    await ask(
        connection, "select app.change_plan(%s, 'basic', 'monthly', p_when => 'now')", customer
    )
    [note] = await notes(connection, customer)
    assert note["invoice_id"] == year["id"]
    assert share(35_000, 365 - 130, 366) <= note["subtotal"] <= share(35_000, 366 - 130, 365)
    billed = await bill(connection, customer)
    assert billed is None or billed["total"] > 0


async def test_a_bill_below_zero_credits_the_newest_invoice_that_is_left(
    connection: Connection,
) -> None:
    customer = await a_customer(connection, at=today() - timedelta(days=50))
    older = await bill(connection, customer)
    newer = await bill(connection, customer)
    assert older is not None
    assert newer is not None
    await ask(connection, "select app.credit_invoice(%s, 'All of it')", newer["id"])
    await ask(connection, "select app.pause_subscription(%s)", customer)
    assert len(await notes(connection, customer)) == 1
    await turn(connection, 31)
    assert await bill(connection, customer) is None
    _, over = await notes(connection, customer)
    [given_back] = await ask(
        connection, "select amount, settled_at, facts from subscription_adjustments"
    )
    assert over["invoice_id"] == older["id"]
    assert over["subtotal"] == given_back["amount"] > 0
    assert given_back["settled_at"] is not None
    # The next bill does not find it again.
    await turn(connection, 62)
    assert await bill(connection, customer) is None
    assert len(await notes(connection, customer)) == 2


async def test_more_than_was_ever_invoiced_is_not_given_back(connection: Connection) -> None:
    customer = await a_customer(connection)
    only = await bill(connection, customer)
    assert only is not None
    await ask(connection, "select app.credit_invoice(%s, 'All of it')", only["id"])
    await ask(connection, "select app.pause_subscription(%s)", customer)
    await turn(connection, 31)
    assert await bill(connection, customer) is None
    assert sum(note["total"] for note in await notes(connection, customer)) == only["total"]


async def test_a_preview_says_what_the_credit_note_and_the_next_invoice_will_say(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    preview = await preview_change(connection, customer, plan_id="premium")
    assert await notes(connection, customer) == []
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    [note] = await notes(connection, customer)
    assert (preview.credit, preview.credited_total) == (note["subtotal"], note["total"])
    await turn(connection, 31)
    invoice = await bill(connection, customer)
    assert invoice is not None
    assert (preview.subtotal, preview.total) == (invoice["subtotal"], invoice["total"])


class Usage:
    """A customer with one free impression a month at 50 kroner the thousand beyond it."""

    def __init__(self, conn: Connection, customer: UUID, key: UUID) -> None:
        self.conn, self.customer, self.key = conn, customer, key

    async def shown(self, name: str, days_ago: int) -> None:
        await ask(
            self.conn,
            "select track_usage(%s, %s, '/x', p_event_id => %s, p_widget_impression => true,"
            " p_status_code => 200, p_timestamp => %s)",
            self.customer, self.key, name, today() - timedelta(days=days_ago),
        )  # fmt: skip

    async def taken_back(self, name: str, days_ago: int) -> None:
        await ask(
            self.conn,
            "select app.reverse_usage(jsonb_build_array(jsonb_build_object('ordinal', 0,"
            " 'organization_id', %s::uuid, 'event_key', app.usage_event_key(null, %s), 'digest', 1,"
            " 'event_id', %s::text, 'reverses', app.usage_event_key(null, %s),"
            " 'timestamp', %s::timestamptz, 'metadata', '{}'::jsonb)))",
            self.customer, f"back-{name}", f"back-{name}", name, today() - timedelta(days=days_ago),
        )  # fmt: skip


async def a_user_of_impressions(conn: Connection, overage: str = "50") -> Usage:
    customer = await a_customer(
        conn, at=today() - timedelta(days=45), included_impressions=1,
        overage_rate=Decimal(overage), overage_model="per_begun_1000",
    )  # fmt: skip
    [key] = await ask(
        conn,
        "insert into api_keys (organization_id, key, name, environment)"
        " values (%s, generate_api_key(), 'A', 'production') returning id",
        customer,
    )
    return Usage(conn, customer, key["id"])


async def check_late_usage(conn: Connection) -> None:
    usage = await a_user_of_impressions(conn)
    await bill(conn, usage.customer)
    await usage.shown("one", 30)
    second = await bill(conn, usage.customer)
    assert second is not None
    assert second["subtotal"] == 3500
    # What comes after the bill costs what it cost then, though the price is another one now.
    dearer = json.dumps({"overage_rate": "900", "price_monthly": "3500"})
    await ask(
        conn, "select app.change_plan(%s, 'basic', null, %s::jsonb, 'now')", usage.customer, dearer
    )
    await usage.shown("two", 29)
    await turn(conn, 20)
    third = await bill(conn, usage.customer)
    assert third is not None
    late = [line for line in third["line_items"] if line["facts"].get("moment")]
    assert [(line["kind"], line["amount"]) for line in late] == [("charge", 50)]
    assert late[0]["facts"]["usage"]["billable"] == 2
    await turn(conn, 51)
    fourth = await bill(conn, usage.customer)
    assert fourth is not None
    assert fourth["subtotal"] == 3500, "it was billed a second time"


async def test_usage_that_came_late_is_billed_once_at_the_price_of_its_time(
    connection: Connection,
) -> None:
    await check_late_usage(connection)


async def test_late_usage_that_nobody_looks_for_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create or replace function app.adjust_late_usage(p_subscription public.subscriptions)"
        " returns integer language sql as 'select 0'",
    )
    with pytest.raises(AssertionError):
        await check_late_usage(connection)


async def test_usage_that_was_taken_back_credits_the_line_that_charged_it(
    connection: Connection,
) -> None:
    usage = await a_user_of_impressions(connection)
    await bill(connection, usage.customer)
    await usage.shown("one", 30)
    await usage.shown("two", 30)
    second = await bill(connection, usage.customer)
    assert second is not None
    assert second["subtotal"] == 3550
    await usage.taken_back("two", 28)
    await turn(connection, 20)
    third = await bill(connection, usage.customer)
    assert third is not None
    assert third["subtotal"] == 3500
    [note] = await notes(connection, usage.customer)
    assert (note["invoice_id"], note["subtotal"]) == (second["id"], 50)
    [line] = note["line_items"]
    assert second["line_items"][line["credits_line"] - 1]["kind"] == "overage"


async def test_late_usage_within_the_included_impressions_costs_nothing(
    connection: Connection,
) -> None:
    usage = await a_user_of_impressions(connection)
    for _ in range(2):
        await bill(connection, usage.customer)
    await usage.shown("one", 29)
    await turn(connection, 20)
    third = await bill(connection, usage.customer)
    assert third is not None
    assert third["subtotal"] == 3500
    assert await ask(connection, "select 1 from subscription_adjustments") == []
