"""Reads large text files, plain or gzip, line by line in bounded memory."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from aurora.core.errors import Invalid, Malformed

MAX_LINE_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024
HEAD_BYTES = 64 * 1024

GZIP_MAGIC = b"\x1f\x8b"
UTF8_BOM = b"\xef\xbb\xbf"

# Line number (from 1), offset of its first byte in the decompressed stream, and its bytes without
# the line end; None stands for a line longer than MAX_LINE_BYTES, which is not kept.
Line = tuple[int, int, bytes | None]


class UnreadableFile(Invalid):
    """The path cannot be opened as a file."""

    code, title = "file_unreadable", "The file cannot be opened"


class DamagedFile(Malformed):
    """The file ends or breaks before its end; everything before was handed out.

    Attributes:
        line_number: The first line that could not be read, when known.
    """

    code, title = "file_damaged", "The file is damaged"
    line_number: int = 0


class TextFile:
    """One file, plain or gzip by its content and not by its name, read from the front.

    Args:
        path: A regular file.
        start: Where to begin, in bytes of the decompressed stream.

    Raises:
        UnreadableFile: The path is missing, not a regular file, or may not be read.
    """

    def __init__(self, path: Path, *, start: int = 0) -> None:
        self._start = start
        try:
            self._raw: BinaryIO = path.open("rb")
        except OSError as error:
            raise UnreadableFile(f"{path}: {error.strerror}") from error
        facts = os.fstat(self._raw.fileno())
        if not stat.S_ISREG(facts.st_mode):
            self._raw.close()
            raise UnreadableFile(f"{path}: not a regular file")
        self.size = facts.st_size
        self.compressed = self._raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        self._raw.seek(0)

    def __enter__(self) -> Self:
        """Return the file; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file (compressed, where it is gzip) read so far; compare with `size`."""
        return self.size if self._raw.closed else self._raw.tell()

    def chunks(self) -> Iterator[bytes]:
        """Yield the decompressed bytes from `start` on, in pieces of at most CHUNK_BYTES.

        Raises:
            DamagedFile: After the last good byte of a truncated or corrupt gzip stream.
        """
        if self.compressed:
            return self._after_start(self._inflated())
        self._raw.seek(self._start)
        return iter(lambda: self._raw.read(CHUNK_BYTES), b"")

    def _inflated(self) -> Iterator[bytes]:
        # read1 returns what one step gave; read() would throw it away when the next step fails.
        inflater = gzip.GzipFile(fileobj=self._raw, mode="rb")
        while True:
            try:
                chunk = inflater.read1(CHUNK_BYTES)
            except EOFError as error:
                raise DamagedFile("the gzip stream is cut off before its end") from error
            except (zlib.error, gzip.BadGzipFile) as error:
                raise DamagedFile(f"the gzip stream is corrupt: {error}") from error
            if not chunk:
                return
            yield chunk

    def _after_start(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        left = self._start
        for chunk in chunks:
            if left >= len(chunk):
                left -= len(chunk)
                continue
            yield chunk[left:] if left else chunk
            left = 0


def read_head(path: Path) -> bytes:
    """Return up to HEAD_BYTES of the decompressed beginning, without a UTF-8 byte order mark.

    Damage is no error here: what could be read is returned, and reading on will report it.
    """
    head = b""
    with TextFile(path) as file:
        try:
            for chunk in file.chunks():
                head += chunk
                if len(head) >= HEAD_BYTES:
                    break
        except DamagedFile:
            pass
    return head[:HEAD_BYTES].removeprefix(UTF8_BOM)


def split_lines(
    chunks: Iterable[bytes], *, offset: int = 0, line_number: int = 1
) -> Iterator[Line]:
    r"""Cut chunks into lines at \n; a \r before it and a byte order mark in front are dropped.

    A line longer than MAX_LINE_BYTES is handed out as None and skipped to its end without being
    held in memory. The last line needs no line end.

    Args:
        chunks: Decompressed bytes in order.
        offset: Offset of the first chunk in the stream, in bytes.
        line_number: Number of the line that begins there.

    Raises:
        DamagedFile: As the chunks raise it, after the whole lines before it, with its line number.
    """
    rest = b""
    skipped = 0  # bytes of an over-long line that were let go
    try:
        for chunk in chunks:
            parts = (rest + chunk).split(b"\n")
            rest = parts.pop()
            for part in parts:
                yield line_number, offset, _content(part, skipped, offset)
                offset += skipped + len(part) + 1
                line_number += 1
                skipped = 0
            if len(rest) > MAX_LINE_BYTES:
                skipped += len(rest)
                rest = b""
    except DamagedFile as error:
        error.line_number = line_number
        raise
    if rest or skipped:
        yield line_number, offset, _content(rest, skipped, offset)


def _content(part: bytes, skipped: int, offset: int) -> bytes | None:
    if skipped or len(part) > MAX_LINE_BYTES:
        return None
    if part[-1:] == b"\r":
        part = part[:-1]
    return part.removeprefix(UTF8_BOM) if offset == 0 else part
