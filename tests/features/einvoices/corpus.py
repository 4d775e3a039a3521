"""Documents of every kind that is issued, made in the database as a customer would get them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
from tests.builders import a_slug, an_organization
from tests.features.invoices.selling import a_sale, credit, value

from aurora.core import clock
from aurora.features.plans.service import create_coupon, create_plan
from aurora.features.subscriptions.service import redeem_coupon, start_subscription

Connection = psycopg.AsyncConnection[Any]
Builder = Callable[[Connection], Awaitable[UUID]]

GERMAN: Final[dict[str, Any]] = {
    "name": "Arctic Journeys GmbH",
    "country": "DE",
    "org_number": None,
    "vat_number": "DE136695976",
    "address": "Hafenstraße 9\nHinterhaus\n3. Stock",
    "postal_code": "20457",
    "city": "Hamburg",
}
SWEDISH: Final[dict[str, Any]] = {
    "name": "Norrsken AB",
    "country": "SE",
    "org_number": "556703-7485",
    "vat_number": "SE556703748501",
}
USED: Final = 10_001
INCLUDED: Final = 2_000


def today() -> date:
    """The seller's day."""
    return clock.now().astimezone(ZoneInfo("Europe/Oslo")).date()


async def a_seller(conn: Connection, **fields: object) -> None:
    """Enter the real seller."""
    real = {"is_specimen": False, "name": "Nordlys Data AS", "org_number": "923609016"}
    for name, what in (real | fields).items():
        await conn.execute(f"update legal_entities set {name} = %s".encode(), (what,))


async def sold(
    conn: Connection, *lines: Mapping[str, Any], currency: str = "NOK", **buyer: Any
) -> UUID:
    """Issue an invoice of lines that somebody wrote."""
    organization = await an_organization(conn, **buyer)
    drafted: UUID = await value(
        conn,
        "select app.draft_manual_invoice(%s, %s::jsonb, %s)",
        organization.id,
        json.dumps(lines or [a_sale()]),
        currency,
    )
    await value(conn, "select app.issue_invoice(%s)", drafted)
    return drafted


async def billed(
    conn: Connection, *, used: int = USED, coupons: tuple[str, ...] = (), **terms: Any
) -> UUID:
    """Issue the second bill of a subscription: usage of the month that ended, the next fee."""
    organization = await an_organization(conn)
    await create_plan(
        conn,
        plan := a_slug("plan").replace("-", "_"),
        name="Nordlys",
        **{"price_monthly": Decimal("3499.90"), "included_impressions": INCLUDED} | terms,
    )
    began = today() - timedelta(days=33)
    subscription = await start_subscription(
        conn, organization_id=organization.id, plan_id=plan, at=began
    )
    for code in coupons:
        await redeem_coupon(conn, organization.id, code)
    await value(conn, "select app.bill_subscription(%s, %s)", subscription.id, today())
    await conn.execute(
        "insert into usage_hourly (organization_id, dimension, hour, value, requests, impressions,"
        " billable, successful, failed, cached, response_time_ms_sum, response_time_count)"
        " values (%(org)s, 'total', %(at)s, '', %(n)s, %(n)s, %(n)s, %(n)s, 0, 0, 0, 0)",
        {"org": organization.id, "at": subscription.current_period_start, "n": used},
    )
    drafted: UUID = await value(
        conn, "select app.bill_subscription(%s, %s)", subscription.id, today()
    )
    await value(conn, "select app.issue_invoice(%s)", drafted)
    return drafted


async def domestic(conn: Connection) -> UUID:
    await a_seller(conn, iban="NO9386011117947", bic="DNBANOKK", phone="+47 77 00 00 00")
    return await sold(conn, a_sale("Oppstart & opplæring <kurs>", "1234.56"))


async def with_reference(conn: Connection) -> UUID:
    invoice_id: UUID = await sold(conn, vat_number="NO987654325MVA", invoice_reference="PO 4711")
    return invoice_id


async def credited_in_full(conn: Connection) -> UUID:
    return await credit(conn, await domestic(conn))


async def credited_in_part(conn: Connection) -> UUID:
    lines = [a_sale("A", "33.33"), a_sale("B", "66.67", tax_code="reduced_15")]
    return await credit(conn, await sold(conn, *lines), amount="12.34")


async def export(conn: Connection) -> UUID:
    return await sold(conn, **GERMAN)


async def export_in_dollars(conn: Connection) -> UUID:
    return await sold(conn, currency="USD", **SWEDISH)


async def euros(conn: Connection) -> UUID:
    await a_seller(conn, iban="NO9386011117947", bic="DNBANOKK")
    await conn.execute(
        "insert into exchange_rates (currency, valid_on, nok, source)"
        " values ('EUR', (app.now() at time zone 'Europe/Oslo')::date, 11.6543, 'Norges Bank')"
    )
    return await sold(conn, a_sale(price="10.02"), currency="EUR")


async def euros_credited(conn: Connection) -> UUID:
    return await credit(conn, await euros(conn), amount="3.33")


async def per_begun_thousand(conn: Connection) -> UUID:
    return await billed(conn, overage_rate=Decimal(50))


async def pro_rata(conn: Connection) -> UUID:
    return await billed(conn, overage_rate=Decimal("49.99"), overage_model="pro_rata")


async def graduated(conn: Connection) -> UUID:
    tiers = [
        {"up_to": 1_000, "unit_price": "0.0333"},
        {"up_to": 5_000, "unit_price": "0.02111", "flat_fee": "10.00"},
        {"up_to": None, "unit_price": "0.0125"},
    ]
    model = {"model": "graduated", "tiers": tiers}
    return await billed(conn, overage_model="price_model", price_model=model)


async def minimum(conn: Connection) -> UUID:
    model = {"model": "standard", "unit_price": "0.01", "minimum": "250.00"}
    return await billed(conn, overage_model="price_model", price_model=model)


async def coupon(conn: Connection) -> UUID:
    await create_coupon(conn, "NORDLYS15", percent=Decimal(15))
    await create_coupon(conn, "HUNDRE", amount=Decimal(100), currency="NOK")
    return await billed(conn, overage_rate=Decimal(50), coupons=("NORDLYS15", "HUNDRE"))


async def many_rates(conn: Connection) -> UUID:
    codes = ("standard", "reduced_15", "reduced_12", "zero")
    return await sold(conn, *(a_sale(code, "99.99", tax_code=code) for code in codes))


async def profiled(conn: Connection, columns: str, values: str, **buyer: Any) -> UUID:
    organization = await an_organization(conn, **buyer)
    insert = f"insert into billing_profiles (organization_id, {columns}) values (%s, {values})"
    await conn.execute(insert.encode(), (organization.id,))
    drafted: UUID = await value(
        conn,
        "select app.draft_manual_invoice(%s, %s::jsonb)",
        organization.id,
        json.dumps([a_sale()]),
    )
    await value(conn, "select app.issue_invoice(%s)", drafted)
    return drafted


async def exempt(conn: Connection) -> UUID:
    reason = "'exempt', 'Fritatt, mval. § 6-99'"
    return await profiled(conn, "vat_treatment, exemption_reason", reason)


async def reverse_charge(conn: Connection) -> UUID:
    return await profiled(conn, "vat_treatment", "'reverse_charge'", vat_number="NO987654325MVA")


async def svalbard(conn: Connection) -> UUID:
    return await profiled(conn, "vat_area, order_reference", "'svalbard', 'ordre 12'")


async def unregistered_seller(conn: Connection) -> UUID:
    await a_seller(conn, vat_registered=False)
    return await sold(conn, vat_number="NO987654325MVA")


async def in_english(conn: Connection) -> UUID:
    return await sold(conn, settings={"language": "en"}, **GERMAN)


CORPUS: Final[dict[str, Builder]] = {
    build.__name__: build
    for build in (
        domestic,
        with_reference,
        credited_in_full,
        credited_in_part,
        export,
        export_in_dollars,
        euros,
        euros_credited,
        per_begun_thousand,
        pro_rata,
        graduated,
        minimum,
        coupon,
        many_rates,
        exempt,
        reverse_charge,
        svalbard,
        unregistered_seller,
        in_english,
    )
}
