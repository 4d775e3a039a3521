"""A run waits for the usage of the month, delivers what it issued, and is safe from kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import a_key, a_subscription, a_user, an_organization
from tests.conftest import LOGIN_ROLE
from tests.features.invoices.test_billing_run import (
    a_customer,
    check_the_books,
    owner_runs,
    queue,
    rows,
    today,
)

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import billing_run
from aurora.features.invoices.billing_run import run_billing
from aurora.features.invoices.jobs import deliver, deliver_credit_notes, mark_overdue

__all__ = ["queue"]


async def turn(dsn: str, **shift: float) -> None:
    await owner_runs(dsn, "delete from app.clock")
    await owner_runs(dsn, f"insert into app.clock (shift) values (interval '{timedelta(**shift)}')")


async def a_user_of_impressions(pool: Pool, shown_ago: timedelta) -> None:
    """A customer whose month ended three days ago, with an impression in it that is not folded."""
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization)
        await a_subscription(conn, organization, included_impressions=0)
        key = await a_key(conn, organization)
        await conn.execute(
            "select track_usage(%s, %s, '/x', p_event_id => 'one', p_widget_impression => true,"
            " p_status_code => 200, p_timestamp => %s)",
            (organization.id, key.record.id, clock.now() - shown_ago),
        )


async def kinds(pool: Pool) -> list[str]:
    return [
        row[0]
        for row in await rows(
            pool,
            "select l ->> 'kind' from invoices i, jsonb_array_elements(line_items) l"
            " order by i.billed_at, l ->> 'line'",
        )
    ]


async def test_a_run_folds_what_its_bills_count(queue: str, pool: Pool) -> None:
    await a_user_of_impressions(pool, timedelta(days=10))
    done = await run_billing(pool, as_of=today())
    assert (len(done.issued), done.waiting) == (2, 0)
    assert await kinds(pool) == ["fee", "overage", "fee"]
    assert await rows(pool, "select 1 from usage_deltas") == []


async def a_run_while_another_folds(dsn: str, pool: Pool) -> Any:
    """Run while somebody holds the fold; return what the run said and what it billed."""
    lock = "select pg_advisory_xact_lock(hashtextextended('aurora.fold_usage', 0))"
    async with transaction(pool, PLATFORM) as other:
        await other.execute(lock)
        return await run_billing(pool, as_of=today())


async def test_what_is_not_folded_waits_for_the_next_run(
    queue: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(billing_run, "WAIT_S", 0.01)
    await a_user_of_impressions(pool, timedelta(days=10))
    done = await a_run_while_another_folds(queue, pool)
    # The fee of the first month waits too: it is the same hour of usage that is not there yet.
    assert done.waiting == 1
    assert "overage" not in await kinds(pool)
    done = await run_billing(pool, as_of=today())
    assert (done.waiting, await kinds(pool)) == (0, ["fee", "overage", "fee"])


async def test_usage_after_the_month_keeps_no_bill_waiting(queue: str, pool: Pool) -> None:
    await a_user_of_impressions(pool, timedelta(minutes=1))
    done = await a_run_while_another_folds(queue, pool)
    assert (len(done.issued), done.waiting) == (2, 0)


async def test_a_month_is_billed_an_hour_after_it_ended(queue: str, pool: Pool) -> None:
    await a_customer(pool)
    ((moment,),) = await rows(
        pool, "select app.billing_moment(billing_anchor, 1, time_zone) from subscriptions"
    )
    assert isinstance(moment, datetime)
    half_an_hour_in = moment + timedelta(minutes=30) - clock.now()
    await turn(queue, seconds=half_an_hour_in.total_seconds())
    done = await run_billing(pool, as_of=today())
    assert len(done.issued) == 1, "the fee in advance of the first month waits for nothing"
    await turn(queue, seconds=(half_an_hour_in + timedelta(minutes=31)).total_seconds())
    assert len((await run_billing(pool, as_of=today())).issued) == 1


async def test_delivery_marks_sent_and_what_is_late_becomes_overdue(queue: str, pool: Pool) -> None:
    await a_customer(pool)
    done = await run_billing(pool, as_of=today())
    for each in done.issued:
        await deliver(pool, str(each.id).encode())
        await deliver(pool, str(each.id).encode())
    states = "select distinct status, sent_at is not null from invoices"
    assert await rows(pool, states) == [("sent", True)]
    assert await mark_overdue(pool) == 0
    await turn(queue, days=15)
    assert await mark_overdue(pool) == 2
    assert await mark_overdue(pool) == 0
    assert await rows(pool, states) == [("overdue", True)]


async def test_an_invoice_that_nobody_was_told_of_is_not_sent(queue: str, pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await a_subscription(conn, await an_organization(conn))
    for each in (await run_billing(pool, as_of=today())).issued:
        await deliver(pool, str(each.id).encode())
    assert await rows(pool, "select distinct status, sent_at from invoices") == [("issued", None)]


async def test_a_credit_note_is_told_of_once(queue: str, pool: Pool) -> None:
    await a_customer(pool)
    await run_billing(pool, as_of=today())
    await rows(pool, "select app.credit_invoice(id, 'Outage', p_amount => 1) from invoices")
    assert await deliver_credit_notes(pool) == 2
    assert await deliver_credit_notes(pool) == 0
    assert await rows(pool, "select distinct status from credit_notes") == [("sent",)]
    told = await rows(pool, "select title from notifications where type = 'credit_note_issued'")
    assert len(told) == 2


# The runner dies by its own hand, right where it was told to.
KILLED = """
import asyncio, os, signal, sys
from datetime import date
from aurora.db.pool import open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.billing_run import run_billing

dsn, day, kill_at, naive = sys.argv[1:]
as_of, kill_at = date.fromisoformat(day), int(kill_at)
billed = 0

def kill() -> None:
    global billed
    billed += 1
    if billed == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

async def step(pool, query, *values):
    async with transaction(pool, PLATFORM) as conn:
        row = await (await conn.execute(query, values)).fetchone()
    kill()
    return row and row[0]

async def naively(pool) -> None:
    # The mutant: drafts, numbers, and moves on in transactions of their own.
    while due := await step(pool, "select id from subscriptions where next_billing_at <= app.now()"
                                  " order by next_billing_at, id limit 1"):
        drafted = await step(
            pool, "select (app.draft_invoice(s, %s, app.bill_lines(s.organization_id,"
            " s.next_billing_at, s.time_zone))).id from subscriptions s where id = %s", as_of, due)
        await step(pool, "select app.issue_invoice(%s)", drafted)
        await step(pool, "select 1 from subscriptions s, app.advance_subscription(s, '[]')"
                         " where id = %s", due)

async def main() -> None:
    pool = await open_pool(dsn, name="killed", max_size=2)
    if naive == "naive":
        await naively(pool)
    else:
        await run_billing(pool, as_of=as_of, on_billed=kill)
    await pool.close()

asyncio.run(main())
"""


async def killed_and_finished(dsn: str, kills: tuple[int, ...], how: str) -> None:
    """Let runners die by kill -9 at these places, and one finish what they left."""
    for kill_at in (*kills, 0):
        runner = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, make_conninfo(dsn, user=LOGIN_ROLE), str(today()),
            str(kill_at), how, env=os.environ, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await runner.communicate()
        expected = -signal.SIGKILL if kill_at else 0
        assert runner.returncode == expected, said.decode()[-2000:]


async def check_a_killed_run(dsn: str, pool: Pool, how: str) -> None:
    customers = [await a_customer(pool) for _ in range(4)]
    await killed_and_finished(dsn, (1, 3, 2), how)
    await check_the_books(pool, customers)


async def test_runners_that_are_killed_leave_no_gap_and_nothing_twice(
    queue: str, pool: Pool
) -> None:
    await check_a_killed_run(queue, pool, "whole")


async def test_a_run_in_many_transactions_that_is_killed_is_caught(queue: str, pool: Pool) -> None:
    # Killed after the number and before the subscription moved on: the next run meets it again.
    with pytest.raises(AssertionError):
        await check_a_killed_run(queue, pool, "naive")
