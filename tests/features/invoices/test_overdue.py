"""What is not paid is reminded of, each time once, then suspends, and payment makes it active."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.builders import a_user
from tests.features.invoices.test_adjusting import bill
from tests.features.subscriptions.test_changes import a_customer, ask, midnight, today

from aurora.db.errors import translate
from aurora.features.invoices.overdue import chase_overdue, enter_policy, exempt, list_overdue
from aurora.features.invoices.refusals import OverduePolicyInvalid
from aurora.features.organizations.service import get_organization

Connection = psycopg.AsyncConnection[Any]
# The seller gives 14 days; the policy reminds 7 and 21 days after them and suspends after 45.
DUE, FIRST, SECOND, SUSPENDED = 14, 21, 35, 59


async def a_debtor(conn: Connection) -> UUID:
    """A customer with an admin and an unpaid invoice of today."""
    customer = await a_customer(conn, at=today())
    await a_user(conn, await get_organization(conn, customer), role="admin")
    assert await bill(conn, customer) is not None
    return customer


async def on_day(conn: Connection, days: int) -> tuple[int, int, int]:
    """Let the worker look, so many days after the invoice; what it did."""
    # At noon there: an hour of summer time makes no other day of it.
    noon = midnight(today() + timedelta(days=days)) + timedelta(hours=12)
    await ask(conn, "delete from app.clock")
    await ask(conn, "insert into app.clock (shift) values (%s - now())", noon)
    done = await chase_overdue(conn)
    return done.reminded, done.suspended, done.reactivated


async def state(conn: Connection) -> tuple[str, str]:
    [row] = await ask(
        conn,
        "select o.status as organization, s.status as subscription"
        " from organizations o join subscriptions s on s.organization_id = o.id",
    )
    return row["organization"], row["subscription"]


async def told(conn: Connection) -> list[str]:
    found = await ask(conn, "select type from notifications")
    return sorted(row["type"] for row in found)


async def pay(conn: Connection, customer: UUID, reference: str = "bank 1") -> None:
    await ask(
        conn,
        "select app.enter_payment(%s, sum(amount_due), 'NOK', current_date, %s)"
        " from invoices where organization_id = %s and status = 'overdue'",
        customer,
        reference,
        customer,
    )


async def check_the_way_of_an_unpaid_invoice(conn: Connection) -> None:
    customer = await a_debtor(conn)
    nothing = (0, 0, 0)
    assert await on_day(conn, DUE) == nothing
    assert await on_day(conn, FIRST - 1) == nothing
    assert await state(conn) == ("active", "active")
    assert await on_day(conn, FIRST) == (1, 0, 0)
    assert await on_day(conn, FIRST) == nothing, "it was reminded of twice"
    assert await state(conn) == ("active", "past_due")
    assert await on_day(conn, SECOND) == (1, 0, 0)
    assert await on_day(conn, SUSPENDED - 1) == nothing
    assert await on_day(conn, SUSPENDED) == (0, 1, 0)
    assert await on_day(conn, SUSPENDED) == nothing
    assert await state(conn) == ("suspended", "past_due")
    [overdue] = await list_overdue(conn, customer, 10)
    assert (overdue.days_late, overdue.reminders, overdue.suspended) == (45, 2, True)
    await pay(conn, customer)
    assert await state(conn) == ("active", "active")
    assert await told(conn) == [
        "invoice_overdue",
        "invoice_overdue",
        "organization_reactivated",
        "organization_suspended",
    ]


async def test_an_unpaid_invoice_is_reminded_of_twice_suspends_and_is_forgotten_when_paid(
    connection: Connection,
) -> None:
    await check_the_way_of_an_unpaid_invoice(connection)


MUTANTS = {
    "reminders that are not remembered": (
        "create function app.a_mutant() returns trigger language plpgsql as"
        " $$ begin return null; end $$;"
        " create trigger a_mutant before insert on overdue_steps for each row"
        " when (new.kind = 'reminder') execute function app.a_mutant()"
    ),
    "a payment nobody looks at": "alter table invoices disable trigger invoices_settle_overdue",
    "a policy without suspension": "update overdue_policies set suspend_days = null",
    "days counted from the invoice": (
        "update legal_entities set payment_days = 0; update billing_profiles set payment_days = 0"
    ),
}


@pytest.mark.parametrize("what", MUTANTS)
async def test_another_way_is_caught(what: str, connection: Connection) -> None:
    await connection.execute(MUTANTS[what].encode())
    with pytest.raises(AssertionError):
        await check_the_way_of_an_unpaid_invoice(connection)


async def test_of_reminders_that_fell_due_together_one_is_sent_and_gives_its_days(
    connection: Connection,
) -> None:
    await a_debtor(connection)
    # Nobody looked for a hundred days.
    assert await on_day(connection, 100) == (1, 0, 0)
    assert await on_day(connection, 123) == (0, 0, 0)
    assert await on_day(connection, 124) == (0, 1, 0)


async def test_a_payment_that_is_taken_back_suspends_again(connection: Connection) -> None:
    customer = await a_debtor(connection)
    for day in (FIRST, SECOND, SUSPENDED):
        await on_day(connection, day)
    await pay(connection, customer)
    assert await on_day(connection, SUSPENDED + 1) == (0, 0, 0)
    await ask(connection, "select app.reverse_payment(id, 'It bounced') from payments")
    assert await on_day(connection, SUSPENDED + 1) == (0, 1, 0)
    assert (await state(connection))[0] == "suspended"
    assert (await told(connection)).count("organization_suspended") == 2


async def test_an_exempt_organization_is_left_alone_and_one_suspended_is_active_again(
    connection: Connection,
) -> None:
    customer = await a_debtor(connection)
    await exempt(connection, customer, reason="A payment plan was agreed")
    assert await on_day(connection, SUSPENDED) == (0, 0, 0)
    await exempt(connection, customer, reason=None)
    assert await on_day(connection, SUSPENDED) == (1, 0, 0)
    assert await on_day(connection, SUSPENDED + 24) == (0, 1, 0)
    await exempt(connection, customer, reason="Once more")
    assert (await state(connection))[0] == "active"
    actions = await ask(
        connection, "select 1 from app.audit_pending where action ~ '^overdue_exemption'"
    )
    assert len(actions) == 3


async def test_nobody_else_ends_a_suspension_for_what_is_owed(connection: Connection) -> None:
    customer = await a_debtor(connection)
    for day in (FIRST, SECOND, SUSPENDED):
        await on_day(connection, day)
    for statement in (
        "update organizations set status = 'active'",
        (
            "select app.pause_subscription(organization_id) from subscriptions;"
            " select app.resume_subscription(organization_id) from subscriptions"
        ),
    ):
        with pytest.raises(psycopg.Error) as refused:
            async with connection.transaction():
                await connection.execute(statement.encode())
        assert refused.value.diag.message_primary == "organization_overdue"
    # A subscription that rests keeps its organization at rest when it pays.
    await ask(connection, "select app.pause_subscription(%s)", customer)
    await pay(connection, customer)
    assert await state(connection) == ("suspended", "paused")


async def test_a_policy_holds_for_what_is_due_from_its_day_on(connection: Connection) -> None:
    await a_debtor(connection)
    later = today().replace(year=today().year + 1)
    policy = await enter_policy(connection, since=later, reminder_days=[9, 3, 3], suspend_days=None)
    assert policy.reminder_days == [3, 9]
    assert await on_day(connection, DUE + 3) == (0, 0, 0)
    await enter_policy(connection, since=today(), reminder_days=[3], suspend_days=None)
    assert await on_day(connection, DUE + 3) == (1, 0, 0)
    assert await on_day(connection, 300) == (0, 0, 0)


@pytest.mark.parametrize(
    ("reminders", "suspend"), [([], 30), ([0], 30), ([366], 400), ([7, 21], 21), ([7], 731)]
)
async def test_a_policy_that_makes_no_sense_is_refused(
    reminders: list[int], suspend: int, connection: Connection
) -> None:
    with pytest.raises(psycopg.Error) as refused:
        async with connection.transaction():
            await enter_policy(
                connection, since=today(), reminder_days=reminders, suspend_days=suspend
            )
    assert isinstance(translate(refused.value), OverduePolicyInvalid)
