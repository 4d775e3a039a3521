"""Cuts one JSON array into its elements without holding the array in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aurora.integrations.textfiles import MAX_LINE_BYTES, DamagedFile, Line

# A whole string, a bracket, or a quote whose string is not yet whole.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]"]', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*")
_SCALAR_END = re.compile(rb"[,\]]")
_INCOMPLETE = -1


def split_array(
    chunks: Iterator[bytes], *, offset: int = 0, line_number: int = 1
) -> Iterator[Line]:
    """Yield the elements of an array in the form of lines: line number, offset, and bytes.

    Args:
        chunks: Decompressed bytes, from the front of the file or from the start of an element.
        offset: Offset of the first of them in the decompressed stream.
        line_number: Number of the line they begin in.

    Raises:
        DamagedFile: The array does not end, something follows it, or an element is longer than
            MAX_LINE_BYTES; what came before was handed out.
    """
    scanner = _Scanner(offset, line_number)
    try:
        yield from scanner.elements(chunks)
    except DamagedFile as error:
        error.line_number = scanner.line_number
        raise


class _Scanner:
    """Where the scan is: `line_number` is always that of the next byte to look at."""

    def __init__(self, offset: int, line_number: int) -> None:
        self.line_number = line_number
        self._offset = offset

    def elements(self, chunks: Iterator[bytes]) -> Iterator[Line]:
        buffer, place = b"", 0
        opened, closed = self._offset > 0, False
        for chunk in chunks:
            self._offset += place
            buffer, place = buffer[place:] + chunk, 0
            if not opened:
                place = buffer.find(b"[") + 1
                if place == 0:
                    continue
                self.line_number, opened = 1 + buffer.count(b"\n", 0, place), True
            while (start := _skip_between(buffer, place)) < len(buffer):
                self.line_number += buffer.count(b"\n", place, start)
                place = start
                if closed:
                    raise DamagedFile("something follows the end of the array")
                if buffer[place] == ord("]"):
                    place, closed = place + 1, True
                    continue
                end = _end_of_element(buffer, place)
                if end == _INCOMPLETE:
                    break
                yield self.line_number, self._offset + place, buffer[place:end]
                self.line_number += buffer.count(b"\n", place, end)
                place = end
            if len(buffer) - place > MAX_LINE_BYTES:
                raise DamagedFile(f"an element of the array is longer than {MAX_LINE_BYTES} bytes")
        if not closed:
            raise DamagedFile("the array does not end")


def _skip_between(buffer: bytes, place: int) -> int:
    found = _BETWEEN.match(buffer, place)
    return place if found is None else found.end()


def _end_of_element(buffer: bytes, start: int) -> int:
    """Return where the element that begins at `start` ends, or _INCOMPLETE if not in here."""
    if buffer[start] not in b'{["':
        found = _SCALAR_END.search(buffer, start)
        return _INCOMPLETE if found is None else found.start()
    depth = 0
    for token in _TOKEN.finditer(buffer, start):
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif text == b'"':
            return _INCOMPLETE
        if depth <= 0:
            return token.end()
    return _INCOMPLETE
