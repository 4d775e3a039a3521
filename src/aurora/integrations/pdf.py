"""Typesets a Typst template with data into an archivable, accessible PDF: same input, same bytes.

Data is only ever data. It reaches the template as JSON in `sys.inputs`, templates may not call
`eval` or import packages, and the compiler's own messages, which quote data, stay in here.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import importlib.metadata
import json
import mimetypes
import queue
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import typst

from aurora.core.errors import AuroraError, TooLarge, Unavailable
from aurora.integrations.pictures import png_size

RENDERERS: Final = 2
"""Documents typeset at the same time in one process; each keeps one core busy."""

MAX_WAITING: Final = 256
"""Documents that `render_pdf_async` lets wait or run before it refuses more."""

MAX_DATA_BYTES: Final = 4 * 1024 * 1024
MAX_ATTACHMENT_BYTES: Final = 8 * 1024 * 1024
MAX_PICTURES_BYTES: Final = 4 * 1024 * 1024

MAX_SUBSTITUTION_ROUNDS: Final = 3
"""How often characters without a glyph are replaced before the document is given up."""

TEXT_FAMILY: Final = "Inter"
"""The family that templates are drawn for; a dependency of this package ships its files."""

FONT_ENTRY_POINTS: Final = "fontpkg.family"
"""Font distributions announce themselves here. Each one installed adds glyphs to fall back on."""

STANDARDS: Final = ("a-3b", "ua-1")
"""PDF/A-3b (ISO 19005-3) to keep and to carry attachments; PDF/UA-1 (ISO 14289-1) to be read."""

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_MAIN_FILE: Final = "__typst_py_bytes__.typ"

_NO_FILES: Final[Mapping[str, bytes]] = MappingProxyType({})

# Inputs are text, and Typst reads a picture's bytes out of JSON one number at a time; the base64 of
# a frame of SVG around it is read at once, and the same pixels stand in the document.
_FRAME: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    '<image width="{width}" height="{height}" href="data:image/png;base64,{content}"/></svg>'
)

# The template stands first, so that its line numbers are those of its file.
_ATTACH: Final = b"""

#for file in json(bytes(sys.inputs.attachments)) {
  pdf.attach(
    file.name, bytes(file.content),
    relationship: "alternative", mime-type: file.mime, description: file.name,
  )
}
"""

_MISSING_GLYPH = re.compile(r'the text `"(.+?)"` could not be displayed')
_BARRED_CODEPOINT = re.compile(r'disallowed codepoint `"(.+?)"`')
_ESCAPED = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")
_PLACE = re.compile(r"┌─ (?P<file>[^\n]+?):(?P<line>\d+):(?P<column>\d+)")

# Embeddings, overrides, and isolates let a name reorder the amounts printed beside it.
_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class PdfNotRendered(AuroraError):
    """The template failed. The place is named; the compiler's words are not: they quote data."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "pdf_not_rendered"
    title: ClassVar[str] = "The document could not be typeset"


class PdfTooLarge(TooLarge):
    """The data or the attachments pass a limit of this module."""

    code: ClassVar[str] = "pdf_too_large"
    title: ClassVar[str] = "The document holds too much"


class PdfQueueFull(Unavailable):
    """Too many documents wait to be typeset in this process."""

    code: ClassVar[str] = "pdf_queue_full"
    title: ClassVar[str] = "Too many documents are waiting to be typeset"


def render_pdf(
    template: Path,
    data: Mapping[str, object],
    *,
    created_at: datetime,
    attachments: Mapping[str, bytes] = _NO_FILES,
    pictures: Mapping[str, bytes] = _NO_FILES,
) -> bytes:
    """Typeset a template into a tagged PDF/A-3b that also claims PDF/UA-1.

    The same arguments and fonts give the same bytes, in this process and in any other. Control
    characters are dropped; a character that no installed font can draw is shown as U+FFFD, since
    the standard forbids leaving a hole.

    Args:
        template: A `.typ` file. It may import the files of its own folder and nothing else, and
            reads the data as `json(bytes(sys.inputs.data))`.
        data: Strings, integers, booleans, None, and lists or mappings of them. Amounts and dates
            come as text: formatting is not the template's work.
        created_at: Aware; the document's creation and modification time, in whole seconds.
        attachments: File name to content, embedded as alternative representations.
        pictures: Name to PNG. The template draws one as
            `image(bytes(json(bytes(sys.inputs.pictures)).at(name)), format: "svg", alt: …)`.

    Returns:
        The file's bytes.

    Raises:
        PdfNotRendered: The template fails, evaluates text, or imports packages.
        PdfTooLarge: Data over MAX_DATA_BYTES, attachments over MAX_ATTACHMENT_BYTES, or pictures
            over MAX_PICTURES_BYTES.
        TypeError: The data holds anything but the types above.
        ValueError: `created_at` has no time zone.
    """
    if created_at.tzinfo is None:
        raise ValueError("created_at needs a time zone")
    source = _read_template(template)
    inputs = {"attachments": _attachments_json(attachments), "pictures": _pictures_json(pictures)}
    text = json.dumps(_printable(data), ensure_ascii=False, sort_keys=True)
    if len(text.encode()) > MAX_DATA_BYTES:
        raise PdfTooLarge(f"The data of a document may take at most {MAX_DATA_BYTES} bytes.")
    diagnostic = ""
    for _ in range(MAX_SUBSTITUTION_ROUNDS):
        try:
            with _borrowed_compiler() as compiler:
                return _compile(
                    compiler, source, template.parent, inputs | {"data": text}, created_at
                )
        except typst.TypstError as error:
            diagnostic = str(error.diagnostic)
        unprintable = _unprintable_characters(diagnostic)
        if not unprintable:
            break
        # None of these is ASCII, so the JSON around them stays as it is.
        text = text.translate(dict.fromkeys(map(ord, unprintable), REPLACEMENT))
    # Raised outside the handler: a chained TypstError would carry the data into the logs.
    raise PdfNotRendered(f"Typesetting failed at {_place(diagnostic, template)}.")


async def render_pdf_async(
    template: Path,
    data: Mapping[str, object],
    *,
    created_at: datetime,
    attachments: Mapping[str, bytes] = _NO_FILES,
    pictures: Mapping[str, bytes] = _NO_FILES,
) -> bytes:
    """Do what `render_pdf` does in one of RENDERERS threads; the event loop stays free.

    Raises:
        PdfQueueFull: MAX_WAITING documents are waiting or running already.
    """
    if not _places.acquire(blocking=False):
        raise PdfQueueFull(f"{MAX_WAITING} documents are waiting already; try again shortly.")
    work = functools.partial(
        render_pdf,
        template,
        data,
        created_at=created_at,
        attachments=attachments,
        pictures=pictures,
    )
    try:
        turn = _threads().submit(work)
    except BaseException:
        _places.release()
        raise
    # The place is given back when the work ends, not when somebody stops waiting for it.
    turn.add_done_callback(lambda _: _places.release())
    return await asyncio.wrap_future(turn)


def _compile(
    compiler: typst.Compiler,
    source: bytes,
    root: Path,
    inputs: dict[str, str],
    created_at: datetime,
) -> bytes:
    document = compiler.compile(
        source,
        format="pdf",
        root=root,
        sys_inputs=inputs,
        pdf_standards=list(STANDARDS),
        timestamp=created_at.astimezone(UTC),
        pdf_tags=True,
    )
    if not isinstance(document, bytes):
        raise TypeError("the compiler returned no single document")
    return document


_places = threading.BoundedSemaphore(MAX_WAITING)
_idle: queue.LifoQueue[typst.Compiler] = queue.LifoQueue(maxsize=RENDERERS)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=RENDERERS, thread_name_prefix="pdf")


@contextmanager
def _borrowed_compiler() -> Iterator[typst.Compiler]:
    """Lend a compiler to one thread at a time: a shared one answers "Already borrowed".

    Compilers are kept because a kept one holds its memory flat, over 1,200 documents in one, two,
    and four threads. `typst.compile`, or a new Compiler a document, grew by 0.03 to 0.3 MB each
    (measured with 0.15.2).
    """
    try:
        compiler = _idle.get_nowait()
    except queue.Empty:
        compiler = typst.Compiler(font_paths=_fonts(), ignore_system_fonts=True)
    try:
        yield compiler
    finally:
        with suppress(queue.Full):
            _idle.put_nowait(compiler)


@functools.cache
def _fonts() -> typst.Fonts:
    """Find the fonts once: installed packages and the compiler's own, never the system's.

    Raises:
        PdfNotRendered: TEXT_FAMILY is not among them; a stand-in would change every document.
    """
    folders: list[Path] = []
    for entry in sorted(importlib.metadata.entry_points(group=FONT_ENTRY_POINTS)):
        root = getattr(entry.load(), "ROOT", None)
        if isinstance(root, Path):
            folders.append(root)
    fonts = typst.Fonts(include_system_fonts=False, font_paths=list(folders))
    if TEXT_FAMILY not in fonts.families():
        raise PdfNotRendered(f"The font family {TEXT_FAMILY} is not installed.")
    return fonts


@functools.lru_cache(maxsize=64)
def _read_template(template: Path) -> bytes:
    """Read a template once, after making sure that its folder can neither evaluate nor download."""
    for path in sorted(template.parent.rglob("*.typ")):
        source = path.read_text(encoding="utf-8")
        if '"@' in source or re.search(r"\beval\b", source):
            raise PdfNotRendered(f"{path.name} uses eval or a package; templates may do neither.")
    return template.read_bytes() + _ATTACH


def _attachments_json(attachments: Mapping[str, bytes]) -> str:
    if sum(map(len, attachments.values())) > MAX_ATTACHMENT_BYTES:
        raise PdfTooLarge(f"Attachments may take at most {MAX_ATTACHMENT_BYTES} bytes together.")
    files: list[dict[str, object]] = []
    for name, content in attachments.items():
        mime, _ = mimetypes.guess_type(name)
        files.append(
            {
                "name": name,
                "mime": mime or "application/octet-stream",
                "content": _as_json_bytes(content),
            }
        )
    return json.dumps(files, ensure_ascii=False)


def _pictures_json(pictures: Mapping[str, bytes]) -> str:
    if sum(map(len, pictures.values())) > MAX_PICTURES_BYTES:
        raise PdfTooLarge(f"Pictures may take at most {MAX_PICTURES_BYTES} bytes together.")
    framed: dict[str, str] = {}
    for name, content in pictures.items():
        width, height = png_size(content)
        inside = base64.b64encode(content).decode("ascii")
        framed[name] = _FRAME.format(width=width, height=height, content=inside)
    return json.dumps(framed)


def _as_json_bytes(content: bytes) -> str | list[int]:
    """Return text where the bytes are UTF-8, for Typst reads it ten times faster than numbers."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return list(content)


def _printable(value: object) -> Any:
    """Copy display data without the characters that no page can show or that mislead a reader."""
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return value
        return "".join(map(_printable_character, value))
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    raise TypeError(f"display data holds text and whole numbers, not {type(value).__name__}")


def _printable_character(character: str) -> str:
    if character in "\n\t":
        return character
    if character in _BIDI_CONTROLS or character == "\ufeff":
        return ""
    category = unicodedata.category(character)
    if category == "Cc":
        return ""
    # Lone surrogates and private use have no agreed appearance.
    return REPLACEMENT if category in {"Cs", "Co"} else character


def _unprintable_characters(diagnostic: str) -> set[str]:
    """Read out of the compiler's message which characters had no glyph or are forbidden."""
    found: set[str] = set()
    for pattern in (_MISSING_GLYPH, _BARRED_CODEPOINT):
        for quoted in pattern.findall(diagnostic):
            text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), quoted)
            found.update(character for character in text if not character.isascii())
    return found - {REPLACEMENT}


def _place(diagnostic: str, template: Path) -> str:
    match = _PLACE.search(diagnostic)
    if match is None:
        return template.name
    # Main files are handed over as bytes and appear under the binding's own name for them.
    file = template.name if match["file"].endswith(_MAIN_FILE) else Path(match["file"]).name
    return f"{file}, line {match['line']}, column {match['column']}"
