"""Draws an uploaded picture anew, so that what is kept is pixels of ours and nothing of the file.

PNG, JPEG, and SVG go in and a small PNG comes out: without metadata, scripts, colour profiles, or
anything else a file can carry. The drawing is done by a process of its own (`drawing.py`).
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from lxml import etree

from aurora.core.errors import Invalid, TooLarge, Unavailable
from aurora.integrations.drawing import EXIT_NO_PICTURE, MAX_PICTURE_PIXELS

MAX_PICTURE_BYTES: Final = 512 * 1024
MAX_PROPORTION: Final = 20
"""How many times longer one side may be than the other; beyond, the shorter one is a hairline."""

MIN_SIDE_PIXELS: Final = 24
"""Of what was drawn; less would be a blot in print."""

DRAWN_AT_ONCE: Final = 4
"""In one process; nobody waits, for whoever sends a logo can send it again."""

DRAWING_TIMEOUT_S: Final = 20.0
"""Seconds of the clock; the kernel counts those of the processor."""

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_SVG: Final = "{http://www.w3.org/2000/svg}svg"
_PNG_SIZE: Final = struct.Struct(">II")
_PNG_SIZE_AT: Final = 16
_JPEG_MARK: Final = 0xFF
_JPEG_SIZE: Final = struct.Struct(">HBHH")
# Frames of every coding (ITU-T T.81, table B.1); C4, C8, and CC are tables of other kinds.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

_ACTIVE: Final = frozenset({"script", "foreignObject", "iframe", "handler", "listener"})
_EMBEDDED: Final = frozenset({"image", "feImage"})
_WRITTEN: Final = frozenset({"text", "textPath", "tref"})
_ELSEWHERE: Final = re.compile(r"""url\(\s*["']?\s*(?!\#)|@import""", re.IGNORECASE)

# What the child is told of its surroundings: nothing of ours.
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR")


class PictureInvalid(Invalid):
    """The file is no picture that can be drawn; the detail says which, and what to do."""

    code: ClassVar[str] = "picture_invalid"
    title: ClassVar[str] = "The file is not a picture that can be used"


class PictureTooLarge(TooLarge):
    """The file, or what it unpacks into, passes a limit."""

    code: ClassVar[str] = "picture_too_large"
    title: ClassVar[str] = "The picture is too large"


class DrawingBusy(Unavailable):
    """Too many are being drawn, or the machine did not come to it in time."""

    code: ClassVar[str] = "drawing_busy"
    title: ClassVar[str] = "The picture could not be drawn now; try again"


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, and its sides in pixels."""

    content: bytes
    width: int
    height: int


async def redraw(content: bytes, *, max_width: int, max_height: int) -> Picture:
    """Return a picture drawn anew to fit into a box; it is never enlarged, but for an SVG.

    Args:
        content: A whole PNG, JPEG, or SVG file.
        max_width: Of the result, in pixels.
        max_height: Of the result, in pixels.

    Raises:
        PictureInvalid: It is none of these, is damaged, or is an SVG that is more than a drawing.
        PictureTooLarge: Over MAX_PICTURE_BYTES, or over MAX_PICTURE_PIXELS once unpacked.
        DrawingBusy: DRAWN_AT_ONCE are being drawn, or it took longer than DRAWING_TIMEOUT_S.
    """
    if len(content) > MAX_PICTURE_BYTES:
        raise PictureTooLarge(f"A picture may take at most {MAX_PICTURE_BYTES // 1024} KiB.")
    kind, pixels = "svg", 0
    if content.startswith(_PNG):
        kind, pixels = "png", _pixels(*png_size(content))
    elif content.startswith(_JPEG):
        kind, pixels = "jpg", _pixels(*_jpeg_size(content))
    else:
        content = _plain_svg(content)
    if not _places.acquire(blocking=False):
        raise DrawingBusy
    try:
        drawn = await _draw(content, kind, pixels, max_width, max_height)
    finally:
        _places.release()
    width, height = png_size(drawn)
    if max(width, height) > MAX_PROPORTION * min(width, height):
        raise PictureInvalid(f"One side is more than {MAX_PROPORTION} times as long as the other.")
    if min(width, height) < MIN_SIDE_PIXELS:
        raise PictureInvalid(f"Drawn, it is {width} × {height} pixels: too small to be printed.")  # noqa: RUF001 - a multiplication sign
    return Picture(drawn, width, height)


# Of threads, for a loop cannot wait on a semaphore of another one; here nobody waits at all.
_places = threading.BoundedSemaphore(DRAWN_AT_ONCE)


async def _draw(content: bytes, kind: str, pixels: int, max_width: int, max_height: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="aurora-picture-") as folder:
        (Path(folder) / "picture").write_bytes(content)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aurora.integrations.drawing", folder, kind, str(pixels)),
            *(str(max_width), str(max_height)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            # Its complaints quote the picture.
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            | {"RAYON_NUM_THREADS": "1"},
        )
        try:
            drawn, _ = await asyncio.wait_for(child.communicate(), DRAWING_TIMEOUT_S)
        except TimeoutError:
            raise DrawingBusy from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    if child.returncode == EXIT_NO_PICTURE or (child.returncode == 0 and not drawn):
        raise PictureInvalid("The file is damaged, or is not what it begins like.")
    if child.returncode:
        raise PictureTooLarge("The picture takes more memory or time to draw than any logo needs.")
    return drawn


def _pixels(width: int, height: int) -> int:
    if not (width and height):
        raise PictureInvalid("The picture has no width or no height.")
    if width * height > MAX_PICTURE_PIXELS:
        raise PictureTooLarge(
            f"{width} × {height} pixels are too many: at most {MAX_PICTURE_PIXELS:,} can be used."  # noqa: RUF001 - a multiplication sign
        )
    return width * height


def png_size(content: bytes) -> tuple[int, int]:
    """Return the sides that a PNG states in its first chunk (RFC 2083, section 4.1.1), in pixels.

    Raises:
        PictureInvalid: It does not begin like a PNG.
    """
    if len(content) < _PNG_SIZE_AT + _PNG_SIZE.size or content[12:16] != b"IHDR":
        raise PictureInvalid("The PNG is damaged: it does not begin with its size.")
    width, height = _PNG_SIZE.unpack_from(content, _PNG_SIZE_AT)
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Return the sides that a JPEG states in the header of its frame (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(content) and content[at] == _JPEG_MARK:
        marker = content[at + 1]
        if marker == _JPEG_MARK or marker in _JPEG_ALONE:
            at += 1 if marker == _JPEG_MARK else 2
            continue
        if marker in _JPEG_FRAMES:
            _, _, height, width = _JPEG_SIZE.unpack_from(content, at + 2)
            return width, height
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise PictureInvalid("The JPEG is damaged: it does not state its size.")


def _plain_svg(content: bytes) -> bytes:
    """Return an SVG that is a drawing and nothing else, written anew.

    It is drawn into pixels, so nothing in it ever runs or is fetched. What would not be drawn is
    refused rather than left out, or the logo would silently be another one.

    Raises:
        PictureInvalid: It is no SVG, or more than a drawing.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True,
        remove_pis=True, huge_tree=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None or root.tag != _SVG:
        raise PictureInvalid("A logo is a PNG, a JPEG, or an SVG file; this is none of them.")
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(declared.iterentities(), None) is not None:
        raise PictureInvalid("The SVG declares entities: save it as a plain SVG.")
    for element in root.iter():
        _check_element(element)
    return bytes(etree.tostring(root))


def _check_element(element: etree._Element) -> None:
    if not isinstance(element.tag, str):
        raise PictureInvalid("The SVG refers to entities: save it as a plain SVG.")
    name = etree.QName(element).localname
    if name in _ACTIVE:
        raise PictureInvalid(f"The SVG holds a {name}: save it as a plain SVG.")
    if name in _EMBEDDED:
        raise PictureInvalid("The SVG holds another picture: use that as a PNG or JPEG instead.")
    if name in _WRITTEN:
        raise PictureInvalid("The SVG holds text, which needs a font: turn it into paths.")
    styles = [element.text or ""] if name == "style" else []
    for key, value in element.attrib.items():
        attribute = etree.QName(key).localname
        if attribute.lower().startswith("on"):
            raise PictureInvalid(f"The SVG holds a script ({attribute}): save it as a plain SVG.")
        # A link leads elsewhere and draws nothing.
        if attribute == "href" and name != "a" and not value.strip().startswith("#"):
            raise PictureInvalid("The SVG refers to something outside itself.")
        styles.append(value)
    if any(_ELSEWHERE.search(style) for style in styles):
        raise PictureInvalid("The SVG refers to something outside itself.")
