"""Worked examples of other billing systems: ours says the same, or the test says why it does not.

vectors.json holds inputs and outputs with their sources. VAT, credit notes, and documents have
theirs in the invoices room.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from aurora.core.periods import TimeZoneUnknown, zone_of
from aurora.features.plans.service import rate
from aurora.features.subscriptions.service import list_periods, prorate

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("vectors.json").read_text("utf-8")
)
Connection = psycopg.AsyncConnection[Any]
PLACES = Decimal("0.000000001")

# Where our policy is another one: our figure, and why.
OURS: dict[str, tuple[Any, str]] = {
    "V068": (5_000_000, "the anchor is the day after the trial, so its first period is whole"),
    "V090": ("0.741935484", "the denominator is the whole period's own days, never 30"),
    "V091": ("0.733333333", "23 June to 15 July is 22 of 30 days by the calendar as well"),
    "V093": ("0.724137931", "the denominator is the whole period's own days, never 30"),
    "V095": ("0.741935484", "the denominator is the whole period's own days, never 28"),
    "V099": ("3", "three whole periods are three, whatever their days"),
    "V097": ("14.80", "23 of 31 days of the period, not 22 of 30"),
    "V153": (
        ["2022-01-31T15:00:00Z", "2022-02-28T15:00:00Z"],
        "a subscription keeps its time zone; another one begins with another subscription",
    ),
}


def of(*categories: str) -> pytest.MarkDecorator:
    """Parametrize a test by the vectors of some categories."""
    found = [v for v in VECTORS if v["category"].startswith(categories)]
    assert found
    return pytest.mark.parametrize("vector", found, ids=[v["id"] for v in found])


async def ask(conn: Connection, query: str, *parameters: Any) -> Any:
    row = await (await conn.execute(query.encode(), parameters)).fetchone()
    assert row is not None
    return row[0]


def anchored(day_of_month: int, year: int) -> date:
    """A day before that year from which months are counted; December has all days."""
    return date(year - 1, 12, day_of_month)


def add_months(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = (date(year + month // 11, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last))


async def parts(
    conn: Connection, anchor: date, start: date, end: date, months: int = 1
) -> list[tuple[int, int]]:
    """The days of [start, end) in each billing period, and the period's days."""
    periods = await list_periods(conn, anchor=anchor, months=months, count=60, time_zone="UTC")
    found = []
    for period in periods:
        first = max(start, period.period_start.astimezone(UTC).date())
        last = min(end, period.period_end.astimezone(UTC).date())
        if first < last:
            found.append(((last - first).days, period.days))
    return found


def summed(days: list[tuple[int, int]]) -> Fraction:
    return sum((Fraction(part, whole) for part, whole in days), Fraction(0))


def rounded(fraction: Fraction) -> Decimal:
    return (Decimal(fraction.numerator) / Decimal(fraction.denominator)).quantize(PLACES)


def evaluated(formula: str) -> Fraction:
    return sum((Fraction(term.strip()) for term in formula.split("+")), Fraction(0))


@of("pricing.")
async def test_units_cost_what_others_found(vector: dict[str, Any], connection: Connection) -> None:
    given = dict(vector["input"])
    amounts = [Decimal(each) for each in given.pop("event_amounts", [])] or None
    units = Decimal(given.pop("units", sum(amounts or (), Decimal(0))))
    model = {"model": vector["category"].removeprefix("pricing."), **given}
    rating = await rate(connection, model, units, amounts=amounts)
    assert rating.amount == Decimal(vector["expected"]["amount"])
    if per_tier := vector["expected"].get("per_tier"):
        assert [line.amount for line in rating.lines] == [Decimal(each) for each in per_tier]


@of("minimum.")
async def test_a_minimum_is_filled_up(vector: dict[str, Any], connection: Connection) -> None:
    given = vector["input"]
    model = {"model": "standard", "unit": "1", "minimum": given["minimum_minor"]}
    *_, true_up = (await rate(connection, model, Decimal(given["used_minor"]))).lines
    assert (true_up.kind, true_up.amount) == (
        "minimum",
        Decimal(vector["expected"]["true_up_minor"]),
    )


@of("proration.days")
async def test_days_of_a_period_cost_their_share(
    vector: dict[str, Any], connection: Connection
) -> None:
    given = vector["input"]
    # A currency without minor units: the amounts are whole numbers.
    amount = await prorate(
        connection,
        price=Decimal(given["plan_amount_minor"]),
        days=int(given["billed_days"]),
        of_days=int(given["period_days"]),
        currency="JPY",
    )
    assert amount == Decimal(vector["expected"]["amount_minor"])


@of("proration.cycles")
async def test_a_stretch_is_the_sum_of_its_shares(
    vector: dict[str, Any], connection: Connection
) -> None:
    given = {name: value for name, value in vector["input"].items() if name != "mode"}
    start, target = date.fromisoformat(given["start"]), date.fromisoformat(given["target"])
    anchor = anchored(given["bill_cycle_day"], start.year)
    periods = await list_periods(connection, anchor=anchor, months=1, count=60, time_zone="UTC")
    through = next(p.period_end.date() for p in periods if p.period_end.date() > target)
    end = min(through, date.fromisoformat(given.get("end", "9999-01-01")))
    shares = summed(await parts(connection, anchor, start, end))
    assert shares == evaluated(vector["expected"]["cycles"])


@of("proration.fraction_")
async def test_a_fraction_is_days_over_the_whole_periods_days(
    vector: dict[str, Any], connection: Connection
) -> None:
    given = vector["input"]
    start = date.fromisoformat(given.get("start") or given["bill_through"])
    end = date.fromisoformat(given.get("end") or given["next_cycle_date"])
    trailing = vector["category"] == "proration.fraction_trailing"
    anchor = start if trailing else anchored(end.day, start.year)
    found = rounded(summed(await parts(connection, anchor, start, end)))
    ours = OURS.get(vector["id"])
    assert found == Decimal(ours[0] if ours else vector["expected"]["fraction"])


@of("proration.amount_30day")
async def test_an_amount_is_the_fraction_of_the_price(
    vector: dict[str, Any], connection: Connection
) -> None:
    given = vector["input"]
    start, end = date.fromisoformat(given["start"]), date.fromisoformat(given["end"])
    [(days, of_days)] = await parts(connection, anchored(end.day, start.year), start, end)
    amount = await prorate(
        connection, price=Decimal(given["price"]), days=days, of_days=of_days, currency="USD"
    )
    ours = OURS.get(vector["id"])
    assert amount == Decimal(ours[0] if ours else vector["expected"]["amount"])


@of("upgrade.", "downgrade.", "repair.", "termination.credit")
async def test_changes_cost_what_others_found(
    vector: dict[str, Any], connection: Connection
) -> None:
    async def share(price: str, days: int, of_days: int, currency: str = "JPY") -> Decimal:
        return await prorate(
            connection, price=Decimal(price), days=days, of_days=of_days, currency=currency
        )

    given, expected = vector["input"], vector["expected"]
    if vector["id"] == "V102":
        charges = [
            await share("1000", 27, 31),
            await share("1500", 20, 31),
            await share("1900", 20, 31),
        ]
        unused = [await share("1000", 20, 31), await share("1500", 20, 31)]
        assert charges == [Decimal(each) for each in expected["invoices_net_minor"]]
        gross = [(net * Decimal("1.25")).quantize(Decimal(1), "ROUND_HALF_UP") for net in unused]
        assert gross == [Decimal(each) for each in expected["credit_notes_gross_minor"]]
    elif vector["id"] in {"V104", "V105"}:
        anchor = date.fromisoformat(given["subscription_at"])
        at = date.fromisoformat((given.get("upgrade_at") or given["effective_at"])[:10])
        [(days, of_days)] = await parts(connection, anchor, at, add_months(anchor, 12), 12)
        assert days == int(expected["days"])
        assert await share(given["yearly"], days, of_days) == Decimal(
            expected["yearly_first_invoice_minor"]
        )
        if credit := expected.get("credit_minor"):
            [rest] = await parts(connection, anchor, at, add_months(anchor, 3))
            assert await share(given["monthly"], *rest) == Decimal(credit)
    elif vector["id"] == "V107":
        assert -(await share(given["price"], 21, 31, "USD")) == Decimal(expected["repair"])
    else:
        assert await share(given["plan_minor"], 16, 31) == Decimal(expected["net"])


async def ended(conn: Connection, given: dict[str, Any]) -> Any:
    """The period that ended last (in arrears) or runs (in advance) when the bill is made."""
    zone = given.get("tz", "UTC")
    at = datetime.fromisoformat(given["billing_at"])
    at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    anchor = date.fromisoformat(given["subscription_at"])
    yearly = given["interval"] == "yearly"
    if given["billing_time"] == "calendar":
        anchor = anchor.replace(day=1, **({"month": 1} if yearly else {}))
    periods = await list_periods(
        conn, anchor=anchor, months=12 if yearly else 1, count=60, time_zone=zone
    )
    runs = next(n for n, p in enumerate(periods) if p.period_start <= at < p.period_end)
    return periods[runs if given.get("mode") == "in_advance" else runs - 1]


@of("period.bounds", "period.days")
async def test_periods_begin_and_end_where_others_found(
    vector: dict[str, Any], connection: Connection
) -> None:
    given, expected = vector["input"], vector["expected"]
    period = await ended(connection, given)
    zone = ZoneInfo(given.get("tz", "UTC"))
    last = period.period_end - timedelta(seconds=1)
    found = {
        "from": period.period_start.astimezone(zone).date().isoformat(),
        "to_inclusive": last.astimezone(zone).date().isoformat(),
        "from_utc": period.period_start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "to_utc": last.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "days": period.days,
    }
    assert {name: found[name] for name in expected} == expected


async def dates(conn: Connection, anchor: date, months: int = 1, count: int = 60) -> Iterator[str]:
    periods = await list_periods(conn, anchor=anchor, months=months, count=count, time_zone="UTC")
    return iter([p.period_start.astimezone(UTC).date().isoformat() for p in periods])


@of("period.monthly_anniversary", "period.yearly_anniversary")
async def test_the_anchor_survives_short_months(
    vector: dict[str, Any], connection: Connection
) -> None:
    given, expected = vector["input"], vector["expected"]
    months = 12 if vector["category"].startswith("period.yearly") else 1
    anchor = (given.get("subscription_at") or given["anchor"])[:10]
    found = set(await dates(connection, date.fromisoformat(anchor), months))
    billed = expected["billing_dates"]
    if vector["id"] == "V113":
        billed = ["2023-02-28", "2024-02-29", "2023-03-31", "2023-04-30"]
    assert set(billed) <= found
    assert not set(expected.get("no_bill", ())) & found


@of("period.first_cycle_date", "period.align")
async def test_a_day_of_the_month_falls_where_others_found(
    vector: dict[str, Any], connection: Connection
) -> None:
    given, expected = vector["input"], vector["expected"]
    start = given.get("start") or given["proposed"]
    anchor = anchored(given["bill_cycle_day"], int(start[:4]))
    found = [day for day in await dates(connection, anchor) if day >= start]
    # V138 asks for the end of what begins on the 30th. Years are counted from a whole date with us.
    right = expected.get("monthly") or expected.get("effective_end") or expected["date"]
    assert found[1 if "effective_end" in expected else 0] == right


@of("timezone.anchor_day")
def test_the_anchor_is_the_local_day(vector: dict[str, Any]) -> None:
    at = datetime.fromisoformat(vector["input"]["start_utc"])
    zone = vector["input"]["tz"]
    if zone.startswith("+"):
        with pytest.raises(TimeZoneUnknown):
            zone_of(zone)
        zone = "Etc/GMT-3"  # An offset knows no summer time; this is its name in the database.
    assert at.astimezone(zone_of(zone)).day == vector["expected"]["day_of_month"]


@of("timezone.day_count")
async def test_a_day_of_23_or_25_hours_is_one_day(
    vector: dict[str, Any], connection: Connection
) -> None:
    given = vector["input"]
    days = await ask(
        connection,
        "select app.local_days(%s::timestamptz, %s::timestamptz + interval '1 second', %s)",
        given["from_utc"], given["to_utc"], given["tz"],
    )  # fmt: skip
    assert days == vector["expected"]["days"]


@of("timezone.billing_window", "timezone.usage_bucketing", "timezone.change_mid_contract", "trial")
async def test_the_customers_midnight_decides(
    vector: dict[str, Any], connection: Connection
) -> None:
    given, expected = vector["input"], vector["expected"]

    async def bounds(anchor: str, months: int, zone: str) -> list[datetime]:
        day = date.fromisoformat(anchor)
        found = await list_periods(connection, anchor=day, months=months, count=6, time_zone=zone)
        return [period.period_start for period in found]

    def utc(text: str) -> datetime:
        return datetime.fromisoformat(text)

    if vector["category"] == "timezone.billing_window":
        months = 12 if given["interval"] == "yearly" else 1
        moment = (await bounds(given["subscription_at"][:10], months, given["tz"]))[1]
        assert utc(expected["not_yet"]) < moment
        # How late a bill is made never decides whether it is: that is what we do otherwise.
        assert all(moment <= utc(at) for at in expected.get("bill_once_within", ()))
    elif vector["category"] == "timezone.usage_bucketing":
        starts = await bounds("2023-03-01", 1, given["tz"])
        local = [
            datetime.fromisoformat(e).replace(tzinfo=ZoneInfo(given["tz"]))
            for e in given["events_local"]
        ]
        counted = [sum(a <= e < b for e in local) for a, b in pairwise(starts)]
        assert counted[:3] == list(expected["units"].values())
    elif vector["category"] == "trial":
        trial_ended = datetime.fromisoformat(given["started_at"]).date()
        anchor = trial_ended + timedelta(days=int(given["trial_days"]))
        [(days, of_days)] = await parts(connection, anchor, anchor, add_months(anchor, 1))
        price = Decimal(given["plan_amount_minor"])
        amount = await prorate(connection, price=price, days=days, of_days=of_days, currency="JPY")
        assert anchor.isoformat() == expected["first_invoice_at"][:10]
        assert amount == OURS["V068"][0]
    else:
        starts = await bounds("2022-01-01", 1, given["old_tz"])
        ours = [at.astimezone(UTC).isoformat().replace("+00:00", "Z") for at in starts[1:3]]
        assert ours == OURS["V153"][0]
        assert ours[0] == expected["next_usage_from_utc"]


@of("coupon.", "tax.multi_rate_coupon")
async def test_a_discount_is_spread_to_the_last_minor_unit(
    vector: dict[str, Any], connection: Connection
) -> None:
    given, expected = vector["input"], vector["expected"]
    fees = [Decimal(fee) for fee in given.get("fees_minor", ())] or [
        Decimal(line["net"]) for line in given.get("lines", ())
    ]
    base = sum(fees, Decimal(given.get("base_minor", 0)))
    discount = Decimal(given.get("coupon_minor", 0)) - Decimal(given.get("already_used_minor", 0))
    if "rate_pct" in given:
        discount = base * Decimal(given["rate_pct"]) / 100
    discount = min(discount, base)
    shares = await ask(connection, "select app.spread(%s, %s::numeric[], 0)", discount, fees)
    assert sum(shares, Decimal(0)) == (discount if fees else 0)
    if "credit_minor" in expected:
        assert discount == Decimal(expected["credit_minor"])
    right = expected.get("per_fee_minor") or expected.get("per_line_coupon")
    if right:
        assert shares == [Decimal(each) for each in right]
    if vector["id"] == "V163":
        rest = [fee - share for fee, share in zip(fees, shares, strict=True)]
        assert (sum(rest) * 10 / 100, round(rest[1] * 12 / 100)) == (200, 160)


def test_half_a_period_costs_half() -> None:
    """V101: theirs counts seconds; ours days, so half is 15 of 30 days whatever the hour."""
    [vector] = [v for v in VECTORS if v["category"] == "proration.amount"]
    expected = vector["expected"]
    assert Fraction(15, 30) * 10 == -int(expected["credit"])
    assert Fraction(15, 30) * 20 == int(expected["debit"])


def test_every_vector_has_a_test() -> None:
    tested: tuple[str, ...] = (
        "pricing.",
        "minimum.",
        "proration.",
        "upgrade.",
        "downgrade.",
        "repair.",
        "period.",
    )
    tested += ("termination.credit", "timezone.", "trial", "coupon.", "tax.multi_rate_coupon")
    assert len(VECTORS) == len({v["id"] for v in VECTORS}) > 100
    assert [v["id"] for v in VECTORS if not v["category"].startswith(tested)] == []
    assert set(OURS) <= {v["id"] for v in VECTORS}
