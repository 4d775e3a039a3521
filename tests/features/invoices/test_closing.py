"""What an ended subscription still owes is billed: its last month, and once more what came late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.builders import a_subscription, a_user, an_organization
from tests.features.invoices.test_billing_run import owner_runs, queue, rows, today

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing
from aurora.features.organizations.model import Organization

__all__ = ["queue"]

BEGAN_DAYS_AGO = 105
USED = """
insert into usage_hourly (organization_id, dimension, hour, value, requests, impressions, billable,
  successful, failed, cached, response_time_ms_sum, response_time_count)
select organization_id, 'total', app.billing_moment(billing_anchor, {month}, time_zone) +
  interval '10 days', '', 1, 1, 1, 1, 0, 0, 0, 0 from subscriptions
on conflict (organization_id, dimension, hour, value) do update set billable = 2
"""


async def moment(pool: Pool, months: int) -> date:
    ((found,),) = await rows(
        pool,
        f"select (app.billing_moment(billing_anchor, {months}, time_zone) at time zone time_zone)"
        "::date from subscriptions",
    )
    assert isinstance(found, date)
    return found


async def a_customer(pool: Pool) -> Organization:
    """A customer whose first two fees are billed; each impression opens a thousand for 50."""
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization)
        await a_subscription(
            conn, organization, included_impressions=0, overage_rate=Decimal(50),
            at=today() - timedelta(days=BEGAN_DAYS_AGO),
        )  # fmt: skip
    await run_billing(pool, as_of=await moment(pool, 1))
    return organization


async def sold(pool: Pool, as_of: date) -> list[tuple[str, Any]]:
    """Kind and amount of every line that a run invoices."""
    done = await run_billing(pool, as_of=as_of)
    assert (done.failed, done.waiting) == ([], 0)
    ids = ", ".join(f"'{each.id}'" for each in done.issued) or "null"
    return await rows(
        pool,
        "select l ->> 'kind', (l ->> 'amount')::numeric from invoices i,"
        f" jsonb_array_elements(line_items) l where i.id in ({ids})"
        " order by billed_at, l ->> 'line'",
    )


async def state(pool: Pool) -> tuple[Any, ...]:
    (found,) = await rows(pool, "select status, closed_at is not null from subscriptions")
    return found


async def check_late_usage_after_the_end(
    pool: Pool, dsn: str, ended: Callable[[], Awaitable[Any]]
) -> None:
    await a_customer(pool)
    await owner_runs(dsn, "update subscriptions set cancel_at_period_end = true")
    end = await moment(pool, 2)
    assert await sold(pool, end) == []
    assert await state(pool) == ("cancelled", False)
    await ended()
    await owner_runs(dsn, USED.format(month=1))
    assert await sold(pool, end + timedelta(days=35)) == [], "more can come until the 35 days end"
    assert await sold(pool, today()) == [("charge", 50)]
    assert await state(pool) == ("cancelled", True)
    assert await sold(pool, today()) == []


async def nothing() -> None:
    pass


async def test_what_comes_after_the_last_bill_is_billed_once_nothing_more_can_come(
    queue: str, pool: Pool
) -> None:
    await check_late_usage_after_the_end(pool, queue, nothing)


async def test_a_subscription_that_is_closed_when_it_ends_is_caught(queue: str, pool: Pool) -> None:
    async def closed() -> None:
        await owner_runs(queue, "update subscriptions set closed_at = app.now()")

    with pytest.raises(AssertionError):
        await check_late_usage_after_the_end(pool, queue, closed)


async def test_who_is_ended_within_a_month_pays_its_usage_and_no_more_fee(
    queue: str, pool: Pool
) -> None:
    await a_customer(pool)
    ended = await moment(pool, 1) + timedelta(days=5)
    await owner_runs(
        queue, f"update subscriptions set status = 'cancelled', cancelled_at = '{ended}'"
    )
    await owner_runs(queue, USED.format(month=1))
    assert await sold(pool, await moment(pool, 2)) == [("overage", 50)]
    assert await state(pool) == ("cancelled", False)
    assert await sold(pool, today()) == []
    assert await state(pool) == ("cancelled", True)


async def test_who_begins_anew_pays_what_came_late_with_the_next_bill(
    queue: str, pool: Pool
) -> None:
    organization = await a_customer(pool)
    await owner_runs(queue, "update subscriptions set cancel_at_period_end = true")
    end = await moment(pool, 2)
    await sold(pool, end)
    await owner_runs(queue, USED.format(month=1))
    async with transaction(pool, PLATFORM) as conn:
        await a_subscription(conn, organization, at=end + timedelta(days=10))
    assert await sold(pool, end + timedelta(days=10)) == [("fee", 3500), ("charge", 50)]
    assert ("charge", 50) not in await sold(pool, today())


async def test_who_was_never_billed_or_is_erased_is_closed_at_once(queue: str, pool: Pool) -> None:
    organization = await a_customer(pool)
    async with transaction(pool, PLATFORM) as conn:
        await a_subscription(conn, await an_organization(conn), at=today() + timedelta(days=9))
    await owner_runs(queue, "update subscriptions set status = 'cancelled' where months_billed = 0")
    await owner_runs(queue, f"select app.erase_organization('{organization.id}')")
    states = await rows(pool, "select status, closed_at is not null from subscriptions")
    assert states == [("cancelled", True)] * 2
    assert await sold(pool, today()) == []
