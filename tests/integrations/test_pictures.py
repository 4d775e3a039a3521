"""A picture is drawn anew: what is kept is pixels, whatever the file was or wanted."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.integrations.pictures import JPEG, a_png, an_svg

from aurora.core.errors import AuroraError
from aurora.integrations import drawing, pictures
from aurora.integrations.pictures import (
    MAX_PICTURE_BYTES,
    DrawingBusy,
    Picture,
    PictureInvalid,
    PictureTooLarge,
    png_size,
    redraw,
)


async def drawn(content: bytes) -> Picture:
    return await redraw(content, max_width=840, max_height=320)


def a_jpeg(width: int, height: int) -> bytes:
    """The headers of a JPEG: two segments, and then the frame that states its size."""
    frame = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x03" + bytes(9)
    segments = ((0xE0, b"JFIF\0" + bytes(9)), (0xDB, bytes(65)), (0xC2, frame))
    written = b"".join(
        bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2) + data for marker, data in segments
    )
    return b"\xff\xd8" + written + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "sides"),
    [
        (a_png(600, 200), (600, 200)),
        (a_png(1680, 400), (840, 200)),
        (a_png(100, 1600), (20, 320)),
        (JPEG, (64, 32)),
        (an_svg(width=30, height=10), (840, 280)),
        (an_svg(width=1000, height=4000), (80, 320)),
    ],
    ids=["as it is", "wide", "tall", "JPEG", "small SVG", "tall SVG"],
)
async def test_a_picture_is_fitted_and_only_an_svg_enlarged(
    content: bytes, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MIN_SIDE_PIXELS", 1)
    found = await drawn(content)
    assert (found.width, found.height) == png_size(found.content) == sides
    assert (await drawn(content)) == found


async def test_nothing_of_the_file_but_its_pixels_is_kept() -> None:
    assert b"Kari Nordmann" in a_png(text="Kari Nordmann")
    found = await drawn(a_png(text="Kari Nordmann"))
    assert found == await drawn(a_png())
    assert b"Kari" not in found.content


NOT_PICTURES = {
    "nothing": b"",
    "a PDF": b"%PDF-1.7",
    "a page": b"<html><body/></html>",
    "half a PNG": a_png(rows=10),
    "the beginning of a PNG": a_png()[:20],
    "a PNG without sides": a_png(0, 0),
    "a PNG of one pixel": a_png(1, 1),
    "a hairline": a_png(2000, 30),
    "a JPEG without a frame": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9",
    "a JPEG that ends in a header": b"\xff\xd8\xff\xe0\xff\xff",
    "a JPEG of headers": a_jpeg(600, 200),
    "an SVG with a script": an_svg("<script>alert(1)</script>"),
    "an SVG with a handler": an_svg('<g onload="alert(1)"/>'),
    "an SVG with a page in it": an_svg("<foreignObject><p/></foreignObject>"),
    "an SVG with a picture in it": an_svg('<image href="data:image/png;base64,AAAA"/>'),
    "an SVG with a file in it": an_svg('<image xlink:href="file:///etc/passwd"/>'),
    "an SVG that uses another": an_svg('<use xlink:href="https://example.com/a.svg#b"/>'),
    "an SVG with a style from elsewhere": an_svg(
        "<style>@import 'https://example.com/a.css';</style>"
    ),
    "an SVG filled from elsewhere": an_svg("<path fill=\"url( 'https://example.com/#a')\"/>"),
    "an SVG with text": an_svg("<text>Hotell</text>"),
    "an SVG with entities": b'<!DOCTYPE svg [<!ENTITY a "aaaa">]>' + an_svg("<g>&a;</g>"),
    "an SVG with a file for an entity": b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    + an_svg("<desc>&a;</desc>"),
    "half an SVG": an_svg()[:-3],
}


@pytest.mark.parametrize("content", NOT_PICTURES.values(), ids=NOT_PICTURES)
async def test_what_is_no_plain_picture_is_refused_with_a_sentence(content: bytes) -> None:
    with pytest.raises(PictureInvalid) as refused:
        await drawn(content)
    assert refused.value.detail.endswith(".")
    assert "/etc/passwd" not in refused.value.detail


async def test_an_svg_may_refer_to_itself_and_name_its_type() -> None:
    doctype = (
        b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"'
        b' "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><!-- Generator -->'
    )
    inside = (
        '<defs><linearGradient id="a"><stop offset="0"/></linearGradient><g id="b"/></defs>'
        '<use xlink:href="#b"/><path fill="url(#a)" d="M0 0h9v9"/>'
        '<a href="https://example.com"><rect width="5" height="5"/></a>'
    )
    assert (await drawn(doctype + an_svg(inside))).width == 840


def used_again(levels: int) -> bytes:
    """An SVG of a few lines that stands for ten to the power of its levels."""
    groups = "".join(
        f'<g id="a{n}">' + f'<use xlink:href="#a{n - 1}" x="1"/>' * 10 + "</g>"
        for n in range(1, levels + 1)
    )
    first = '<g id="a0"><rect width="1" height="1"/></g>'
    return an_svg(f'<defs>{first}{groups}</defs><use xlink:href="#a{levels}"/>')


BOMBS = {
    "pixels": a_png(50_000, 50_000, rows=1),
    "pixels of a JPEG": a_jpeg(60_000, 60_000),
    "bytes": a_png(16, 16) + bytes(MAX_PICTURE_BYTES),
    "repetition": used_again(9),
    "depth": an_svg("<g>" * 60_000 + "</g>" * 60_000),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
async def test_what_unpacks_into_too_much_is_refused(content: bytes) -> None:
    with pytest.raises((PictureTooLarge, PictureInvalid)):
        await drawn(content)


def a_greedy_drawing(program: Path, greed: str) -> Path:
    """The drawing as it is, but for what it draws with: the limits alone are tried."""
    source = Path(drawing.__file__).read_text("utf-8")
    wrong = source.replace("    import typst\n", f"    {greed}\n")
    wrong = wrong.replace("MAX_CPU_S: Final = 5", "MAX_CPU_S: Final = 1")
    assert wrong.count(greed) == 1
    program.write_text(wrong, encoding="utf-8")
    return program


@pytest.mark.parametrize(
    "greed", ["x = bytearray(10**10)", "while True: pass"], ids=["memory", "processor"]
)
async def test_a_drawing_that_wants_too_much_is_ended_by_the_kernel(
    greed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = a_greedy_drawing(tmp_path / "greedy.py", greed)
    real = asyncio.create_subprocess_exec

    async def started(*arguments: str, **more: object) -> asyncio.subprocess.Process:
        return await real(sys.executable, str(program), *arguments[3:], **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    with pytest.raises(PictureTooLarge, match="memory or time"):
        await drawn(a_png())


async def test_a_drawing_that_hangs_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DRAWING_TIMEOUT_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(DrawingBusy):
        await drawn(a_png())
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a folder of nothing


async def test_more_than_a_few_at_once_are_refused_and_places_come_back() -> None:
    outcomes = await asyncio.gather(
        *(drawn(a_png()) for _ in range(pictures.DRAWN_AT_ONCE + 2)), return_exceptions=True
    )
    refused = [each for each in outcomes if isinstance(each, AuroraError)]
    assert [type(each) for each in refused] == [DrawingBusy] * 2
    assert (await drawn(a_png())).width == 600


async def test_the_drawing_is_told_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURORA_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    seen: dict[str, str] = {}
    real = asyncio.create_subprocess_exec

    async def started(*arguments: str, **more: object) -> asyncio.subprocess.Process:
        env = more["env"]
        assert isinstance(env, dict)
        seen.update(env)
        return await real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    await drawn(a_png())
    assert "PATH" in seen
    assert "secret" not in "".join(seen.values())
    assert os.environ["PGPASSWORD"] == "secret"
