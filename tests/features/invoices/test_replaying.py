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
    replay_invoice,
)
from aurora.features.invoices.model import InvoiceNotFound
from aurora.features.plans.service import create_plan
from aurora.features.subscriptions.service import start_subscription
from aurora.features.usage.service import Sender, record_usage

Connection = psycopg.AsyncConnection[Any]


async def replayed(conn: Connection, invoice_id: UUID) -> Replay:
    return await replay_invoice(
        conn, (await row_of(conn, "invoices", invoice_id))["invoice_number"]
    )


async def figures(conn: Connection, invoice_id: UUID) -> set[tuple[int, str]]:
    """The lines and fields that differ."""
    return {(each.line, each.field) for each in (await replayed(conn, invoice_id)).differences}


INVOICES = {name: build for name, build in CORPUS.items() if "credited" not in name}


@pytest.mark.parametrize("build", INVOICES.values(), ids=INVOICES)
async def test_every_kind_of_invoice_is_computed_anew_to_the_same_bytes(
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
    assert (4, "amount") in await figures(connection, invoice_id)


async def test_a_credit_note_is_not_replayed_for_it_follows_its_invoice(
    connection: Connection,
) -> None:
    note = await row_of(
        connection, "credit_notes", await credit(connection, await sold(connection))
    )
    with pytest.raises(InvoiceNotFound, match="credit note"):
        await replay_invoice(connection, note["credit_note_number"])


async def test_all_are_replayed_past_the_first_page(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora.features.invoices.explaining.REPLAYED_AT_ONCE", 2)
    async with transaction(pool, PLATFORM) as conn:
        made = [await sold(conn, a_sale(price=f"{n}.00")) for n in range(1, 6)]
    found = [each async for each in replay_all(pool)]
    assert len({each.invoice_number for each in found}) == len(made)
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
