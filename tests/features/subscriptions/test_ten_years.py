"""Over ten years no day lies in two periods and none in no period, whatever is changed when."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.features.subscriptions.test_changes import a_customer, ask, today, turn

Connection = psycopg.AsyncConnection[Any]
YEARS = 10
# Among them zones that leap at midnight, that are far from UTC, and that have odd offsets.
ZONES = (
    *("Europe/Oslo", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Apia"),
    *("Africa/Cairo", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "UTC"),
)
Period = tuple[datetime, datetime, int]


def months_after(anchor: date, months: int) -> date:
    """The anchor's day so many months later; the month's last day where it has no such day."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    last = (date(year + month // 11, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month + 1, min(anchor.day, last))


def check_periods(found: list[Period], anchor: date, months: int, zone: ZoneInfo) -> None:
    """Each begins where the one before ends, on the anchor's local day; days add up to all days."""
    for place, (start, end, days) in enumerate(found):
        first = start.astimezone(zone).date()
        assert first == months_after(anchor, place * months)
        after = end.astimezone(zone).date()
        assert (after - first).days == days > 0
        if place:
            assert start == found[place - 1][1], "a gap, or a day in two periods"
    covered = sum(days for _, _, days in found)
    assert covered == (months_after(anchor, len(found) * months) - anchor).days


@given(
    anchor=st.dates(date(2020, 1, 1), date(2032, 12, 31)),
    zone=st.sampled_from(ZONES),
    months=st.sampled_from((1, 12)),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_periods_of_ten_years_follow_each_other(
    database: str, anchor: date, zone: str, months: int
) -> None:
    with psycopg.connect(database) as owner:
        found = owner.execute(
            "select app.billing_moment(%(anchor)s, n * %(months)s, %(zone)s),"
            " app.billing_moment(%(anchor)s, (n + 1) * %(months)s, %(zone)s), app.local_days("
            " app.billing_moment(%(anchor)s, n * %(months)s, %(zone)s),"
            " app.billing_moment(%(anchor)s, (n + 1) * %(months)s, %(zone)s), %(zone)s)"
            " from generate_series(0, %(count)s) n order by n",
            {"anchor": anchor, "months": months, "zone": zone, "count": YEARS * 12 // months - 1},
        ).fetchall()
    check_periods([(a, b, c) for a, b, c in found], anchor, months, ZoneInfo(zone))


def test_counting_from_the_last_end_is_caught() -> None:
    zone = ZoneInfo("Europe/Oslo")
    drifting, at = [], date(2024, 1, 31)
    for _ in range(YEARS * 12):
        after = months_after(at, 1)
        start, end = (datetime(d.year, d.month, d.day, tzinfo=zone) for d in (at, after))
        drifting.append((start, end, (after - at).days))
        at = after
    with pytest.raises(AssertionError):
        check_periods(drifting, date(2024, 1, 31), 1, zone)


async def bill(conn: Connection, customer: UUID) -> None:
    [row] = await ask(
        conn,
        "select app.bill_subscription(id, (next_billing_at at time zone 'Europe/Oslo')::date) as id"
        " from subscriptions where organization_id = %s",
        customer,
    )
    if row["id"] is not None:
        await ask(conn, "select app.issue_invoice(%s)", row["id"])


async def something_changes(conn: Connection, customer: UUID, chance: random.Random) -> None:
    """Change, pause, or resume; what the state does not allow is refused and changes nothing."""
    statement = chance.choice(
        (
            "select app.change_plan(%s, 'premium')", "select app.change_plan(%s, 'basic')",
            "select app.change_plan(%s, 'basic', 'yearly', p_when => 'now')",
            "select app.change_plan(%s, 'premium_plus', 'monthly', p_when => 'now')",
            "select app.pause_subscription(%s)", "select app.resume_subscription(%s)",
            "select app.resume_subscription(%s)",
        )
    )  # fmt: skip
    try:
        async with conn.transaction():
            await ask(conn, statement, customer)
    except psycopg.Error as refused:
        expected = {"change_empty", "subscription_state", "change_out_of_range"}
        if refused.diag.message_primary not in expected:
            raise


async def sold_days(conn: Connection, customer: UUID) -> Counter[date]:
    """How often each day was sold, by all documents: what asks for it less what gives it back."""
    found = await ask(
        conn,
        "select l ->> 'kind' as kind, (l ->> 'period_start')::date as first,"
        " (l ->> 'period_end')::date as last, 1 as sign"
        " from invoices i, jsonb_array_elements(i.line_items) l where i.organization_id = %s"
        " union all select 'credit', (l ->> 'period_start')::date, (l ->> 'period_end')::date, 1"
        " from credit_notes c, jsonb_array_elements(c.line_items) l where c.organization_id = %s",
        customer,
        customer,
    )
    days: Counter[date] = Counter()
    for line in found:
        sign = {"fee": 1, "charge": 1, "credit": -1}[line["kind"]]
        for n in range((line["last"] - line["first"]).days + 1):
            days[line["first"] + timedelta(days=n)] += sign
    return days


async def ten_years(conn: Connection, seed: int) -> None:
    """Ten years of one customer with changes on random days; each day is sold once, or rests."""
    chance = random.Random(seed)
    began = today()
    customer = await a_customer(conn, at=began)
    for month in range(YEARS * 12):
        moment, following = (months_after(began, month + n) for n in (0, 1))
        await turn(conn, (moment - began).days)
        await bill(conn, customer)
        # After the bill of the month, so that what changes gives back of what was invoiced.
        for day in sorted(chance.sample(range((following - moment).days), 2)):
            if chance.random() < 0.25:
                await turn(conn, (moment - began).days + day)
                await something_changes(conn, customer, chance)
    await turn(conn, (months_after(began, YEARS * 12) - began).days)
    await bill(conn, customer)
    at_once = await ask(
        conn,
        "select 1 from invoices where organization_id = %s and status <> 'draft'"
        ' and jsonb_array_length(line_items) = 1 and line_items @> \'[{"kind": "charge"}]\'',
        customer,
    )
    assert at_once, "nothing was charged between two bills"
    paused = await ask(
        conn,
        "select (starts_at at time zone 'Europe/Oslo')::date as first, is_paused"
        " from subscription_terms where organization_id = %s order by starts_at, id",
        customer,
    )
    sold = await sold_days(conn, customer)
    for n in range((months_after(began, YEARS * 12) - began).days):
        on = began + timedelta(days=n)
        rests = [row["is_paused"] for row in paused if row["first"] <= on][-1]
        assert sold[on] == (0 if rests else 1), f"{on} was sold {sold[on]} times (seed {seed})"


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_day_of_ten_years_is_sold_once_whatever_changes(
    seed: int, connection: Connection
) -> None:
    await ten_years(connection, seed)


async def test_a_change_that_gives_nothing_back_is_caught(connection: Connection) -> None:
    await ask(
        connection,
        "create function app.no_credit() returns trigger language plpgsql"
        " as $$ begin return null; end $$",
    )
    await ask(
        connection,
        "create trigger a_mutant before insert on subscription_adjustments for each row"
        " when (new.kind = 'credit') execute function app.no_credit()",
    )
    with pytest.raises(AssertionError):
        await ten_years(connection, 1)


async def test_a_charge_made_at_once_and_asked_for_again_is_caught(connection: Connection) -> None:
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
        await ten_years(connection, 1)
