"""An invoice is explained down to the events behind it, and computed anew to the same bytes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.builders import a_key, an_organization, decoded, events, moment
from tests.features.einvoices.corpus import (
    CORPUS,
    Builder,
    billed,
    coupon,
    many_rates,
    per_begun_thousand,
    sold,
    today,
)
from tests.features.invoices.selling import a_sale, credit, row_of, value

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.explaining import (
    InvoiceLineNotFound,
    Replay,
    explain_line,
    replay_all,
    replay_document,
)
from aurora.features.invoices.service import get_document
from aurora.features.plans.service import create_plan
from aurora.features.subscriptions.service import start_subscription
from aurora.features.usage.service import Sender, record_usage

Connection = psycopg.AsyncConnection[Any]


async def replayed(conn: Connection, document_id: UUID) -> Replay:
    number = (await get_document(conn, document_id)).number
    assert number is not None
    return await replay_document(conn, number)


async def figures(conn: Connection, invoice_id: UUID) -> set[tuple[int, str]]:
    """The lines and fields that differ."""
    return {(each.line, each.field) for each in (await replayed(conn, invoice_id)).differences}


@pytest.mark.parametrize("build", CORPUS.values(), ids=CORPUS)
async def test_every_kind_of_document_is_computed_anew_to_the_same_bytes(
    build: Builder, connection: Connection
) -> None:
    found = await replayed(connection, await build(connection))
    assert (found.differences, found.matches) == ([], True)


async def test_later_bills_changes_and_prices_do_not_change_an_earlier_one(
    connection: Connection,
) -> None:
    invoice_id = await coupon(connection)
    await connection.execute("insert into app.clock (shift) values (interval '40 days')")
    await value(
        connection,
        "select app.bill_subscription(id, %s) from subscriptions",
        today() + timedelta(days=40),
    )
    await connection.execute("update plans set price_monthly = 9999 where id like 'plan_%%'", ())
    await connection.execute("update organizations set name = 'Somebody Else', country = 'SE'")
    assert (await replayed(connection, invoice_id)).matches


TAMPERED: dict[str, tuple[str, set[tuple[int, str]]]] = {
    "one impression more, in the same thousand": (
        "update usage_hourly set billable = billable + 1",
        {(1, "facts"), (1, "impressions")},
    ),
    "usage": (
        "update usage_hourly set billable = billable + 1000",
        {
            *((1, field) for field in ("amount", "facts", "impressions", "quantity")),
            *(
                (0, field)
                for field in ("subtotal", "tax_amount", "tax_amount_nok", "taxes", "total")
            ),
        },
    ),
    "the price that was agreed": (
        "update subscription_terms set price_monthly = price_monthly + 1",
        {
            *((2, field) for field in ("amount", "unit_price")),
            *(
                (0, field)
                for field in ("subtotal", "tax_amount", "tax_amount_nok", "taxes", "total")
            ),
        },
    ),
    "the total on the document": (
        (
            "update invoices set tax_amount = tax_amount + 0.01, total = total + 0.01,"
            " tax_amount_nok = tax_amount_nok + 0.01"
        ),
        {(0, "tax_amount"), (0, "tax_amount_nok"), (0, "total")},
    ),
    "a line on the document": (
        "update invoices set line_items = jsonb_set(line_items, '{0,amount}', '450.000')",
        {(1, "amount")},
    ),
    "a rate of VAT": (
        "update tax_rates set rate = 24 where code = 'standard'",
        {
            *((line, "tax_rate") for line in (1, 2)),
            *((0, field) for field in ("tax_amount", "tax_amount_nok", "taxes", "total")),
        },
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_tampered_fact_is_found_by_its_line_and_field(
    what: str, connection: Connection
) -> None:
    invoice_id = await per_begun_thousand(connection)
    statement, expected = TAMPERED[what]
    # Whoever can switch the triggers off can change an issued document; the facts still say so.
    await connection.execute("set local session_replication_role = replica")
    await connection.execute(statement.encode())
    assert await figures(connection, invoice_id) == expected


async def test_a_line_that_somebody_wrote_is_reckoned_again(connection: Connection) -> None:
    invoice_id = await many_rates(connection)
    await connection.execute("set local session_replication_role = replica")
    await connection.execute(
        "update invoices set line_items = jsonb_set(line_items, '{3,unit_price}', '1')"
    )
    # As it was entered is kept beside the document, so the very figure that differs is named.
    assert await figures(connection, invoice_id) == {(4, "unit_price")}


async def credited_in_parts(conn: Connection) -> tuple[UUID, list[UUID]]:
    """An invoice of several rates, credited by line, by amount, and for the rest."""
    invoice_id = await many_rates(conn)
    by_line = await credit(conn, invoice_id, [{"line": 1, "amount": 9.99}, {"line": 3}])
    by_amount = await credit(conn, invoice_id, amount="33.33")
    return invoice_id, [by_line, by_amount, await credit(conn, invoice_id)]


async def test_a_credit_note_is_computed_from_its_invoice_and_the_credits_before_it(
    connection: Connection,
) -> None:
    _, notes = await credited_in_parts(connection)
    for note in notes:
        found = await replayed(connection, note)
        assert (found.kind, found.differences, found.matches) == ("credit_note", [], True)


SUMS = {(0, field) for field in ("subtotal", "tax_amount", "tax_amount_nok", "taxes", "total")}
ASKED = '{"lines": [{"line": 1, "amount": 8.99}, {"line": 3}]}'
OF_A_LINE = (
    *("amount", "credits_line", "description", "kind", "line", "period_end", "period_start"),
    *("quantity", "tax_category", "tax_code", "tax_rate", "unit", "unit_price"),
)
# What is set, of which credit note, and what differs then.
TAMPERED_CREDITS: dict[str, tuple[str, int, set[tuple[int, str]]]] = {
    "a figure of a line": (
        "line_items = jsonb_set(line_items, '{0,amount}', '10')",
        1,
        {(1, "amount")},
    ),
    "a description": (
        "line_items = jsonb_set(line_items, '{1,description}', '\"x\"')",
        1,
        {(2, "description")},
    ),
    "the total": (
        "total = total + 1, subtotal = subtotal + 1",
        2,
        {(0, "subtotal"), (0, "total")},
    ),
    "the buyer": ("buyer = buyer - 'city'", 2, {(0, "buyer")}),
    "what was asked": (f"asked = '{ASKED}'", 1, SUMS | {(1, "amount"), (1, "unit_price")}),
    "more asked than there was": (
        "asked = '{\"amount\": 5000}'",
        2,
        SUMS
        | {(0, "period_start"), (0, "period_end")}
        | {(line, field) for line in range(1, 4) for field in OF_A_LINE},
    ),
    "what was set off": (
        "amount_allocated = amount_allocated - 1",
        2,
        {(0, "amount_allocated")},
    ),
}


@pytest.mark.parametrize("what", TAMPERED_CREDITS)
async def test_a_tampered_credit_note_is_found_by_its_line_and_field(
    what: str, connection: Connection
) -> None:
    _, notes = await credited_in_parts(connection)
    changed, position, expected = TAMPERED_CREDITS[what]
    await connection.execute("set local session_replication_role = replica")
    statement = f"update credit_notes set {changed} where position = {position}"
    await connection.execute(statement.encode())
    assert await figures(connection, notes[position - 1]) == expected


async def test_what_is_credited_and_settled_is_reckoned_again(connection: Connection) -> None:
    invoice_id, _ = await credited_in_parts(connection)
    assert (await replayed(connection, invoice_id)).matches
    await connection.execute("set local session_replication_role = replica")
    await connection.execute(
        "update invoices set amount_credited = amount_credited - 1,"
        " amount_settled = amount_settled - 2"
    )
    assert await figures(connection, invoice_id) == {(0, "amount_credited"), (0, "amount_settled")}


async def a_change_that_gives_back(conn: Connection) -> tuple[UUID, UUID]:
    """A subscription that is changed in its period: the adjustment, and the note it became."""
    organization = await an_organization(conn)
    began = today() - timedelta(days=5)
    subscription = await start_subscription(
        conn, organization_id=organization.id, plan_id="premium", at=began
    )
    drafted = await value(conn, "select app.bill_subscription(%s, %s)", subscription.id, today())
    await value(conn, "select app.issue_invoice(%s)", drafted)
    adjustment = await value(
        conn,
        "insert into subscription_adjustments (organization_id, subscription_id, kind, reason,"
        " description, quantity, unit_price, amount, currency, period_start, period_end, facts)"
        " values (%s, %s, 'credit', 'change', 'Unused days', 1, 123.45, 123.45, 'NOK',"
        " app.now(), app.now() + interval '10 days',"
        " jsonb_build_object('source', jsonb_build_object('billed_at', %s::timestamptz)))"
        " returning id",
        organization.id,
        subscription.id,
        (await row_of(conn, "invoices", drafted))["billed_at"],
    )
    return adjustment, await value(conn, "select id from credit_notes")


async def test_a_credit_of_a_change_is_computed_from_the_change(connection: Connection) -> None:
    _, note = await a_change_that_gives_back(connection)
    assert (await replayed(connection, note)).differences == []
    await connection.execute("set local session_replication_role = replica")
    # The note and what was asked may be changed together; the change itself still says the truth.
    await connection.execute(
        "update subscription_adjustments set amount = 100, description = 'Other days'"
    )
    assert {(1, "amount"), (1, "description"), (0, "total")} <= await figures(connection, note)


async def test_a_line_of_a_credit_note_leads_to_the_line_it_takes_back(
    connection: Connection,
) -> None:
    invoice_id, (by_line, _, _) = await credited_in_parts(connection)
    invoice = await get_document(connection, invoice_id)
    found = await explain_line(connection, by_line, 2)
    assert found.credits is not None
    assert (found.credits.invoice_number, found.credits.line) == (invoice.number, 3)
    assert (found.credits.amount, found.credits.credited) == (Decimal("99.99"), Decimal("99.99"))
    assert found.credits.path == f"/v1/invoices/{invoice_id}/lines/3/usage"
    assert (await explain_line(connection, invoice_id, 3)).credits is None


async def test_a_correction_of_usage_is_explained_without_a_number_that_is_included(
    connection: Connection,
) -> None:
    invoice_id = await billed(connection, overage_rate=Decimal(50))
    await connection.execute("set local session_replication_role = replica")
    await connection.execute(
        "update invoices set line_items = line_items #- '{0,facts,usage,included}'"
    )
    found = await explain_line(connection, invoice_id, 1)
    assert found.usage is not None
    assert found.usage.included is None


async def test_all_are_replayed_past_the_first_page(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora.features.invoices.explaining.REPLAYED_AT_ONCE", 2)
    async with transaction(pool, PLATFORM) as conn:
        made = [await sold(conn, a_sale(price=f"{n}.00")) for n in range(1, 6)]
        made += [await credit(conn, invoice_id) for invoice_id in made[:3]]
    found = [each async for each in replay_all(pool)]
    assert len({each.number for each in found}) == len(made)
    assert all(each.matches for each in found)


async def test_a_line_leads_to_the_days_and_the_days_to_the_events(
    connection: Connection,
) -> None:
    organization = await an_organization(connection)
    await create_plan(
        connection,
        "explained",
        name="Nordlys",
        price_monthly=Decimal(100),
        included_impressions=2,
        overage_rate=Decimal(50),
    )
    began = today() - timedelta(days=33)
    subscription = await start_subscription(
        connection, organization_id=organization.id, plan_id="explained", at=began
    )
    await value(connection, "select app.bill_subscription(%s, %s)", subscription.id, today())
    key = (await a_key(connection, organization)).record.id
    start = subscription.current_period_start
    # Half an hour after the first local midnight, which is the day before in UTC; and a week later.
    for at, count in ((start + timedelta(minutes=30), 3), (start + timedelta(days=7), 4)):
        await record_usage(
            connection,
            decoded(events(count, timestamp=moment(at))),
            Sender(organization_id=organization.id, key_id=key),
        )
    invoice_id = await value(
        connection, "select app.bill_subscription(%s, %s)", subscription.id, today()
    )
    await value(connection, "select app.issue_invoice(%s)", invoice_id)
    found = await explain_line(connection, invoice_id, 1)
    assert found.usage is not None
    usage = found.usage
    assert (usage.billable, usage.included, usage.counted, usage.agrees) == (7, 2, 7, True)
    days = [start.date(), (start + timedelta(days=7)).date()]
    assert [(each.day, each.billable) for each in usage.days] == list(
        zip(days, [3, 4], strict=True)
    )
    raw = await value(
        connection,
        "select count(*) from usage_analytics where organization_id = %s and timestamp >= %s"
        " and timestamp < %s and widget_impression",
        organization.id,
        usage.period_start,
        usage.period_end,
    )
    assert raw == usage.counted
    assert str(organization.id) in usage.days[0].events_path
    # The fee stands on the terms and on no usage.
    fee = await explain_line(connection, invoice_id, 2)
    assert (fee.kind, fee.usage, fee.facts["plan_id"]) == ("fee", None, "explained")


async def test_usage_that_changed_since_is_said_beside_what_was_billed(
    connection: Connection,
) -> None:
    invoice_id = await billed(connection, overage_rate=Decimal(50))
    await connection.execute("update usage_hourly set billable = billable + 5")
    found = await explain_line(connection, invoice_id, 1)
    assert found.usage is not None
    assert (found.usage.counted - found.usage.billable, found.usage.agrees) == (5, False)


@pytest.mark.parametrize("line", [0, 3, 10**9])
async def test_there_is_no_such_line(line: int, connection: Connection) -> None:
    invoice_id = await billed(connection, overage_rate=Decimal(50))
    with pytest.raises(InvoiceLineNotFound, match="2 lines"):
        await explain_line(connection, invoice_id, line)
