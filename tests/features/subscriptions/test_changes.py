"""Changes of a subscription: what they give back, what they ask for, and from when they hold."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.builders import an_organization

from aurora.core import clock
from aurora.features.invoices.change_preview import preview_change
from aurora.features.subscriptions.service import start_subscription

Connection = psycopg.AsyncConnection[Any]
OSLO = ZoneInfo("Europe/Oslo")


def today() -> date:
    return clock.now().astimezone(OSLO).date()


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=OSLO)


async def ask(conn: Connection, query: str, *parameters: Any) -> list[dict[str, Any]]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def a_customer(conn: Connection, **terms: Any) -> UUID:
    """A customer on basic who began 20 days ago and was billed for the month."""
    organization = await an_organization(conn)
    given: dict[str, Any] = {"plan_id": "basic", "at": today() - timedelta(days=20)}
    await start_subscription(conn, organization_id=organization.id, **(given | terms))
    return organization.id


async def bill(conn: Connection, organization_id: UUID) -> None:
    await ask(
        conn,
        "select app.bill_subscription(id, %s) from subscriptions where organization_id = %s",
        today(),
        organization_id,
    )


async def turn(conn: Connection, days: int) -> None:
    """Let days pass for the database."""
    await ask(conn, "delete from app.clock")
    await ask(conn, "insert into app.clock (shift) values (%s)", timedelta(days=days))


async def lines(conn: Connection, organization_id: UUID) -> list[tuple[str, Decimal]]:
    found = await ask(conn, "select kind, amount from calculate_monthly_bill(%s)", organization_id)
    return [(line["kind"], line["amount"]) for line in found]


async def month_days(conn: Connection, organization_id: UUID) -> int:
    [row] = await ask(
        conn,
        "select app.local_days(app.billing_moment(billing_anchor, 0, time_zone),"
        " app.billing_moment(billing_anchor, 1, time_zone), time_zone) as days"
        " from subscriptions where organization_id = %s",
        organization_id,
    )
    return int(row["days"])


def share(price: int, days: int, of_days: int) -> Decimal:
    """Half up, in whole øre and without a quotient: an arithmetic of the test's own."""
    ore = price * 100 * days
    return Decimal((2 * ore + of_days) // (2 * of_days)) / 100


async def test_an_upgrade_gives_the_unused_days_back_and_asks_for_the_new_ones(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    of_days = await month_days(connection, customer)
    rows = await ask(
        connection,
        "select kind, amount, quantity, unit_price, base_quantity, billed_at"
        " from subscription_adjustments where organization_id = %s order by kind desc",
        customer,
    )
    unused = of_days - 20
    assert [(r["kind"], r["amount"]) for r in rows] == [
        ("credit", share(3500, unused, of_days)),
        ("charge", share(7000, unused, of_days)),
    ]
    assert {(r["quantity"], r["base_quantity"]) for r in rows} == {(unused, of_days)}
    # The month's invoice is a draft: the next bill gives back, and the charge has its invoice.
    assert [r["billed_at"] is None for r in rows] == [True, False]
    assert (await lines(connection, customer))[1:] == [("credit", -share(3500, unused, of_days))]
    await turn(connection, of_days)
    await bill(connection, customer)
    assert [kind for kind, _ in await lines(connection, customer)] == ["fee"]


async def test_a_second_upgrade_on_the_same_day_gives_back_what_the_first_asked_for(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    await ask(connection, "select app.change_plan(%s, 'premium_plus')", customer)
    rows = await ask(
        connection,
        "select kind, amount from subscription_adjustments where organization_id = %s",
        customer,
    )
    unused = await month_days(connection, customer) - 20
    asked = sorted(r["amount"] for r in rows if r["kind"] == "charge")
    given = sorted(r["amount"] for r in rows if r["kind"] == "credit")
    assert given[1] == asked[0] == share(7000, unused, unused + 20)


async def test_a_change_before_the_bill_of_its_period_is_on_that_bill(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    of_days = await month_days(connection, customer)
    unused = of_days - 20
    found = await lines(connection, customer)
    assert found == [
        ("fee", Decimal(3500)),
        ("credit", -share(3500, unused, of_days)),
        ("charge", share(7000, unused, of_days)),
    ]
    await bill(connection, customer)
    again = await ask(
        connection,
        "select kind, amount from calculate_monthly_bill(%s, %s)",
        customer,
        midnight(today() - timedelta(days=20)),
    )
    assert [(line["kind"], line["amount"]) for line in again] == found


async def test_a_downgrade_waits_for_the_end_of_the_period_and_then_begins(
    connection: Connection,
) -> None:
    customer = await a_customer(connection, plan_id="premium")
    await bill(connection, customer)
    [changed] = await ask(connection, "select app.change_plan(%s, 'basic') as at", customer)
    [sub] = await ask(
        connection, "select * from subscriptions where organization_id = %s", customer
    )
    assert changed["at"] == sub["current_period_end"]
    assert sub["plan_id"] == "premium"
    assert await lines(connection, customer) == [("fee", Decimal(3500))]
    await turn(connection, 15)
    await bill(connection, customer)
    [sub] = await ask(
        connection, "select plan_id from subscriptions where organization_id = %s", customer
    )
    assert sub["plan_id"] == "basic"


async def test_what_is_scheduled_can_be_taken_back_once(connection: Connection) -> None:
    customer = await a_customer(connection, plan_id="premium")
    await bill(connection, customer)
    await ask(connection, "select app.change_plan(%s, 'basic')", customer)
    await ask(connection, "select app.withdraw_change(%s)", customer)
    assert await lines(connection, customer) == [("fee", Decimal(7000))]
    with pytest.raises(psycopg.Error, match="no_change_scheduled"):
        await ask(connection, "select app.withdraw_change(%s)", customer)


async def test_a_new_version_of_a_plan_reaches_who_moves_and_nobody_else(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(connection, "update plans set price_monthly = 3600 where id = 'basic'")
    assert await lines(connection, customer) == [("fee", Decimal(3500))]
    await ask(connection, "select app.change_plan(%s, 'basic', p_when => 'period_end')", customer)
    assert await lines(connection, customer) == [("fee", Decimal(3600))]
    with pytest.raises(psycopg.Error, match="plan_version_fixed"):
        await ask(connection, "update plan_versions set price_monthly = 1")


async def test_a_pause_gives_back_sells_nothing_and_keeps_the_anchor(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(connection, "select app.pause_subscription(%s)", customer)
    of_days = await month_days(connection, customer)
    # Nothing else is owed: the credit waits for a credit note or the next bill that is larger.
    assert await lines(connection, customer) == []
    await turn(connection, of_days - 20)
    await bill(connection, customer)
    await turn(connection, of_days - 20 + 10)
    await ask(connection, "select app.resume_subscription(%s)", customer)
    rows = await ask(
        connection,
        "select kind, amount, quantity, base_quantity from subscription_adjustments"
        " where organization_id = %s order by period_start",
        customer,
    )
    assert (rows[0]["kind"], rows[0]["amount"]) == (
        "credit",
        share(3500, of_days - 20, of_days),
    )
    assert (rows[1]["kind"], rows[1]["quantity"]) == ("charge", rows[1]["base_quantity"] - 10)


async def test_a_yearly_plan_within_the_year_keeps_the_anniversary(
    connection: Connection,
) -> None:
    customer = await a_customer(connection, at=today() - timedelta(days=10))
    await bill(connection, customer)
    await ask(
        connection, "select app.change_plan(%s, 'premium', 'yearly', p_when => 'now')", customer
    )
    [charge] = await ask(
        connection,
        "select quantity, base_quantity, amount from subscription_adjustments"
        " where organization_id = %s and kind = 'charge'",
        customer,
    )
    assert charge["base_quantity"] - charge["quantity"] == 10
    assert charge["amount"] == share(70_000, int(charge["quantity"]), int(charge["base_quantity"]))


async def test_a_fixed_coupon_keeps_what_a_bill_was_too_small_for(connection: Connection) -> None:
    await ask(connection, "insert into coupons (id, amount, currency, periods) values"
                          " ('TWELVE', 12, 'NOK', 1)")  # fmt: skip
    customer = await a_customer(
        connection, at=today() - timedelta(days=70), price_monthly=Decimal(7)
    )
    await ask(connection, "select app.redeem_coupon(%s, 'TWELVE')", customer)
    discounts = []
    for _ in range(3):
        found = dict(await lines(connection, customer))
        discounts.append(found.get("discount", Decimal(0)))
        await bill(connection, customer)
    assert discounts == [-7, -5, 0]


async def test_a_percent_coupon_works_so_many_bills_and_credits_give_back_what_was_paid(
    connection: Connection,
) -> None:
    await ask(connection, "insert into coupons (id, percent, periods) values ('FIFTH', 20, 1)")
    customer = await a_customer(connection)
    await ask(connection, "select app.redeem_coupon(%s, 'FIFTH')", customer)
    assert await lines(connection, customer) == [
        ("fee", Decimal(3500)),
        ("discount", Decimal(-700)),
    ]
    await bill(connection, customer)
    assert await lines(connection, customer) == [("fee", Decimal(3500))]
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    rows = await ask(
        connection,
        "select kind, unit_price from subscription_adjustments where organization_id = %s",
        customer,
    )
    assert {r["kind"]: r["unit_price"] for r in rows} == {"credit": 2800, "charge": 5600}


@pytest.mark.parametrize(
    ("coupon", "code"),
    [
        ("(id, amount, currency) values ('C', 10, 'EUR')", "coupon_currency"),
        ("(id, percent, redeem_until) values ('C', 10, '2020-01-01')", "coupon_exhausted"),
        (
            "(id, percent, max_redemptions, redemptions) values ('C', 10, 1, 1)",
            "coupon_exhausted",
        ),
        ("(id, percent, is_active) values ('C', 10, false)", "coupon_not_found"),
    ],
)
async def test_a_coupon_that_does_not_fit_is_refused(
    coupon: str, code: str, connection: Connection
) -> None:
    await ask(connection, f"insert into coupons {coupon}")
    customer = await a_customer(connection)
    with pytest.raises(psycopg.Error, match=code):
        await ask(connection, "select app.redeem_coupon(%s, 'C')", customer)


@pytest.mark.parametrize(
    ("agreed", "status", "organization"),
    [("convert", "active", "active"), ("suspend", "paused", "suspended")],
)
async def test_a_trial_becomes_what_was_agreed(
    agreed: str, status: str, organization: str, connection: Connection
) -> None:
    customer = await a_customer(connection, at=today(), trial_days=14, trial_end=agreed)
    await turn(connection, 13)
    [early] = await ask(connection, "select app.end_trials() as ended")
    await turn(connection, 15)
    [ended] = await ask(connection, "select app.end_trials() as ended")
    assert (early["ended"], ended["ended"]) == (0, 1)
    [row] = await ask(
        connection,
        "select s.status, o.status as organization, s.billing_anchor from subscriptions s"
        " join organizations o on o.id = s.organization_id where o.id = %s",
        customer,
    )
    assert (row["status"], row["organization"]) == (status, organization)
    assert row["billing_anchor"] == today() + timedelta(days=14)
    fee = [("fee", Decimal(3500))] if agreed == "convert" else []
    assert await lines(connection, customer) == fee


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("select app.change_plan(%s, 'basic')", "change_empty"),
        ("select app.change_plan(%s, 'nothing')", "plan_not_found"),
        ("select app.change_plan(%s, 'enterprise')", "price_by_agreement"),
        ("select app.change_plan(%s, 'premium', p_on => current_date + 3)", "change_in_future"),
        ("select app.change_plan(%s, 'premium', p_on => current_date - 90)", "change_out_of_range"),
        ("select app.resume_subscription(%s)", "subscription_state"),
        ("delete from plans where id = 'basic' and %s::uuid is not null", "plan_in_use"),
        (
            "update subscriptions set status = 'trialing' where organization_id = %s",
            "subscription_transition_invalid",
        ),
        (
            "update subscriptions set months_billed = 0 where organization_id = %s",
            "subscription_billed",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(
    statement: str, code: str, connection: Connection
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    with pytest.raises(psycopg.Error, match=code):
        await ask(connection, statement, customer)


async def test_the_parts_of_a_month_share_its_included_impressions(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    await ask(
        connection,
        "select app.change_plan(%s, 'basic', p_overrides => '{\"price_monthly\": 4000}')",
        customer,
    )  # fmt: skip
    parts = await ask(
        connection,
        "select p.* from subscriptions s, app.usage_parts(s.id, app.billing_moment(billing_anchor,"
        " 0, time_zone), app.billing_moment(billing_anchor, 1, time_zone)) p"
        " where s.organization_id = %s",
        customer,
    )
    assert len(parts) == 2
    assert sum(part["included"] for part in parts) == 50_000
    assert parts[0]["period_end"] == parts[1]["period_start"]


async def test_a_preview_is_what_then_happens_to_the_ore_and_changes_nothing(
    connection: Connection,
) -> None:
    customer = await a_customer(connection)
    await bill(connection, customer)
    before = await ask(connection, "select * from subscriptions, subscription_terms")
    preview = await preview_change(connection, customer, plan_id="premium")
    assert await ask(connection, "select * from subscriptions, subscription_terms") == before
    await ask(connection, "select app.change_plan(%s, 'premium')", customer)
    await bill(connection, customer)
    [invoice] = await ask(
        connection,
        "select subtotal, tax_amount, total from invoices where organization_id = %s"
        " order by billed_at desc limit 1",
        customer,
    )
    assert (preview.subtotal, preview.tax_amount, preview.total) == tuple(invoice.values())
    of_days = await month_days(connection, customer)
    assert preview.charge == share(7000, of_days - 20, of_days)
    assert preview.credit == share(3500, of_days - 20, of_days)
