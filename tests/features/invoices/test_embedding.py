"""The page carries its own e-invoice, and both say the same in the language that was asked for."""

from __future__ import annotations

import io
import json
from typing import Any

import psycopg
import pytest
from pypdf import PdfReader
from tests.builders import an_organization
from tests.features.einvoices.corpus import GERMAN, credited_in_full, domestic, euros, sold
from tests.features.invoices.printed import LANGUAGES, pages_of
from tests.features.invoices.selling import a_sale, value

from aurora.core.money import Language
from aurora.features.invoices.model import SalesDocument
from aurora.features.invoices.service import get_document, render_document, write_ehf

Connection = psycopg.AsyncConnection[Any]


def embedded(pdf: bytes) -> dict[str, bytes]:
    """The files inside a PDF."""
    found = PdfReader(io.BytesIO(pdf)).attachments
    return {name: content for name, (content,) in found.items()}


async def text_in(document: SalesDocument, language: Language | None = None) -> str:
    return "\n".join(pages_of(await render_document(document, language)))


@pytest.mark.parametrize("build", [domestic, credited_in_full, euros])
async def test_the_page_carries_the_bytes_of_its_e_invoice(
    build: Any, connection: Connection
) -> None:
    document = await get_document(connection, await build(connection))
    for language in LANGUAGES:
        pdf = await render_document(document, language)
        assert embedded(pdf) == {f"{document.number}.xml": write_ehf(document)}
        assert b"/AFRelationship /Alternative" in pdf or b"/AFRelationship/Alternative" in pdf


async def test_the_same_invoice_is_the_same_bytes_whatever_happens_to_it(
    connection: Connection,
) -> None:
    invoice_id = await domestic(connection)
    first = await render_document(await get_document(connection, invoice_id))
    await connection.execute("update invoices set status = 'paid', paid_at = app.now()")
    await connection.execute("update organizations set name = 'Somebody Else'")
    await connection.execute("update legal_entities set name = 'Another Seller'")
    assert await render_document(await get_document(connection, invoice_id)) == first


async def test_a_buyer_outside_the_network_gets_the_page_alone(connection: Connection) -> None:
    invoice_id = await sold(connection, **{**GERMAN, "vat_number": None})
    document = await get_document(connection, invoice_id)
    assert embedded(await render_document(document)) == {}


async def a_draft_with_notes(conn: Connection, notes: list[Any], **buyer: Any) -> SalesDocument:
    organization = await an_organization(conn, **buyer)
    drafted = await value(
        conn,
        "select app.draft_manual_invoice(%s, %s::jsonb, 'NOK', null, %s::jsonb)",
        organization.id,
        json.dumps([a_sale()]),
        json.dumps(notes),
    )
    return await get_document(conn, drafted)


async def test_a_draft_carries_none_for_it_has_no_number(connection: Connection) -> None:
    document = await a_draft_with_notes(connection, [])
    assert embedded(await render_document(document)) == {}


async def test_notes_are_printed_in_the_language_of_the_page(connection: Connection) -> None:
    notes = ["Ref. 12", {"nb": "Takk for handelen", "en": "Thank you"}, {"nb": "Kun norsk"}]
    document = await a_draft_with_notes(connection, notes)
    norwegian, english = [await text_in(document, language) for language in LANGUAGES]
    assert "Takk for handelen" in norwegian
    assert "Thank you" not in norwegian
    assert "Thank you" in english
    assert "Takk for handelen" not in english
    for page in (norwegian, english):
        assert "Ref. 12" in page
        assert "Kun norsk" in page


async def test_notes_stand_in_the_e_invoice_as_its_one_note(connection: Connection) -> None:
    document = await a_draft_with_notes(connection, ["A", {"nb": "Hei", "en": "Hello"}])
    await value(connection, "select app.issue_invoice(%s)", document.id)
    found = await get_document(connection, document.id)
    assert b"A\nHei</cbc:Note>" in write_ehf(found)


async def test_the_page_is_in_the_customers_language_unless_another_is_named(
    connection: Connection,
) -> None:
    invoice_id = await sold(connection, settings={"language": "en"}, **GERMAN)
    document = await get_document(connection, invoice_id)
    assert "recipient outside the Norwegian VAT area" not in await text_in(document, "nb")
    own = await text_in(document)
    assert "Invoice number" in own
    assert "Exempt from Norwegian VAT" in own.replace("\n", " ")


async def test_vat_in_another_currency_is_printed_in_kroner(connection: Connection) -> None:
    document = await get_document(connection, await euros(connection))
    assert "MVA i norske kroner 29,25 kr" in await text_in(document)


async def test_a_credit_note_prints_its_reason_and_its_invoice(connection: Connection) -> None:
    document = await get_document(connection, await credited_in_full(connection))
    page = await text_in(document)
    assert "A mistake" in page
    assert f"Gjelder faktura {document.credited_number}" in page
