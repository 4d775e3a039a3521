"""Which VAT a sale has, what it is in NOK, and what is refused before a number is given."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.builders import an_organization
from tests.features.invoices.selling import a_sale, an_issued_invoice, credit, row_of, value

from aurora.core.errors import AuroraError
from aurora.core.money import CurrencyUnknown
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices.document import InvoiceIncomplete
from aurora.features.invoices.refusals import (
    EInvoiceBlocked,
    ExchangeRateMissing,
    TaxRateMissing,
)

GERMAN: dict[str, Any] = {"country": "DE", "org_number": None, "vat_number": "DE136695976"}


async def a_real_seller(conn: Connection, **fields: object) -> None:
    for name, what in {"is_specimen": False, **fields}.items():
        await conn.execute(f"update legal_entities set {name} = %s".encode(), (what,))


async def a_buyer(conn: Connection, profile: dict[str, Any] | None = None, **fields: Any) -> Any:
    buyer = await an_organization(conn, **fields)
    for name, what in (profile or {}).items():
        await conn.execute(
            f"insert into billing_profiles (organization_id, {name}) values (%s, %s)".encode()
            if name != "exemption_reason"
            else b"insert into billing_profiles (organization_id, vat_treatment, exemption_reason)"
            b" values (%s, 'exempt', %s)",
            (buyer.id, what),
        )
    return buyer


@pytest.mark.parametrize(
    ("profile", "buyer", "category", "tax", "saft"),
    [
        ({}, {}, "S", 250, "3"),
        ({}, GERMAN, "G", 0, "52"),
        ({}, {"country": "US", "org_number": None}, "G", 0, "52"),
        ({"vat_area": "svalbard"}, {}, "G", 0, "52"),
        ({"vat_area": "jan_mayen"}, {}, "G", 0, "52"),
        ({}, {"country": "SJ"}, "G", 0, "52"),
        ({"vat_area": "mainland"}, GERMAN, "S", 250, "3"),
        ({"vat_treatment": "reverse_charge"}, {"vat_number": "NO987654325MVA"}, "AE", 0, "51"),
        ({"exemption_reason": "Fritatt, mval. § 6-99"}, {}, "E", 0, "6"),
    ],
)
async def test_vat_follows_the_buyers_residence_and_treatment_and_not_the_country_alone(
    profile: dict[str, Any],
    buyer: dict[str, Any],
    category: str,
    tax: int,
    saft: str,
    pool: Pool,
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await a_buyer(conn, profile, **buyer)
        invoice_id = await an_issued_invoice(conn, organization=organization)
        invoice = await row_of(conn, "invoices", invoice_id)
    (line,) = invoice["tax_lines"]
    assert (line["category"], line["tax"], line["saft_code"]) == (category, tax, saft)
    assert invoice["total"] == 1000 + tax
    assert ("reason" in line) == (category != "S")


async def test_a_business_in_the_eu_is_told_of_article_196_and_nobody_else_is(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        german = await a_buyer(conn, **GERMAN)
        american = await a_buyer(conn, country="US", org_number=None)
        reasons = [
            (await row_of(conn, "invoices", await an_issued_invoice(conn, organization=each)))[
                "tax_lines"
            ][0]["reason_en"]
            for each in (german, american)
        ]
    assert ["Article 196" in reason for reason in reasons] == [True, False]
    assert all("§ 6-22" in reason for reason in reasons)


async def test_who_is_not_in_the_register_charges_no_vat(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await a_real_seller(conn, vat_registered=False)
        invoice = await row_of(conn, "invoices", await an_issued_invoice(conn))
    assert (invoice["tax_amount"], invoice["tax_lines"][0]["category"]) == (0, "O")


async def test_vat_is_rounded_once_a_category_and_never_a_line(pool: Pool) -> None:
    # Three lines of 0.10 at 25 % are 0.08 (0.075), not 0.09 (three times 0.03).
    lines = [a_sale(letter, "0.10") for letter in "ABC"]
    async with transaction(pool, PLATFORM) as conn:
        many = [*lines, a_sale("D", "0.10", tax_code="reduced_15"), a_sale("E", tax_code="zero")]
        invoice = await row_of(conn, "invoices", await an_issued_invoice(conn, *many))
    found = [(each["category"], each["rate"], each["tax"]) for each in invoice["tax_lines"]]
    assert found == [("S", 25, 0.08), ("S", 15, 0.02), ("Z", 0, 0)]
    assert invoice["tax_rate"] is None


async def test_a_foreign_currency_states_vat_in_nok_or_is_refused(pool: Pool) -> None:
    with pytest.raises(ExchangeRateMissing):
        async with transaction(pool, PLATFORM) as conn:
            await an_issued_invoice(conn, currency="EUR")
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(
            "insert into exchange_rates (currency, valid_on, nok, source) values"
            " ('EUR', (app.now() at time zone 'Europe/Oslo')::date - 8, 99, 'too old'),"
            " ('EUR', (app.now() at time zone 'Europe/Oslo')::date - 7, 11.6543, 'Norges Bank')"
        )
        invoice_id = await an_issued_invoice(conn, a_sale(price="10.02"), currency="EUR")
        invoice = await row_of(conn, "invoices", invoice_id)
        # 25 % of 10.02 is 2.505, so 2.51; at 11.6543 that is 29.252.
        assert (invoice["tax_amount"], invoice["tax_amount_nok"]) == (2.51, 29.25)
        assert invoice["exchange_rate_source"] == "Norges Bank"
        for amount in ("3.33", "3.34", "3.35"):
            await credit(conn, invoice_id, amount=amount)
        given_back = await value(conn, "select sum(tax_amount_nok) from credit_notes")
    assert given_back == Decimal("29.25")


async def test_an_export_needs_no_rate(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        german = await a_buyer(conn, **GERMAN)
        invoice_id = await an_issued_invoice(conn, organization=german, currency="EUR")
        assert (await row_of(conn, "invoices", invoice_id))["total"] == 1000


async def sell_to(pool: Pool, profile: dict[str, Any], buyer: dict[str, Any]) -> None:
    """Sell to a customer whose fields were written past the service that checks them."""
    async with transaction(pool, PLATFORM) as conn:
        await a_real_seller(conn)
        organization = await an_organization(conn)
        key = (organization.id,)
        for name, what in buyer.items():
            change = f"update organizations set {name} = %s where id = %s"
            await conn.execute(change.encode(), (what, *key))
        for name, what in profile.items():
            insert = f"insert into billing_profiles (organization_id, {name}) values (%s, %s)"
            await conn.execute(insert.encode(), (*key, what))
        await an_issued_invoice(conn, organization=organization)


@pytest.mark.parametrize(
    ("profile", "buyer", "refusal"),
    [
        ({}, {"org_number_unverified": True, "org_number": "123456789"}, EInvoiceBlocked),
        ({}, {"vat_number_unverified": True, "vat_number": "NO123456789MVA"}, EInvoiceBlocked),
        ({"vat_treatment": "reverse_charge"}, {}, EInvoiceBlocked),
        ({"einvoice": "required"}, {"org_number": None}, EInvoiceBlocked),
        ({}, {"org_number": None, "address": None}, InvoiceIncomplete),
    ],
)
async def test_a_wrong_party_is_refused_before_a_number_is_given(
    profile: dict[str, Any], buyer: dict[str, Any], refusal: type[AuroraError], pool: Pool
) -> None:
    with pytest.raises(refusal):
        await sell_to(pool, profile, buyer)
    async with transaction(pool, PLATFORM) as conn:
        # No counter moved.
        assert await value(conn, "select count(*) from invoice_counters") == 0


@pytest.mark.parametrize(
    ("line", "currency", "refusal"),
    [
        (a_sale(tax_code="luxury"), "NOK", TaxRateMissing),
        (a_sale(), "XXX", CurrencyUnknown),
        (a_sale(), "KWD", CurrencyUnknown),
    ],
)
async def test_what_nobody_knows_is_not_invoiced(
    line: dict[str, Any], currency: str, refusal: type[AuroraError], pool: Pool
) -> None:
    with pytest.raises(refusal):
        async with transaction(pool, PLATFORM) as conn:
            await an_issued_invoice(conn, line, currency=currency)


async def test_late_interest_is_by_the_dated_table_and_is_never_guessed(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        invoice_id = await an_issued_invoice(conn)
        due = await value(conn, "select due_date from invoices where id = %s", invoice_id)
    ask = "select app.late_interest(%s, %s::date + %s)"
    with pytest.raises(AuroraError) as caught:
        async with transaction(pool, PLATFORM) as conn:
            await value(conn, ask, invoice_id, due, 10)
    assert caught.value.code == "late_interest_rate_missing"
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(
            "insert into late_interest_rates (valid_from, yearly_rate, source) values"
            " (%s::date - 100, 10, 'made up'), (%s::date + 6, 20, 'made up')",
            (due, due),
        )
        found = [await value(conn, ask, invoice_id, due, days) for days in (0, 1, 5, 10)]
    # 1,250 at 10 % is 0.3425 a day; five such days, and five at 20 %.
    assert found == [0, Decimal("0.34"), Decimal("1.71"), Decimal("5.14")]
