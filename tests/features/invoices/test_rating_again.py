"""Bills are what an arithmetic of its own makes of the same facts, to the øre."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aurora.core import clock

ORE = Decimal("0.01")
HOURLY = (
    "insert into usage_hourly (organization_id, dimension, hour, value, requests, impressions,"
    " billable, successful, failed, cached, response_time_ms_sum, response_time_count)"
    " values (%s, 'total', %s, '', %s, %s, %s, %s, 0, 0, 0, 0)"
)


@dataclass(frozen=True)
class Sold:
    """What a customer bought and used: prices in kroner, percents of a coupon."""

    fee: Decimal
    included: int
    rate: Decimal
    begun: bool
    used: int
    percent: int


def money(amount: Decimal) -> Decimal:
    return amount.quantize(ORE, ROUND_HALF_UP)


def rated(sold: Sold, *, half_even: bool = False) -> Decimal:
    """What the bill is without VAT: the fee, overage rounded once, and a coupon rounded once."""
    thousands = Decimal(max(0, sold.used - sold.included)) / 1000
    if sold.begun:
        thousands = thousands.to_integral_value(ROUND_CEILING)
    overage = thousands * sold.rate
    overage = overage.quantize(ORE) if half_even else money(overage)
    gross = sold.fee + overage
    return gross - money(gross * sold.percent / 100)


def billed(owner: psycopg.Connection[Any], sold: Sold) -> Decimal:
    """What calculate_monthly_bill() says of it; nothing stays."""
    with owner.transaction(force_rollback=True):
        row = owner.execute(
            "insert into organizations (name, slug, email)"
            " values ('A', 'a-' || gen_random_uuid(), 'a@a.example') returning id"
        ).fetchone()
        assert row is not None
        began = clock.now().date() - timedelta(days=33)
        owner.execute(
            "insert into subscriptions (organization_id, plan_id, plan_name, price_monthly,"
            " included_impressions, overage_rate, overage_model, current_period_start,"
            " current_period_end, months_billed)"
            " select %s, 'basic', 'Basic', %s, %s, %s, %s, m, m + interval '1 month', 1"
            " from (select %s::date::timestamp at time zone 'Europe/Oslo' as m) a",
            (row[0], sold.fee, sold.included, sold.rate,
             "per_begun_1000" if sold.begun else "pro_rata", began),
        )  # fmt: skip
        owner.execute(HOURLY, (row[0], began + timedelta(days=3), *(sold.used,) * 4))
        if sold.percent:
            owner.execute("insert into coupons (id, percent) values ('A', %s)", (sold.percent,))
            owner.execute("select app.redeem_coupon(%s, 'A')", (row[0],))
        total = owner.execute(
            "select coalesce(sum(amount), 0) from calculate_monthly_bill(%s)", (row[0],)
        ).fetchone()
        assert total is not None
        found: Decimal = total[0]
    return found


SOLD = st.builds(
    Sold,
    fee=st.decimals(0, 100_000, places=2),
    included=st.integers(0, 200_000),
    rate=st.decimals(0, 1_000, places=4),
    begun=st.booleans(),
    used=st.integers(0, 2_000_000),
    percent=st.sampled_from((0, 0, 1, 15, 33, 100)),
)


@given(sold=SOLD)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_bill_is_what_another_arithmetic_says(database: str, sold: Sold) -> None:
    with psycopg.connect(database) as owner:
        assert billed(owner, sold) == rated(sold)


def test_rounding_to_the_even_ore_is_caught(database: str) -> None:
    # 1 impression at 45 the thousand is 0.045: half up is 0.05, to the even øre 0.04.
    half = Sold(Decimal(0), 0, Decimal(45), begun=False, used=1, percent=0)
    with psycopg.connect(database) as owner:
        assert billed(owner, half) == rated(half) == Decimal("0.05")
        with pytest.raises(AssertionError):
            assert billed(owner, half) == rated(half, half_even=True)
