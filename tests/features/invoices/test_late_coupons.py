"""Usage that comes after its bill costs what it would have cost on it: with the bill's coupons."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from tests.features.invoices.test_adjusting import a_user_of_impressions, bill, notes
from tests.features.subscriptions.test_changes import ask, turn

Connection = psycopg.AsyncConnection[Any]


async def third_bill(
    conn: Connection, coupon: str, *, on_time: int = 0, late: int = 0, back: int = 0
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Bill a month with a coupon and so many impressions, the next with what changed since.

    Each impression lies on a day of its own and the first of them is free; a thousand begins at the
    second. Return the late lines of the third bill, and the credit notes.
    """
    usage = await a_user_of_impressions(conn)
    await bill(conn, usage.customer)
    await ask(conn, f"insert into coupons (id, {coupon}")
    await ask(conn, "select app.redeem_coupon(%s, 'FIFTH')", usage.customer)
    for n in range(on_time):
        await usage.shown(f"early-{n}", 30)
    second = await bill(conn, usage.customer)
    for n in range(late):
        await usage.shown(f"late-{n}", 29)
    for n in range(back):
        await usage.taken_back(f"early-{n}", 28)
    await turn(conn, 20)
    third = await bill(conn, usage.customer)
    assert third is not None
    found = [line for line in third["line_items"] if line["facts"].get("moment")]
    return second, found + await notes(conn, usage.customer)


async def check_a_percent(conn: Connection) -> None:
    second, (line,) = await third_bill(conn, "percent) values ('FIFTH', 20)", late=2)
    assert second is not None
    assert second["subtotal"] == 2800
    assert (line["amount"], line["facts"]["listed"]) == (40, "50.00")
    assert line["description"].endswith("usage that came late, after coupons")


async def test_a_percent_takes_its_share_of_late_usage(connection: Connection) -> None:
    await check_a_percent(connection)


async def test_late_usage_at_the_full_price_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create or replace function app.after_coupons(p_subscription public.subscriptions,"
        " p_at timestamptz, p_base numeric) returns numeric language sql as 'select p_base'",
    )
    with pytest.raises(AssertionError):
        await check_a_percent(connection)


async def test_what_is_taken_back_gives_back_what_was_paid(connection: Connection) -> None:
    second, (note,) = await third_bill(
        connection, "percent) values ('FIFTH', 20)", on_time=2, back=1
    )
    assert second is not None
    assert second["subtotal"] == Decimal("2840.00")
    assert (note["invoice_id"], note["subtotal"]) == (second["id"], 40)


async def test_an_amount_a_bill_takes_the_rest_of_it(connection: Connection) -> None:
    # 3,520 off each bill: that of the month was too small for 20 of them.
    second, (line,) = await third_bill(
        connection, "amount, currency) values ('FIFTH', 3520, 'NOK')", late=2
    )
    assert second is None
    assert line["amount"] == 30


async def test_what_was_kept_for_the_next_bill_is_not_used_twice(connection: Connection) -> None:
    second, (line,) = await third_bill(
        connection, "amount, currency, periods) values ('FIFTH', 3520, 'NOK', 1)", late=2
    )
    assert second is None
    assert line["amount"] == 50
    [used] = await ask(connection, "select sum(amount) as amount from coupon_uses")
    assert used["amount"] == 3520
