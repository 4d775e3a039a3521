"""A template and its data become an archivable PDF, whatever the data says."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from aurora.integrations import pdf
from aurora.integrations.pdf import (
    MAX_ATTACHMENT_BYTES,
    MAX_DATA_BYTES,
    PdfNotRendered,
    PdfQueueFull,
    PdfTooLarge,
    render_pdf,
    render_pdf_async,
)

CREATED_AT = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)

LETTER = """
#let letter = json(bytes(sys.inputs.data))
#set document(title: letter.title, author: "Aurora", date: auto)
#set text(font: "Inter", lang: "nb")
#heading(letter.title)
#for row in letter.at("rows", default: ()) { par(row) }
#for (name, value) in letter.at("facts", default: (:)) [#name: #value \\ ]
"""


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    template = tmp_path / "letter.typ"
    template.write_text(LETTER, encoding="utf-8")
    return template


def a_template(folder: Path, source: str, name: str = "broken.typ") -> Path:
    template = folder / name
    template.write_text(source, encoding="utf-8")
    return template


def opened(document: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(document))


def catalogue_of(document: bytes) -> Any:
    """Return the root object, untyped: pypdf's objects know their keys only when they run."""
    return opened(document).root_object


def text_of(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in opened(document).pages)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def test_the_same_input_gives_the_same_bytes_twice_and_in_any_order(letter: Path) -> None:
    facts = {"b": "to", "a": "en"}
    document = render_pdf(letter, {"title": "T", "facts": facts}, created_at=CREATED_AT)
    assert document == render_pdf(letter, {"title": "T", "facts": facts}, created_at=CREATED_AT)
    turned = {"facts": dict(reversed(facts.items())), "title": "T"}
    assert document == render_pdf(letter, turned, created_at=CREATED_AT)


def test_a_fresh_process_gives_the_same_bytes(letter: Path) -> None:
    script = (
        "import sys, json, hashlib; from pathlib import Path; from datetime import datetime;"
        "from aurora.integrations.pdf import render_pdf;"
        "template, data, at = sys.argv[1:];"
        "document = render_pdf(Path(template), json.loads(data),"
        " created_at=datetime.fromisoformat(at), attachments={'a.xml': b'<a/>'});"
        "print(hashlib.sha256(document).hexdigest())"
    )
    data = {"title": "Hei på deg", "rows": ["blåbærsyltetøy", "日本"]}
    here = render_pdf(letter, data, created_at=CREATED_AT, attachments={"a.xml": b"<a/>"})
    there = subprocess.run(
        [sys.executable, "-c", script, str(letter), json.dumps(data), CREATED_AT.isoformat()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_another_time_gives_other_bytes_but_another_zone_does_not(letter: Path) -> None:
    oslo = CREATED_AT.astimezone(timezone(timedelta(hours=1)))
    document = render_pdf(letter, {"title": "Hei"}, created_at=CREATED_AT)
    assert render_pdf(letter, {"title": "Hei"}, created_at=oslo) == document
    later = CREATED_AT + timedelta(seconds=1)
    assert render_pdf(letter, {"title": "Hei"}, created_at=later) != document


def test_a_time_without_a_zone_is_refused(letter: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        render_pdf(letter, {"title": "Hei"}, created_at=CREATED_AT.replace(tzinfo=None))


def test_the_document_says_that_it_is_archivable_and_accessible(letter: Path) -> None:
    document = render_pdf(letter, {"title": "Hei"}, created_at=CREATED_AT)
    catalogue = catalogue_of(document)
    xmp = catalogue["/Metadata"].get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part>" in xmp
    assert "<pdfaid:conformance>B</pdfaid:conformance>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    assert catalogue["/MarkInfo"]["/Marked"].value is True
    assert "/StructTreeRoot" in catalogue
    assert catalogue["/Lang"] == "nb"
    metadata = opened(document).metadata
    assert metadata is not None
    assert metadata.title == "Hei"
    assert metadata.author == "Aurora"
    assert metadata.creation_date == CREATED_AT


def test_every_font_is_embedded(letter: Path) -> None:
    document = render_pdf(letter, {"title": "Hei", "rows": ["שלום", "Ω"]}, created_at=CREATED_AT)
    resources: Any = opened(document).pages[0]["/Resources"]
    fonts = [font.get_object() for font in resources["/Font"].values()]
    assert len(fonts) >= 2
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert {"/FontFile2", "/FontFile3"} & set(descriptor)


def test_attachments_come_out_as_they_went_in(letter: Path) -> None:
    files = {"faktura.xml": "<å/>".encode(), "raw.bin": bytes(range(256))}
    document = render_pdf(letter, {"title": "Hei"}, created_at=CREATED_AT, attachments=files)
    found = {name: content[0] for name, content in opened(document).attachments.items()}
    assert found == files
    described = [entry.get_object() for entry in catalogue_of(document)["/AF"]]
    assert {entry["/AFRelationship"] for entry in described} == {"/Alternative"}


def test_text_is_never_evaluated(letter: Path) -> None:
    hostile = '#panic("x") *b* _e_ $x$ \\ `c` @r <l> // d /* e */ #sys.inputs ``` -> <= -- ---'
    document = render_pdf(letter, {"title": hostile, "rows": [hostile]}, created_at=CREATED_AT)
    assert text_of(document).replace("\n", "").count(hostile) == 2


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.text(st.characters(), max_size=80))
def test_any_text_can_be_printed(letter: Path, text: str) -> None:
    # Surrogates are included by st.characters(): JSON from elsewhere may hold them.
    document = render_pdf(letter, {"title": "T", "rows": [text]}, created_at=CREATED_AT)
    assert document == render_pdf(letter, {"title": "T", "rows": [text]}, created_at=CREATED_AT)


@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_ascii_character_comes_out_as_it_was(letter: Path, text: str) -> None:
    document = render_pdf(letter, {"title": "T", "rows": [text]}, created_at=CREATED_AT)
    assert text in text_of(document).replace("\n", "")


def test_a_character_without_a_glyph_is_shown_as_missing(letter: Path) -> None:
    document = render_pdf(letter, {"title": "T", "rows": ["Hotell 🌌 旅"]}, created_at=CREATED_AT)
    assert "Hotell \ufffd \ufffd" in text_of(document)


def test_controls_that_reorder_the_line_are_dropped(letter: Path) -> None:
    document = render_pdf(
        letter,
        {"title": "T", "rows": ["s\ufeffum \u202e000,1\u202c kr\u2066\x00\x07"]},
        created_at=CREATED_AT,
    )
    assert "sum 000,1 kr" in text_of(document)


def test_a_failing_template_names_the_place_and_not_the_data(tmp_path: Path) -> None:
    source = '#let d = json(bytes(sys.inputs.data))\n#set document(title: "T")\n#panic(d.secret)'
    secret = "hemmelig-42"  # a traceback shows source lines: the raising one holds only the name
    with pytest.raises(PdfNotRendered) as caught:
        render_pdf(a_template(tmp_path, source), {"secret": secret}, created_at=CREATED_AT)
    assert "broken.typ, line 3" in caught.value.detail
    assert secret not in "".join(traceback.format_exception(caught.value, chain=True))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_failing_part_is_named_by_its_own_file(tmp_path: Path) -> None:
    a_template(tmp_path, "#let a = 1\n#let b = a.nothing", "part.typ")
    template = a_template(tmp_path, '#import "part.typ": *\n#set document(title: "T")')
    with pytest.raises(PdfNotRendered, match=r"part\.typ, line 2"):
        render_pdf(template, {}, created_at=CREATED_AT)


@pytest.mark.parametrize(
    "source", ['#import "@preview/cetz:0.3.0"', "#eval(sys.inputs.data)", "#let e = eval"]
)
def test_templates_may_neither_download_nor_evaluate(tmp_path: Path, source: str) -> None:
    with pytest.raises(PdfNotRendered, match="may do neither"):
        render_pdf(a_template(tmp_path, source), {}, created_at=CREATED_AT)


def test_templates_read_nothing_outside_their_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("s", encoding="utf-8")
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(PdfNotRendered):
        render_pdf(a_template(folder, '#read("../secret.txt")'), {}, created_at=CREATED_AT)


def test_data_and_attachments_have_a_limit(letter: Path) -> None:
    with pytest.raises(PdfTooLarge):
        render_pdf(letter, {"title": "å" * (MAX_DATA_BYTES // 2)}, created_at=CREATED_AT)
    with pytest.raises(PdfTooLarge):
        render_pdf(
            letter,
            {"title": "T"},
            created_at=CREATED_AT,
            attachments={"a": bytes(MAX_ATTACHMENT_BYTES), "b": b"1"},
        )


@pytest.mark.parametrize("value", [1.5, CREATED_AT, b"bytes", object()])
def test_only_text_and_whole_numbers_are_display_data(letter: Path, value: object) -> None:
    with pytest.raises(TypeError, match="display data"):
        render_pdf(letter, {"title": "T", "rows": [value]}, created_at=CREATED_AT)


def test_many_threads_get_the_bytes_that_one_gets(letter: Path) -> None:
    titles = [f"Tittel {number}" for number in range(24)]

    def render(title: str) -> bytes:
        return render_pdf(letter, {"title": title}, created_at=CREATED_AT)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(render, titles))
    assert together == [render(title) for title in titles]


async def test_the_event_loop_runs_on_while_documents_are_made(letter: Path) -> None:
    threads: set[int] = set()

    async def tick() -> int:
        count = 0
        while not done.is_set():
            threads.add(threading.get_ident())
            count += 1
            await asyncio.sleep(0)
        return count

    done = asyncio.Event()
    ticking = asyncio.create_task(tick())
    documents = await asyncio.gather(
        *(
            render_pdf_async(letter, {"title": f"T{number}"}, created_at=CREATED_AT)
            for number in range(6)
        )
    )
    done.set()
    assert await ticking > len(documents)
    assert documents[3] == render_pdf(letter, {"title": "T3"}, created_at=CREATED_AT)


async def test_waiting_documents_are_bounded_and_places_come_back(
    letter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "_places", threading.BoundedSemaphore(2))

    def render() -> asyncio.Task[bytes]:
        return asyncio.create_task(render_pdf_async(letter, {"title": "T"}, created_at=CREATED_AT))

    outcomes = await asyncio.gather(*(render() for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(PdfQueueFull) == 3
    assert (await render()).startswith(b"%PDF")


async def test_a_failure_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    template = a_template(tmp_path, "#panic()")
    with pytest.raises(PdfNotRendered):
        await render_pdf_async(template, {}, created_at=CREATED_AT)


def test_memory_does_not_grow_with_the_number_of_documents(letter: Path) -> None:
    def render(first: int) -> None:
        for number in range(first, first + 100):
            data = {"title": str(number), "rows": [f"rad {number} {row}" for row in range(100)]}
            render_pdf(letter, data, created_at=CREATED_AT)

    render(0)
    before = resident_mb()
    render(100)
    render(200)
    # Without a kept compiler it grew by up to 0.3 MB a document: 60 MB here.
    assert resident_mb() - before < 15
