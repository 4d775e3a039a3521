"""Finds out which format a file is in, or says clearly why none fits."""

from __future__ import annotations

import msgspec

from aurora.features.usage.importing.access_log import looks_like_access_log
from aurora.features.usage.importing.csv_rows import read_header
from aurora.features.usage.importing.formats import FORMATS, Format, UnknownFormat

MAX_LINES_TRIED = 20

# What people call the formats.
_ALIASES: dict[str, Format] = {
    **{name: name for name in FORMATS},
    **dict.fromkeys(("nginx", "apache", "combined", "common", "access-log", "log"), "access_log"),
    **dict.fromkeys(("json", "jsonl", "jsonlines"), "ndjson"),
    **dict.fromkeys(("cloudevent", "cloud-events"), "cloudevents"),
}
_OTHER_KINDS = (
    (b"PK\x03\x04", "a ZIP archive (or a spreadsheet); unpack it or save it as CSV"),
    (b"BZh", "compressed with bzip2; unpack it or use gzip"),
    (b"\xfd7zXZ", "compressed with xz; unpack it or use gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it or use gzip"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"PAR1", "a Parquet file; write it as CSV or NDJSON"),
)


def named_format(name: str) -> Format | None:
    """Return the format of this name or alias; None for `auto`, which is to be found out.

    Raises:
        UnknownFormat: No format is called so.
    """
    if name == "auto":
        return None
    if name.lower() not in _ALIASES:
        raise UnknownFormat(f"There is no format {name!r}; choose auto, {', '.join(FORMATS)}")
    return _ALIASES[name.lower()]


def is_array(head: bytes) -> bool:
    """Tell whether the file is one JSON array."""
    return head.lstrip()[:1] == b"["


def detect_format(head: bytes) -> Format:
    """Return the format that the beginning of a file is in.

    Args:
        head: The decompressed beginning, without byte order mark; not blank.

    Raises:
        UnknownFormat: None fits; the sentence names what was tried and why it failed.
    """
    for magic, kind in _OTHER_KINDS:
        if head.startswith(magic):
            raise UnknownFormat(f"The file is {kind}")
    if b"\0" in head:
        raise UnknownFormat("The file is binary: it holds NUL bytes, which no text format does")
    if is_array(head):
        return "cloudevents" if b'"specversion"' in head else "ndjson"
    lines = [line for line in head.splitlines() if line.strip()][:MAX_LINES_TRIED]
    objects = [fields for fields in map(_json_object, lines) if fields is not None]
    if objects:
        return "cloudevents" if any("specversion" in fields for fields in objects) else "ndjson"
    if any(map(looks_like_access_log, lines)):
        return "access_log"
    try:
        read_header(head)
    except UnknownFormat as error:
        raise UnknownFormat(
            f"No format fits the first {len(lines)} lines. Tried: access_log (no line has the"
            " common or combined form); ndjson and cloudevents (no line is a JSON object);"
            f" csv ({error.detail}). Name the format if you know it"
        ) from error
    return "csv"


def _json_object(line: bytes) -> dict[str, object] | None:
    if line.lstrip()[:1] != b"{":
        return None
    try:
        fields = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
