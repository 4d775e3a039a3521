"""A billing run bills each moment once and numbers without gaps, whatever happens around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import a_subscription, a_user, an_organization
from tests.conftest import LOGIN_ROLE

from aurora.core import clock
from aurora.core.errors import Unavailable
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing
from aurora.features.invoices.jobs import deliver
from aurora.features.invoices.model import AsOfInFuture, BillingRun, InvoiceImmutable
from aurora.features.subscriptions.model import Subscription
from aurora.integrations import jobs

OSLO = ZoneInfo("Europe/Oslo")
CUSTOMERS = 10

Run = Callable[[Pool, date], Awaitable[BillingRun]]


def today() -> date:
    return clock.now().astimezone(OSLO).date()


async def a_customer(pool: Pool, **terms: Any) -> Subscription:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization)
        return await a_subscription(conn, organization, **terms)


@pytest.fixture
async def queue(database: str) -> str:
    """The database with the job queue in it, in which deliveries are enqueued."""
    await jobs.install(database)
    return database


@pytest.fixture
async def customers(queue: str, pool: Pool) -> list[Subscription]:
    return [await a_customer(pool) for _ in range(CUSTOMERS)]


async def rows(pool: Pool, query: str) -> list[tuple[Any, ...]]:
    async with transaction(pool, PLATFORM) as conn:
        return await (await conn.execute(query.encode())).fetchall()


async def owner_runs(dsn: str, statement: str) -> Any:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
        cursor = await owner.execute(statement.encode())
        return await cursor.fetchone() if cursor.description else None


def moments(anchor: date, until: date) -> list[datetime]:
    """Oslo's midnights of the anchor's day in each month, the last day where it is missing."""
    found: list[datetime] = []
    months = 0
    while True:
        year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
        first_of_next = date(year + month // 11, (month + 1) % 12 + 1, 1)
        day = min(anchor.day, (first_of_next - timedelta(days=1)).day)
        if date(year, month + 1, day) > until:
            return found
        found.append(datetime.combine(date(year, month + 1, day), time(), OSLO).astimezone(UTC))
        months += 1


async def check_the_books(pool: Pool, customers: list[Subscription]) -> None:
    """Each customer billed at each of its moments once; numbers 1 to n; one delivery each."""
    billed: dict[UUID, list[datetime]] = {}
    for subscription_id, at in await rows(
        pool, "select subscription_id, billed_at from invoices order by billed_at"
    ):
        billed.setdefault(subscription_id, []).append(at)
    for customer in customers:
        anchor = customer.current_period_start.astimezone(OSLO).date()
        assert billed[customer.id] == moments(anchor, today())
    numbers = [row[0] for row in await rows(pool, "select invoice_number from invoices order by 1")]
    assert numbers == [f"INV-{today().year}-{n + 1:06}" for n in range(len(numbers))]
    payloads = await rows(pool, "select convert_from(payload, 'UTF8') from pgqueuer.pgqueuer")
    issued = await rows(pool, "select id::text from invoices")
    assert sorted(payloads) == sorted(issued)


async def two_at_once(dsn: str, customers: list[Subscription], run: Run) -> None:
    pools = [
        await open_pool(make_conninfo(dsn, user=LOGIN_ROLE), name=f"runner-{n}") for n in range(2)
    ]
    try:
        done = await asyncio.gather(*(run(pool, today()) for pool in pools))
        assert [each.failed for each in done] == [[], []]
        await check_the_books(pools[0], customers)
        assert all(each.issued for each in done), "one of the two had nothing to do"
    finally:
        for pool in pools:
            await pool.close()


async def bill(pool: Pool, as_of: date) -> BillingRun:
    return await run_billing(pool, as_of=as_of)


async def naive_bill(pool: Pool, as_of: date) -> BillingRun:
    """The mutant: reads what is due, then bills the list, and claims nothing."""
    due = await rows(pool, "select id from subscriptions where next_billing_at <= app.now()")
    await asyncio.sleep(0.1)
    for (subscription_id,) in due:
        async with transaction(pool, PLATFORM) as conn:
            found = await conn.execute(
                "select app.issue_invoice(app.bill_subscription(%s, %s))", (subscription_id, as_of)
            )
            await found.fetchone()
    return BillingRun(as_of=as_of, dry_run=False, issued=[], nothing_owed=0, failed=[])


async def test_two_runs_at_once_bill_everything_once(
    queue: str, customers: list[Subscription]
) -> None:
    await two_at_once(queue, customers, bill)


async def test_a_run_that_claims_nothing_is_caught(
    queue: str, customers: list[Subscription]
) -> None:
    with pytest.raises(AssertionError):
        await two_at_once(queue, customers, naive_bill)


async def test_numbering_by_the_highest_number_is_caught(
    queue: str, customers: list[Subscription]
) -> None:
    await replace_counter(
        queue,
        # Who has read waits for the other to have read too, a second at the most: they must meet.
        "perform pg_advisory_xact_lock_shared(4711); for v_round in 1..100 loop "
        "exit when (select count(*) from pg_locks where locktype = 'advisory' and objid = 4711"
        " and database = (select oid from pg_database where datname = current_database())) > 1; "
        "perform pg_sleep(0.01); end loop; "
        "return v_number;",
        declares="v_number bigint := (select count(*) + 1 from public.invoices "
        "where invoice_number is not null);",
    )
    with pytest.raises(AssertionError):
        await two_at_once(queue, customers, bill)


async def test_numbering_by_a_sequence_is_caught(
    queue: str, pool: Pool, customers: list[Subscription]
) -> None:
    await owner_runs(queue, "create sequence public.mutant; grant usage on mutant to service_role")
    await replace_counter(queue, "return nextval('public.mutant');")
    await run_billing(pool, as_of=today(), dry_run=True)
    await run_billing(pool, as_of=today())
    with pytest.raises(AssertionError):
        await check_the_books(pool, customers)


async def replace_counter(dsn: str, by: str, *, declares: str = "") -> None:
    await owner_runs(
        dsn,
        "create or replace function app.next_number(p_legal_entity_id text, p_series text) "
        "returns bigint language plpgsql set search_path = pg_catalog, pg_temp "
        f"as $$ declare {declares} begin {by} end $$",
    )


# The delivery is enqueued when all else is done: what is missing then is the commit.
KILLED = """
create sequence public.deliveries;
create function public.kill() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if nextval('public.deliveries') = %s then
    perform pg_terminate_backend(pg_backend_pid());
  end if;
  return new;
end
$$;
create trigger kill before insert on pgqueuer.pgqueuer for each row execute function public.kill();
"""


@pytest.mark.parametrize("killed_at", [1, 2, 7, 12])
async def test_a_run_killed_inside_a_transaction_is_finished_by_the_next(
    killed_at: int, queue: str, pool: Pool, customers: list[Subscription]
) -> None:
    await owner_runs(queue, KILLED % killed_at)
    with pytest.raises(Unavailable):
        await run_billing(pool, as_of=today())
    # Those before it in the same message are committed, and none after it was begun.
    assert len(await rows(pool, "select 1 from invoices")) == killed_at - 1
    await run_billing(pool, as_of=today())
    await check_the_books(pool, customers)
    assert (await run_billing(pool, as_of=today())).issued == []


async def test_a_rehearsal_changes_nothing_and_takes_no_number(
    pool: Pool, customers: list[Subscription]
) -> None:
    rehearsed = await run_billing(pool, as_of=today(), dry_run=True)
    assert len(rehearsed.issued) == CUSTOMERS * 2
    assert await rows(pool, "select 1 from invoices") == []
    done = await run_billing(pool, as_of=today())
    assert sum(each.total for each in done.issued) == sum(each.total for each in rehearsed.issued)
    await check_the_books(pool, customers)


async def test_one_bill_that_cannot_be_made_keeps_nobody_elses(
    queue: str, pool: Pool, customers: list[Subscription]
) -> None:
    # With VAT it is more than an invoice can hold.
    broken = await a_customer(pool, price_monthly=Decimal("999999999999.99"))
    done = await run_billing(pool, as_of=today())
    assert [(each.subscription_id, each.code) for each in done.failed] == [
        (broken.id, "bill_failed")
    ]
    await check_the_books(pool, customers)


async def test_a_subscription_from_the_31st_is_billed_at_every_months_end(
    queue: str, pool: Pool
) -> None:
    anchor = today() - timedelta(days=150)
    while anchor.day != 31:
        anchor -= timedelta(days=1)
    customer = await a_customer(pool, at=anchor)
    done = await run_billing(pool, as_of=today())
    assert len(done.issued) >= 5
    await check_the_books(pool, [customer])


async def test_nothing_is_billed_before_its_day(pool: Pool, customers: list[Subscription]) -> None:
    with pytest.raises(AsOfInFuture):
        await run_billing(pool, as_of=today() + timedelta(days=1))
    anchor = customers[0].current_period_start.astimezone(OSLO).date()
    early = await run_billing(pool, as_of=anchor - timedelta(days=1))
    assert (early.issued, early.nothing_owed) == ([], 0)
    assert len((await run_billing(pool, as_of=anchor)).issued) == CUSTOMERS


@pytest.mark.parametrize(
    "statement",
    [
        "update invoices set total = total + 1, tax_amount = tax_amount + 1",
        "update invoices set line_items = '[{}]'",
        "update invoices set buyer = '{}'",
        "update invoices set invoice_number = 'INV-1', due_date = due_date + 1",
        "update invoices set status = 'draft', invoice_number = null, issued_at = null",
        "update invoices set status = 'void', invoice_number = null, issued_at = null",
        "delete from invoices",
    ],
)
async def test_an_issued_invoice_cannot_be_changed(statement: str, queue: str, pool: Pool) -> None:
    await a_customer(pool)
    await run_billing(pool, as_of=today())
    before = await rows(pool, "select * from invoices order by id")
    with pytest.raises(InvoiceImmutable):
        await rows(pool, statement)
    assert await rows(pool, "select * from invoices order by id") == before


async def test_an_issued_invoice_can_be_paid_and_delivered_once(queue: str, pool: Pool) -> None:
    await a_customer(pool)
    (first, _) = (await run_billing(pool, as_of=today())).issued
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute("update invoices set status = 'paid', paid_at = app.now()")
    for _ in range(2):
        await deliver(pool, str(first.id).encode())
    told = await rows(pool, "select type, title from notifications")
    assert told == [("invoice_issued", f"Invoice {first.invoice_number}")]
