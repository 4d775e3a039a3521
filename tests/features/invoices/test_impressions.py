"""Months of impressions say what the bill says, and what came after it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.builders import a_key, a_subscription, a_user, an_event, an_organization, decoded, moment

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import impressions
from aurora.features.invoices.billing_run import run_billing
from aurora.features.invoices.model import ImpressionMonth, MonthKind
from aurora.features.organizations.model import Organization
from aurora.features.subscriptions.model import SubscriptionNotFound
from aurora.features.usage.jobs import fold
from aurora.features.usage.service import Sender, record_usage
from aurora.integrations import jobs

OSLO = ZoneInfo("Europe/Oslo")
INCLUDED = 2


@pytest.fixture
async def customer(database: str, pool: Pool) -> tuple[Organization, Sender]:
    """Two impressions a month are included, and each thousand begun beyond them costs 100."""
    await jobs.install(database)
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization)
        key = await a_key(conn, organization)
        await a_subscription(
            conn, organization, included_impressions=INCLUDED, overage_rate=Decimal(100)
        )
    return organization, Sender(organization.id, key.record.id, backfill=True)


async def came(pool: Pool, sender: Sender, count: int, at: datetime, **fields: Any) -> None:
    async with transaction(pool, PLATFORM) as conn:
        batch = decoded([an_event(timestamp=moment(at), **fields) for _ in range(count)])
        receipt = await record_usage(conn, batch, sender)
    assert receipt.accepted == count


async def months(
    pool: Pool, organization: Organization, by: MonthKind = "billing_period", limit: int = 12
) -> list[ImpressionMonth]:
    found: list[ImpressionMonth] = []
    cursor = None
    while True:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            page = await impressions.list_impression_months(
                conn, organization.id, by=by, cursor=cursor, limit=limit
            )
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("is_folded", [False, True])
async def test_billing_periods_say_what_is_included_and_what_the_rest_comes_to(
    is_folded: bool, pool: Pool, customer: tuple[Organization, Sender]
) -> None:
    organization, sender = customer
    now = clock.now()
    await came(pool, sender, 3, now - timedelta(days=20))
    await came(pool, sender, 1, now - timedelta(days=20), status_code=500)
    await came(pool, sender, 1, now - timedelta(minutes=5))
    if is_folded:
        await fold(pool)
    running, first = await months(pool, organization, limit=1)
    assert running.period_start == first.period_end <= now < running.period_end
    assert (first.impressions, first.billable, first.included, first.overage) == (4, 3, INCLUDED, 1)
    assert (first.usage_amount, first.billed_amount) == (Decimal("100.00"), None)
    assert (running.billable, running.overage, running.usage_amount) == (1, 0, Decimal(0))
    assert first.currency == "NOK"


async def test_what_comes_after_the_invoice_is_pending_and_no_more(
    pool: Pool, customer: tuple[Organization, Sender]
) -> None:
    organization, sender = customer
    then = clock.now() - timedelta(days=20)
    await came(pool, sender, 3, then)
    run = await run_billing(pool, as_of=clock.now().astimezone(OSLO).date())
    assert len(run.issued) == 2, "the fee of the first month, and the second with the usage"
    _, first = await months(pool, organization)
    assert (first.billed_amount, first.pending_amount) == (Decimal("100.00"), Decimal(0))
    # Within the thousand that was begun nothing more is owed; a thousand later it is.
    await came(pool, sender, 1, then)
    assert (await months(pool, organization))[1].pending_amount == Decimal(0)
    await came(pool, sender, 1000, then)
    _, first = await months(pool, organization)
    assert (first.usage_amount, first.pending_amount) == (Decimal("200.00"), Decimal("100.00"))


async def test_calendar_months_begin_at_the_seller_s_midnight(
    pool: Pool, customer: tuple[Organization, Sender]
) -> None:
    organization, sender = customer
    today = clock.now().astimezone(OSLO)
    first_of_month = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await came(pool, sender, 2, first_of_month - timedelta(minutes=30))
    await came(pool, sender, 1, first_of_month)
    running, before, *_ = await months(pool, organization, "calendar_month", limit=1)
    assert (running.period_start, running.billable) == (first_of_month, 1)
    assert (before.period_end, before.billable) == (first_of_month, 2)
    assert running.included == INCLUDED
    assert (running.usage_amount, running.billed_amount, running.pending_amount) == (None,) * 3


async def test_without_a_subscription_there_are_calendar_months_only(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
    (running,) = await months(pool, organization, "calendar_month")
    assert (running.billable, running.included, running.overage) == (0, None, None)
    with pytest.raises(SubscriptionNotFound):
        await months(pool, organization)


async def test_a_plan_without_an_end_has_no_overage(
    pool: Pool,
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        other = await an_organization(conn)
        key = await a_key(conn, other)
        await a_subscription(conn, other, plan_id="enterprise", price_monthly=Decimal(9000))
    await came(pool, Sender(other.id, key.record.id, backfill=True), 4, clock.now())
    running, *_ = await months(pool, other)
    assert (running.billable, running.included, running.overage) == (4, None, None)
    assert running.usage_amount == Decimal(0)
