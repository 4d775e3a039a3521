"""Every kind of document keeps what PDF/A-3b (ISO 19005-3) asks of its structure.

The one program that judges the whole standard needs Java. What can be read out of a file is read
here, by another library than the one that wrote it; the compiler itself refuses what it knows to be
against the standard.
"""

from __future__ import annotations

import io
from typing import Any

import psycopg
import pytest
from pypdf import PdfReader
from tests.features.einvoices.corpus import CORPUS, Builder, in_english
from tests.features.invoices.test_logos import sold_with_logos

from aurora.features.invoices.service import get_document, render_document
from aurora.integrations import pdf as compiler

Connection = psycopg.AsyncConnection[Any]

# Clause 6.3.1: annotations; 6.4: forms; 6.5: actions; 6.1.7.2: no file elsewhere; 6.6: no scripts.
FORBIDDEN_KEYS = ("/JavaScript", "/JS", "/Launch", "/OpenAction", "/AA", "/XFA", "/F", "/Movie")


def objects_of(document: bytes) -> list[Any]:
    reader = PdfReader(io.BytesIO(document))
    numbers = sorted({*reader.xref.get(0, {}), *reader.xref_objStm})
    return [reader.get_object(number) for number in numbers]


def breaches(document: bytes) -> list[str]:
    """What of the standard a document breaks, as far as it shows in its structure."""
    reader = PdfReader(io.BytesIO(document))
    root: Any = reader.root_object
    found: list[str] = []

    def must(holds: object, rule: str) -> None:
        if not holds:
            found.append(rule)

    # 6.1.2, 6.1.3: header, binary comment, an identifier, no encryption.
    must(document[:8] == b"%PDF-1.7" and min(document[10:14]) > 127, "header")
    must("/ID" in reader.trailer, "identifier")
    must(not reader.is_encrypted and "/Encrypt" not in reader.trailer, "encrypted")
    # 6.6.2: metadata, uncompressed, that say which part and level.
    must("/Filter" not in root["/Metadata"], "metadata compressed")
    xmp = root["/Metadata"].get_data().decode()
    must("<pdfaid:part>3</pdfaid:part>" in xmp, "part")
    must("<pdfaid:conformance>B</pdfaid:conformance>" in xmp, "level")
    # 6.2.3: what colours mean.
    intents = root.get("/OutputIntents", [])
    must(
        any(each["/S"] == "/GTS_PDFA1" and "/DestOutputProfile" in each for each in intents),
        "intent",
    )
    must(
        all(each["/DestOutputProfile"].get_data()[36:40] == b"acsp" for each in intents), "profile"
    )
    # 6.8: each attached file says what it is to the document, and is named in the catalogue.
    for file in (each.get_object() for each in root.get("/AF", [])):
        must(file["/AFRelationship"] == "/Alternative" and "/UF" in file and "/F" in file, "file")
        must("/Subtype" in file["/EF"]["/F"], "file's type")
    for thing in objects_of(document):
        if isinstance(thing, dict):
            found += _of_object(thing)
    return found


def _of_object(thing: Any) -> list[str]:
    kind, found = thing.get("/Type"), []
    # 6.2.11.4: embedded, and with the characters that its glyphs stand for.
    if kind == "/FontDescriptor" and not {"/FontFile2", "/FontFile3"} & set(thing):
        found.append("font not embedded")
    if kind == "/Font" and thing.get("/Subtype") == "/Type0" and "/ToUnicode" not in thing:
        found.append("font without characters")
    if thing.get("/Subtype") == "/Image" and thing.get("/Interpolate"):
        found.append("interpolated")
    if thing.get("/Filter") in ("/LZWDecode", "/Crypt"):
        found.append("filter")
    if kind != "/Filespec":
        found += [f"{key} in {kind}" for key in FORBIDDEN_KEYS if key in thing and kind is not None]
    return found


@pytest.mark.parametrize("build", CORPUS.values(), ids=CORPUS)
async def test_every_kind_of_document_can_be_archived(
    build: Builder, connection: Connection
) -> None:
    document = await get_document(connection, await build(connection))
    assert breaches(await render_document(document)) == []


async def test_logos_keep_a_document_archivable(connection: Connection) -> None:
    _, invoice_id = await sold_with_logos(connection)
    assert breaches(await render_document(await get_document(connection, invoice_id))) == []


async def test_what_is_no_archive_is_seen(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await get_document(connection, await in_english(connection))
    real = compiler._compile

    def plain(*arguments: Any) -> bytes:
        monkeypatch.setattr(compiler, "STANDARDS", ("1.7",))
        return real(*arguments)

    monkeypatch.setattr(compiler, "_compile", plain)
    found = breaches(await render_document(document))
    assert {"part", "level", "intent"} <= set(found)
