"""A subscription that ended and begins anew owes its last month still, and its documents stay."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.features.invoices.test_adjusting import Usage, a_user_of_impressions, bill
from tests.features.subscriptions.test_changes import ask, lines, today, turn

from aurora.features.invoices.explaining import replay_document
from aurora.features.subscriptions.service import start_subscription

Connection = psycopg.AsyncConnection[Any]
OVERAGE = ("overage", Decimal(50))
FEE = ("fee", Decimal(3500))


async def moments(conn: Connection, customer: UUID) -> list[date]:
    """The local days of the first four billing moments."""
    found = await ask(
        conn,
        "select (app.billing_moment(billing_anchor, n, time_zone)"
        " at time zone time_zone)::date as d"
        " from subscriptions, generate_series(0, 3) n where organization_id = %s order by n",
        customer,
    )
    return [row["d"] for row in found]


async def anew(conn: Connection, customer: UUID, at: date) -> None:
    await start_subscription(
        conn, organization_id=customer, plan_id="basic", at=at, included_impressions=1,
        overage_rate=Decimal(50), overage_model="per_begun_1000",
    )  # fmt: skip


async def a_user_in_the_second_month(conn: Connection) -> Usage:
    """Began 45 days ago, billed twice: the second month runs, and two impressions were shown."""
    usage = await a_user_of_impressions(conn)
    for _ in range(2):
        await bill(conn, usage.customer)
    for name in ("one", "two"):
        await usage.shown(name, 3)
    return usage


async def check_a_month_without_a_bill(conn: Connection) -> None:
    usage = await a_user_in_the_second_month(conn)
    await ask(conn, "update subscriptions set status = 'cancelled'")
    await anew(conn, usage.customer, today() + timedelta(days=2))
    assert await lines(conn, usage.customer) == [OVERAGE, FEE]
    await turn(conn, 2)
    invoice = await bill(conn, usage.customer)
    assert invoice is not None
    assert invoice["line_items"][0]["facts"]["usage"]["billable"] == 2
    # What comes late of that month is asked for once, and the bill stays what it was.
    await usage.shown("late", 2)
    assert not (await replay_document(conn, invoice["invoice_number"])).matches
    await turn(conn, 33)
    following = await bill(conn, usage.customer)
    assert following is not None
    assert [line["kind"] for line in following["line_items"]] == ["fee"]
    assert (await replay_document(conn, following["invoice_number"])).matches


async def test_a_month_that_ended_without_a_bill_is_on_the_first_bill_of_what_begins_anew(
    connection: Connection,
) -> None:
    await check_a_month_without_a_bill(connection)


async def test_a_month_that_nobody_bills_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create or replace function app.unbilled_month(p_subscription_id uuid, p_at timestamptz)"
        " returns table (period_start timestamptz, period_end timestamptz)"
        " language sql as 'select null::timestamptz, null::timestamptz where false'",
    )
    with pytest.raises(AssertionError):
        await check_a_month_without_a_bill(connection)


async def test_a_month_is_billed_to_its_end_where_the_new_one_begins_later(
    connection: Connection,
) -> None:
    usage = await a_user_in_the_second_month(connection)
    await ask(connection, "update subscriptions set status = 'cancelled'")
    third = (await moments(connection, usage.customer))[2]
    await anew(connection, usage.customer, third + timedelta(days=9))
    await turn(connection, (third - today()).days + 9)
    # What somebody shows between the two is sold to nobody.
    [unbilled] = await ask(
        connection,
        "select (m.period_end at time zone 'Europe/Oslo')::date as ended"
        " from subscriptions s, app.unbilled_month(s.id, s.next_billing_at) m",
    )
    assert unbilled["ended"] == third
    assert await lines(connection, usage.customer) == [OVERAGE, FEE]


async def check_the_last_bill(conn: Connection) -> None:
    usage = await a_user_in_the_second_month(conn)
    await ask(conn, "update subscriptions set cancel_at_period_end = true")
    third = (await moments(conn, usage.customer))[2]
    await turn(conn, (third - today()).days)
    last = await bill(conn, usage.customer)
    assert last is not None
    assert [line["kind"] for line in last["line_items"]] == ["overage"]
    assert (await replay_document(conn, last["invoice_number"])).matches
    await anew(conn, usage.customer, third + timedelta(days=3))
    replayed = await replay_document(conn, last["invoice_number"])
    assert replayed.matches, replayed.differences
    # And nothing of the old months is on the first bill of the new ones.
    assert await lines(conn, usage.customer) == [FEE]


async def test_the_last_bill_is_computed_anew_to_the_same_bytes_after_a_new_beginning(
    connection: Connection,
) -> None:
    await check_the_last_bill(connection)


async def test_an_end_that_is_forgotten_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create or replace function app.insert_end(p_old public.subscriptions,"
        " p_begins timestamptz) returns void language sql as ''",
    )
    with pytest.raises(AssertionError):
        await check_the_last_bill(connection)


async def test_what_was_only_tried_owes_nothing_when_it_begins(connection: Connection) -> None:
    usage = await a_user_of_impressions(connection)
    await ask(connection, "update subscriptions set status = 'cancelled'")
    await usage.shown("one", 3)
    await usage.shown("two", 3)
    await anew(connection, usage.customer, today() + timedelta(days=1))
    assert await lines(connection, usage.customer) == [FEE]
