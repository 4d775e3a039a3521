"""Writes rows into one zip archive, as JSON and as CSV, while it is being sent."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Final

import msgspec

MAX_SPOOL_BYTES: Final = 4 * 1024 * 1024
COPY_BYTES: Final = 256 * 1024
# A spreadsheet runs a cell that begins so (OWASP, CSV injection); an apostrophe keeps it text.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class _Outlet(io.RawIOBase):
    """Where the zip is written to: it keeps only what nobody has taken yet."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._waiting += piece
        return len(piece)

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


class Archive:
    """A zip that is made piece by piece; each method yields the bytes that are ready."""

    def __init__(self) -> None:
        self._outlet = _Outlet()
        self._zip = zipfile.ZipFile(self._outlet, "w", zipfile.ZIP_DEFLATED)
        self.counts: dict[str, int] = {}

    async def add_table(
        self, name: str, columns: Sequence[str], batches: AsyncIterable[list[tuple[Any, ...]]]
    ) -> AsyncIterator[bytes]:
        """Write data/<name>.json and data/<name>.csv from one pass over the rows.

        Only one file of a zip can be open, so the CSV waits in a temporary file meanwhile.
        """
        count = 0
        with tempfile.SpooledTemporaryFile(MAX_SPOOL_BYTES) as spool:
            text = io.TextIOWrapper(spool, "utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow(columns)
            with self._zip.open(f"data/{name}.json", "w", force_zip64=True) as file:
                async for rows in batches:
                    for row in rows:
                        plain = [_plain(value) for value in row]
                        file.write(b",\n" if count else b"[\n")
                        file.write(msgspec.json.encode(dict(zip(columns, plain, strict=True))))
                        writer.writerow([_cell(value) for value in plain])
                        count += 1
                    yield self._outlet.take()
                file.write(b"\n]\n" if count else b"[]\n")
            text.flush()
            spool.seek(0)
            with self._zip.open(f"data/{name}.csv", "w", force_zip64=True) as file:
                while piece := spool.read(COPY_BYTES):
                    file.write(piece)
                    yield self._outlet.take()
            text.detach()
        self.counts[name] = count

    def add_document(self, name: str, document: object) -> bytes:
        """Write one JSON file; return the bytes that are ready."""
        encoded = msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2)
        self._zip.writestr(name, encoded)
        return self._outlet.take()

    def close(self) -> bytes:
        """Write the directory that ends the archive."""
        self._zip.close()
        return self._outlet.take()


def _plain(value: object) -> Any:
    """Return the value as JSON can hold it: addresses, for one, become text."""
    return msgspec.to_builtins(value, enc_hook=str)


def _cell(value: object) -> object:
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
