"""The books say what the documents say: every voucher balances, and the sums are the invoices'."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lxml import etree
from tests.features.einvoices.corpus import CORPUS, a_seller, credited_in_part, euros, sold, today
from tests.features.invoices.selling import a_sale, value

from aurora.features.books import store
from aurora.features.books.model import (
    ACCOUNTS,
    BooksPeriodInvalid,
    BooksRateMissing,
    BooksTooLong,
    Voucher,
)
from aurora.features.books.saft import NAMESPACE, SaftInvalid, check_saft, saft_document
from aurora.features.books.service import journal_csv, list_vouchers
from aurora.features.invoices.service import get_seller

Connection = psycopg.AsyncConnection[Any]
ZERO = Decimal(0)
ISSUED = "invoices where invoice_number is not null"


async def a_years_corpus(conn: Connection) -> None:
    """Every kind of document, a payment, one that bounced, and the rates that they need."""
    for name, build in CORPUS.items():
        # Two of them make the same coupons or rates; one of each is enough.
        if name not in {"euros_credited", "unregistered_seller"}:
            await build(conn)
    await conn.execute(
        "insert into exchange_rates (currency, valid_on, nok, source)"
        " values ('USD', (app.now() at time zone 'Europe/Oslo')::date, 10.5, 'Norges Bank')"
    )
    invoice = f"(select id from {ISSUED} and currency = 'NOK' order by id limit 1)"
    for reference in ("bank 1", "bank 2"):
        await value(
            conn,
            "select app.enter_payment((select organization_id from invoices where id ="
            f" {invoice}), 100.00, 'NOK', %s, %s)",
            today(),
            reference,
        )
    await value(
        conn,
        "select app.reverse_payment((select id from payments where reference = 'bank 2'), 'No')",
    )


async def the_books(conn: Connection) -> list[Voucher]:
    return await list_vouchers(conn, today() - timedelta(days=1), today() + timedelta(days=1))


async def written(conn: Connection) -> bytes:
    vouchers = await the_books(conn)
    return saft_document(
        vouchers,
        await store.list_customers(conn, {each.organization_id for each in vouchers}),
        await get_seller(conn),
        first_day=today(),
        last_day=today(),
        made_on=today(),
    )


def turnover(vouchers: list[Voucher], account: str) -> Decimal:
    """Debit less credit of an account."""
    postings = [each for voucher in vouchers for each in voucher.postings]
    return sum((p.debit - p.credit for p in postings if p.account == account), ZERO)


async def test_every_voucher_balances_and_none_is_missing(connection: Connection) -> None:
    await a_years_corpus(connection)
    vouchers = await the_books(connection)
    for voucher in vouchers:
        debit = sum((each.debit for each in voucher.postings), ZERO)
        assert debit == sum((each.credit for each in voucher.postings), ZERO), voucher
        assert debit > 0
    assert Counter(each.kind for each in vouchers) == {
        "invoice": await value(
            connection, "select count(*) from invoices where invoice_number is not null"
        ),
        "credit_note": await value(connection, "select count(*) from credit_notes"),
        "payment": 2,
        "reversal": 1,
    }


async def test_the_sums_are_those_of_the_documents(connection: Connection) -> None:
    await a_years_corpus(connection)
    vouchers = await the_books(connection)
    vat = await value(
        connection,
        "select (select sum(tax_amount_nok) from invoices where invoice_number is not null)"
        " - (select sum(tax_amount_nok) from credit_notes)",
    )
    assert turnover(vouchers, "2700") == -vat
    kroner = [each for each in vouchers if each.currency == "NOK"]
    sales = await value(
        connection,
        f"select (select sum(subtotal) from {ISSUED} and currency = 'NOK')"
        " - (select sum(subtotal) from credit_notes where currency = 'NOK')",
    )
    assert sum((turnover(kroner, account) for account in ("3000", "3100", "3200")), ZERO) == -sales
    owed = await value(
        connection,
        f"select (select sum(total) from {ISSUED} and currency = 'NOK')"
        " - (select sum(total) from credit_notes where currency = 'NOK') - 100",
    )
    assert turnover(kroner, "1500") == owed
    assert turnover(kroner, "1920") == 100


async def test_income_and_vat_code_follow_the_category(connection: Connection) -> None:
    await a_years_corpus(connection)
    found = {
        (posting.account, posting.tax_code)
        for voucher in await the_books(connection)
        for posting in voucher.postings
        if posting.tax_code
    }
    assert found == {
        *(("3000", code) for code in ("3", "31", "33")),
        *(("3100", code) for code in ("5", "51", "52")),
        ("3200", "6"),
    }


async def test_a_sale_in_euros_is_booked_in_kroner_with_the_vat_that_was_stated(
    connection: Connection,
) -> None:
    await euros(connection)
    (voucher,) = await the_books(connection)
    # 10.02 at 11.6543 is 116.776, and the document states 29.25 of VAT.
    assert [(each.account, each.debit, each.credit) for each in voucher.postings] == [
        ("1500", Decimal("146.03"), ZERO),
        ("3000", ZERO, Decimal("116.78")),
        ("2700", ZERO, Decimal("29.25")),
    ]
    assert [each.in_currency for each in voucher.postings] == [
        *map(Decimal, ("12.53", "-10.02", "-2.51"))
    ]


async def test_a_currency_without_a_rate_is_refused_by_the_document_it_is_of(
    connection: Connection,
) -> None:
    await CORPUS["export_in_dollars"](connection)
    with pytest.raises(BooksRateMissing, match=r"INV-.*USD"):
        await the_books(connection)


async def test_only_the_days_that_were_asked_for_are_in_it(connection: Connection) -> None:
    await sold(connection)
    assert len(await list_vouchers(connection, today(), today())) == 1
    yesterday = today() - timedelta(days=1)
    assert await list_vouchers(connection, yesterday, yesterday) == []


@pytest.mark.parametrize("days", [-1, 366, 100_000])
async def test_a_period_has_a_day_and_at_most_a_year(days: int, connection: Connection) -> None:
    first = date(2026, 1, 1)
    with pytest.raises(BooksPeriodInvalid):
        await list_vouchers(connection, first, first + timedelta(days=days))


async def test_too_much_for_one_file_is_refused(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora.features.books.service.MAX_ENTRIES", 2)
    await sold(connection, a_sale(), a_sale("B", tax_code="zero"))
    assert len(await the_books(connection)) == 1
    await sold(connection)
    with pytest.raises(BooksTooLong):
        await the_books(connection)


async def test_the_journal_is_a_table_that_a_spreadsheet_may_open(connection: Connection) -> None:
    await sold(connection, name='=HYPERLINK("x")')
    rows = list(csv.DictReader(io.StringIO(journal_csv(await the_books(connection)).decode())))
    assert [(row["account"], row["debit"], row["credit"]) for row in rows] == [
        ("1500", "1250.00", "0.00"),
        ("3000", "0.00", "1000.00"),
        ("2700", "0.00", "250.00"),
    ]
    assert rows[0]["customer"] == '\'=HYPERLINK("x")'
    assert rows[1]["vat_code"] == "3"


def texts(document: bytes, name: str) -> list[str]:
    return [each.text or "" for each in etree.fromstring(document).iter(f"{{{NAMESPACE}}}{name}")]


def amounts(document: bytes, side: str) -> Decimal:
    """What all lines of a side add up to, as a reader of the file reckons."""
    path = f".//{{*}}Line/{{*}}{side}Amount/{{*}}Amount"
    found = etree.fromstring(document).iterfind(path)
    return sum((Decimal(each.text or "") for each in found), ZERO)


async def test_saft_has_a_transaction_for_every_voucher_and_its_totals(
    connection: Connection,
) -> None:
    await a_years_corpus(connection)
    document = await written(connection)
    vouchers = await the_books(connection)
    assert sorted(texts(document, "TransactionID")) == sorted(each.number for each in vouchers)
    assert texts(document, "NumberOfEntries") == [str(len(vouchers))]
    (debit,) = map(Decimal, texts(document, "TotalDebit"))
    (credit,) = map(Decimal, texts(document, "TotalCredit"))
    assert debit == credit == amounts(document, "Debit") == amounts(document, "Credit")
    # Whatever a line points at is in the master files.
    assert set(texts(document, "AccountID")) == set(ACCOUNTS)
    declared = {
        each.findtext("{*}CustomerID")
        for each in etree.fromstring(document).iterfind(".//{*}Customers/{*}Customer")
    }
    assert {each.organization_id.hex for each in vouchers} == declared
    codes = {
        each.findtext("{*}TaxCode")
        for each in etree.fromstring(document).iterfind(".//{*}TaxTable//{*}TaxCodeDetails")
    }
    assert codes == {posting.tax_code for v in vouchers for posting in v.postings} - {None}


async def test_saft_is_the_same_bytes_for_the_same_books(connection: Connection) -> None:
    await credited_in_part(connection)
    assert await written(connection) == await written(connection)


async def test_a_seller_outside_the_register_states_no_registration(
    connection: Connection,
) -> None:
    await a_seller(connection, vat_registered=False)
    await sold(connection)
    assert "923609016MVA" not in texts(await written(connection), "TaxRegistrationNumber")


async def test_a_schema_is_held_against_the_file(connection: Connection, tmp_path: Path) -> None:
    await sold(connection)
    document = await written(connection)
    schema = tmp_path / "saft.xsd"
    rule = (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="%s">'
        '<xs:element name="%s"><xs:complexType><xs:sequence><xs:any processContents="skip"'
        ' maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
    )
    schema.write_text(rule % (NAMESPACE, "AuditFile"))
    check_saft(document, schema)
    schema.write_text(rule % (NAMESPACE, "Another"))
    with pytest.raises(SaftInvalid, match="AuditFile"):
        check_saft(document, schema)
    schema.write_text("no schema")
    with pytest.raises(SaftInvalid, match="no schema"):
        check_saft(document, schema)


SCHEMA = os.environ.get("AURORA_TEST_SAFT_XSD")


@pytest.mark.skipif(SCHEMA is None, reason="AURORA_TEST_SAFT_XSD names no schema of Skatteetaten")
async def test_saft_follows_the_published_schema(connection: Connection) -> None:
    await a_years_corpus(connection)
    check_saft(await written(connection), Path(SCHEMA or ""))
