"""Seller's and buyer's logo stand on a document, and stay on it whatever becomes of either."""

from __future__ import annotations

import io
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pypdf import PdfReader
from tests.builders import an_organization
from tests.features.einvoices.corpus import a_seller
from tests.features.invoices.printed import an_invoice, pages_of
from tests.features.invoices.selling import an_issued_invoice, credit, value
from tests.integrations.pictures import a_png, an_svg

from aurora.features.invoices.document import invoice_document, invoice_pdf
from aurora.features.invoices.explaining import replay_document
from aurora.features.invoices.service import (
    get_document,
    get_seller_logo,
    render_document,
    set_seller_logo,
    write_ehf,
)
from aurora.features.organizations.logos import set_logo
from aurora.features.organizations.model import LogoNotFound, Organization
from aurora.features.organizations.service import draw_logo
from aurora.integrations.pictures import Picture, redraw

Connection = psycopg.AsyncConnection[Any]
NOBODY = UUID(int=0)


async def a_logo(width: int = 300) -> Picture:
    return await draw_logo(an_svg(width=width))


def _objects(pdf: bytes) -> list[Any]:
    """Every dictionary of a document."""
    reader = PdfReader(io.BytesIO(pdf))
    numbers = sorted({*reader.xref.get(0, {}), *reader.xref_objStm})
    found: list[Any] = [reader.get_object(number) for number in numbers]
    return [each for each in found if isinstance(each, dict)]


def pictures_of(pdf: bytes) -> list[tuple[int, int]]:
    """The sides of the pictures in a document, in pixels, masks left out."""
    images = [each for each in _objects(pdf) if each.get("/Subtype") == "/Image"]
    masks = {each["/SMask"].get_object().indirect_reference for each in images if "/SMask" in each}
    return [
        (int(each["/Width"]), int(each["/Height"]))
        for each in images
        if each.indirect_reference not in masks
    ]


async def sold_with_logos(conn: Connection) -> tuple[Organization, UUID]:
    """An invoice of a seller and a buyer that each have a logo."""
    await a_seller(conn)
    buyer = await an_organization(conn)
    await set_seller_logo(conn, await a_logo(300))
    await set_logo(conn, buyer.id, await a_logo(200))
    return buyer, await an_issued_invoice(conn, organization=buyer)


async def printed(conn: Connection, document_id: UUID) -> bytes:
    return await render_document(await get_document(conn, document_id))


async def test_both_logos_stand_on_the_page_and_its_e_invoice_is_the_same(
    connection: Connection,
) -> None:
    _, invoice_id = await sold_with_logos(connection)
    document = await get_document(connection, invoice_id)
    page = await render_document(document)
    assert sorted(pictures_of(page)) == [(640, 320), (840, 280)]
    assert document.seller["logo_sha256"] != document.buyer["logo_sha256"]
    assert b"logo" not in write_ehf(document)
    # Who hears the page read hears whose logo it is (ISO 14289-1, 7.3).
    alternatives = [each["/Alt"] for each in _objects(page) if each.get("/S") == "/Figure"]
    assert sorted(alternatives) == ["Lyngen Fjordhotell AS", "Nordlys Data AS"]


async def test_a_document_shows_its_logos_for_ever(connection: Connection) -> None:
    buyer, invoice_id = await sold_with_logos(connection)
    first = await printed(connection, invoice_id)
    await set_seller_logo(connection, await a_logo(400))
    await set_logo(connection, buyer.id, None)
    await set_seller_logo(connection, None)
    assert await printed(connection, invoice_id) == first
    number = (await get_document(connection, invoice_id)).number
    assert number is not None
    assert (await replay_document(connection, number)).matches
    # A credit note is of the same seller and buyer as its invoice; the next invoice is not.
    note = await credit(connection, invoice_id)
    assert len(pictures_of(await printed(connection, note))) == 2
    later = await an_issued_invoice(connection, organization=buyer)
    assert pictures_of(await printed(connection, later)) == []


async def test_a_logo_that_nothing_shows_is_gone_and_one_that_is_shown_stays(
    connection: Connection,
) -> None:
    buyer, _ = await sold_with_logos(connection)
    shown = "select count(*) from organization_logos where organization_id = %s"
    await set_logo(connection, buyer.id, await a_logo(250))
    assert await value(connection, shown, buyer.id) == 2
    await set_logo(connection, buyer.id, await a_logo(260))
    assert await value(connection, shown, buyer.id) == 2
    await set_logo(connection, buyer.id, None)
    assert await value(connection, shown, buyer.id) == 1
    await set_seller_logo(connection, await a_logo(250))
    await set_seller_logo(connection, None)
    assert await value(connection, "select count(*) from seller_logos") == 1
    with pytest.raises(LogoNotFound):
        await get_seller_logo(connection)


# PostgreSQL 18 calls a restricted deletion by a state of its own.
REFERENCED = {"23503", "23001"}
STATEMENTS = {
    "removed": ("delete from organization_logos", REFERENCED),
    "the seller's removed": ("delete from seller_logos", REFERENCED),
    "replaced": ("update organization_logos set content = 'other'", {"23514"}),
    "renamed": (
        "update organization_logos set content = 'other', sha256 = encode(sha256('other'), 'hex')",
        REFERENCED,
    ),
    "named otherwise": ("update invoices set buyer = buyer - 'logo_sha256'", {"AU000"}),
}


@pytest.mark.parametrize("what", STATEMENTS)
async def test_not_even_the_owner_takes_a_logo_from_a_document(
    what: str, connection: Connection
) -> None:
    buyer, _ = await sold_with_logos(connection)
    await set_logo(connection, buyer.id, None)
    await set_seller_logo(connection, None)
    statement, refusals = STATEMENTS[what]
    await connection.execute("reset role")
    with pytest.raises(psycopg.Error) as refused:
        await connection.execute(statement.encode())
    assert refused.value.sqlstate in refusals


async def test_without_its_foreign_key_a_document_would_lose_its_logo(
    connection: Connection,
) -> None:
    buyer, invoice_id = await sold_with_logos(connection)
    first = await printed(connection, invoice_id)
    await connection.execute("reset role")
    await connection.execute("alter table invoices drop constraint invoices_buyer_logo_fkey")
    await set_logo(connection, buyer.id, None)
    assert await printed(connection, invoice_id) != first


async def test_an_organization_that_is_not_there_gets_no_logo(connection: Connection) -> None:
    with pytest.raises(psycopg.Error, match="organization_not_found"):
        await set_logo(connection, NOBODY, await a_logo())


async def test_an_erased_organization_keeps_what_its_documents_show_and_no_more(
    connection: Connection,
) -> None:
    buyer, invoice_id = await sold_with_logos(connection)
    first = await printed(connection, invoice_id)
    await set_logo(connection, buyer.id, await a_logo(250))
    other = await an_organization(connection)
    await set_logo(connection, other.id, await a_logo(250))
    for organization in (buyer, other):
        await value(connection, "select app.erase_organization(%s)", organization.id)
    left = await connection.execute("select organization_id from organization_logos")
    assert await left.fetchall() == [(buyer.id,)]
    assert await printed(connection, invoice_id) == first
    assert (
        await value(connection, "select count(*) from organizations where logo_sha256 is not null")
        == 0
    )


@pytest.mark.parametrize(
    ("sides", "printed_um"),
    [((800, 100), (60_000, 7_500)), ((100, 320), (5_000, 16_000)), ((60, 60), (10_140, 10_140))],
    ids=["wide", "tall", "small"],
)
async def test_a_logo_is_fitted_into_its_place_and_never_printed_coarse(
    sides: tuple[int, int], printed_um: tuple[int, int]
) -> None:
    logo = await redraw(a_png(*sides), max_width=840, max_height=320)
    placed = invoice_document(an_invoice(seller_logo=logo.content), "nb")["logos"]["seller_logo"]
    assert (placed["width"], placed["height"]) == printed_um
    assert placed["alt"] == "Nordlys Data AS"


@pytest.mark.parametrize(
    "sides", [(840, 42), (42, 320), (320, 320)], ids=["wide", "tall", "square"]
)
async def test_with_logos_a_page_is_still_one_page(sides: tuple[int, int]) -> None:
    logo = (await redraw(a_png(*sides), max_width=840, max_height=320)).content
    pages = pages_of(invoice_pdf(an_invoice(seller_logo=logo, buyer_logo=logo), "nb"))
    assert len(pages) == 1
    assert "Lyngen Fjordhotell AS" in pages[0]
