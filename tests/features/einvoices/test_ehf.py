"""Every kind of document is an e-invoice that the network takes, or there is a clear refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from lxml import etree
from tests.features.einvoices.corpus import (
    CORPUS,
    GERMAN,
    Builder,
    a_seller,
    billed,
    credited_in_full,
    domestic,
    euros,
    pro_rata,
    sold,
    today,
)
from tests.features.einvoices.oracle import Oracle, an_oracle
from tests.features.invoices.selling import a_sale, value

from aurora.features.einvoices.model import EInvoiceBlocked, SoldLine
from aurora.features.einvoices.service import figures_of
from aurora.features.invoices.refusals import InvoiceNotIssued
from aurora.features.invoices.service import get_document, write_ehf

Connection = psycopg.AsyncConnection[Any]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with an_oracle() as judges:
        yield judges


async def ehf(conn: Connection, build: Builder) -> bytes:
    return write_ehf(await get_document(conn, await build(conn)))


def said(document: bytes, path: str) -> list[str]:
    """The texts at a path; names stand for any namespace."""
    steps = "/".join(f"{{*}}{step}" for step in path.split("/"))
    return [each.text or "" for each in etree.fromstring(document).iterfind(f".//{steps}")]


@pytest.mark.parametrize("build", CORPUS.values(), ids=CORPUS)
async def test_it_passes_the_rules_of_cen_and_peppol_and_the_schema(
    build: Builder, oracle: Oracle, connection: Connection
) -> None:
    assert oracle.findings(await ehf(connection, build)) == []


@pytest.mark.parametrize(
    ("pattern", "wrong", "rule"),
    [
        (r"<cbc:PriceAmount([^>]*)>[^<]*<", r"<cbc:PriceAmount\1>1<", "R120"),
        (r"<cbc:TaxInclusiveAmount([^>]*)>[^<]*<", r"<cbc:TaxInclusiveAmount\1>1<", "BR-CO-15"),
        (r"923609016</cbc:EndpointID>", r"923609017</cbc:EndpointID>", "COMMON-R041"),
        (r"(?s)<cbc:BuyerReference>.*?</cbc:BuyerReference>", "", "R003"),
        (r"<cac:InvoicePeriod>", "<cac:Delivery/><cac:InvoicePeriod>", "XSD"),
        (r"<cbc:DueDate>", "<cbc:Note/><cbc:DueDate>", "XSD"),
        (r"Foretaksregisteret", "Register", "NO-R-002"),
    ],
)
async def test_the_judges_see_what_is_wrong(
    pattern: str, wrong: str, rule: str, oracle: Oracle, connection: Connection
) -> None:
    document = (await ehf(connection, domestic)).decode()
    changed = re.sub(pattern, wrong, document, count=1)
    assert any(rule in finding for finding in oracle.findings(changed.encode()))


async def test_the_same_document_is_the_same_bytes(connection: Connection) -> None:
    invoice_id = await pro_rata(connection)
    first = write_ehf(await get_document(connection, invoice_id))
    # What happens to an invoice afterwards is not on it.
    await connection.execute(
        "update invoices set status = 'paid', paid_at = app.now(), metadata = '{\"a\": 1}'"
        " where status = 'issued'"
    )
    assert write_ehf(await get_document(connection, invoice_id)) == first


async def test_only_a_company_stands_in_the_register_of_companies(
    oracle: Oracle, connection: Connection
) -> None:
    await a_seller(connection, in_business_register=False)
    document = write_ehf(await get_document(connection, await sold(connection)))
    assert b"Foretaksregisteret" not in document
    # The rule warns, for it cannot know a sole proprietor from a company.
    (warning,) = oracle.findings(document)
    assert warning.startswith("warning NO-R-002")


async def test_it_says_what_the_law_and_the_bank_want(connection: Connection) -> None:
    invoice_id = await domestic(connection)
    found = await get_document(connection, invoice_id)
    document = write_ehf(found)
    assert said(document, "PaymentMeans/PaymentID") == [found.kid]
    assert said(document, "PaymentMeans/PayeeFinancialAccount/ID") == ["12345678903"]
    assert said(document, "AccountingSupplierParty/Party/PartyTaxScheme/CompanyID") == [
        "NO923609016MVA",
        "Foretaksregisteret",
    ]
    assert said(document, "Item/Name") == ["Oppstart & opplæring <kurs>"]
    assert said(document, "LegalMonetaryTotal/PayableAmount") == ["1543.20"]


async def test_vat_in_euros_is_stated_in_kroner_too(connection: Connection) -> None:
    document = await ehf(connection, euros)
    assert said(document, "TaxCurrencyCode") == ["NOK"]
    # 25 % of 10.02 is 2.505, so 2.51; at 11.6543 that is 29.252.
    assert said(document, "TaxTotal/TaxAmount") == ["2.51", "29.25"]
    assert said(document, "PayeeFinancialAccount/ID") == ["NO9386011117947"]


async def test_a_credit_note_names_its_invoice_and_asks_for_no_payment(
    connection: Connection,
) -> None:
    note_id = await credited_in_full(connection)
    document = write_ehf(await get_document(connection, note_id))
    number = await value(connection, "select invoice_number from invoices")
    assert said(document, "InvoiceDocumentReference/ID") == [number]
    assert said(document, "CreditNoteTypeCode") == ["381"]
    assert said(document, "Note")[0] == "A mistake"
    assert said(document, "PaymentMeans/PaymentMeansCode") == []


async def test_overage_is_begun_thousands_or_a_share_of_one(connection: Connection) -> None:
    begun = write_ehf(
        await get_document(connection, await billed(connection, overage_rate=Decimal(50)))
    )
    # 10,001 used less 2,000 included is 8,001: nine thousands are begun.
    assert said(begun, "InvoicedQuantity")[0] == "9"
    assert said(begun, "InvoiceLine/LineExtensionAmount")[0] == "450.00"
    share = await ehf(connection, pro_rata)
    assert said(share, "InvoicedQuantity")[0] == "8001"
    assert said(share, "Price/BaseQuantity")[0] == "1000"
    # 8.001 times 49.99 is 399.96999.
    assert said(share, "InvoiceLine/LineExtensionAmount")[0] == "399.97"


async def test_a_specimen_says_so(connection: Connection) -> None:
    specimen = write_ehf(await get_document(connection, await sold(connection)))
    assert "SPECIMEN" in said(specimen, "Note")[0]
    assert said(await ehf(connection, domestic), "Note") == []


async def test_a_buyer_outside_the_network_is_refused_clearly(connection: Connection) -> None:
    invoice_id = await sold(connection, **{**GERMAN, "vat_number": None})
    with pytest.raises(EInvoiceBlocked, match="Peppol network"):
        write_ehf(await get_document(connection, invoice_id))


async def test_a_buyer_who_wants_none_gets_none(connection: Connection) -> None:
    invoice_id = await sold(connection)
    document = await get_document(connection, invoice_id)
    document.buyer["einvoice"] = "never"
    with pytest.raises(EInvoiceBlocked, match="never"):
        write_ehf(document)


async def test_a_draft_has_none(connection: Connection) -> None:
    organization = await value(
        connection, "select organization_id from invoices where id = %s", await sold(connection)
    )
    draft = await value(
        connection,
        """select app.draft_manual_invoice(
          %s, '[{"description": "A", "quantity": 1, "unit_price": 1}]')""",
        organization,
    )
    with pytest.raises(InvoiceNotIssued):
        write_ehf(await get_document(connection, draft))


async def test_characters_that_xml_forbids_are_dropped(
    oracle: Oracle, connection: Connection
) -> None:
    nasty = "A\x01 B\x1b ]]> &amp; \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
    document = write_ehf(await get_document(connection, await sold(connection, a_sale(nasty))))
    assert said(document, "Item/Name") == ["A B ]]> &amp; \U0001f600"]
    assert oracle.findings(document) == []


@pytest.mark.parametrize(
    ("quantity", "price", "base", "amount", "expected"),
    [
        ("3", "10", "1", "30.00", ("3", "10", "1")),
        ("-1", "10", "1", "-10.00", ("-1", "10", "1")),
        # A price is never negative (BR-27).
        ("1", "-10", "1", "-10.00", ("-1", "10", "1")),
        # 19 of 31 days of 3,500 is 2,145.16; a cent is within the leeway, a krone is not.
        ("19", "3500", "31", "2145.17", ("19", "3500", "31")),
        ("19", "3500", "31", "2146.16", ("1", "2146.16", "1")),
        ("5", "2", "1", "-7.00", ("-1", "7.00", "1")),
    ],
)
def test_quantity_times_price_is_the_amount(
    quantity: str, price: str, base: str, amount: str, expected: tuple[str, str, str]
) -> None:
    line = SoldLine(
        description="A",
        detail=None,
        quantity=Decimal(quantity),
        unit="day",
        unit_price=Decimal(price),
        base_quantity=Decimal(base),
        amount=Decimal(amount),
        tax_category="S",
        tax_rate=Decimal(25),
        period_start=today(),
        period_end=today(),
    )
    assert figures_of(line) == tuple(map(Decimal, expected))
