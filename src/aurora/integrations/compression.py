"""Reads compressed bodies as bounded streams: a bomb is refused where it passes the limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import zstandard

from aurora.core.errors import AuroraError, Malformed, TooLarge

CHUNK_BYTES: Final = 256 * 1024
MAX_WINDOW_BYTES: Final = 8 * 1024 * 1024
"""The largest window a receiver of zstd in HTTP has to have (RFC 9659, section 3)."""

MAX_MEMBERS: Final = 1_000
_GZIP: Final = 16 + zlib.MAX_WBITS


class EncodingUnsupported(AuroraError):
    """The body is compressed in a way that is not read here."""

    status, code = 415, "encoding_unsupported"
    title = "The body's Content-Encoding is not read here"


class CompressionBroken(Malformed):
    """The body is not what its Content-Encoding says, or it ends in the middle."""

    code, title = "compression_broken", "The compressed body is broken or ends too early"


def decompress(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Return the body as it was before it was compressed.

    Args:
        body: The compressed bytes.
        coding: One of `CODINGS`, as in Content-Encoding.
        max_bytes: Reading ends with a refusal where more comes out.

    Raises:
        EncodingUnsupported: The coding is another one.
        CompressionBroken: The bytes are not such a stream, or the stream has no end.
        TooLarge: More than `max_bytes` come out.
    """
    read = CODINGS.get(coding)
    if read is None:
        known = ", ".join(sorted(CODINGS))
        raise EncodingUnsupported(f"Send the body as it is, or with one of: {known}.")
    return read(body, max_bytes)


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(wbits=_GZIP)
        try:
            while not member.eof:
                part = member.decompress(rest, CHUNK_BYTES)
                rest = member.unconsumed_tail
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if not part and not rest and not member.eof:
                    raise CompressionBroken
                parts.append(part)
        except zlib.error as error:
            raise CompressionBroken from error
        rest = member.unused_data
        # RFC 1952, section 2.2: a file may be several members, one after the other.
        if not rest:
            return b"".join(parts)
    raise CompressionBroken(f"The body has more than {MAX_MEMBERS:,} gzip members.")


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    parts: list[bytes] = []
    try:
        # First the size in bounded steps, for the objects below give out all at once.
        size = 0
        with reader.stream_reader(body, read_across_frames=True) as stream:
            while part := stream.read(CHUNK_BYTES):
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
        rest = body
        for _ in range(MAX_MEMBERS):
            frame = reader.decompressobj()
            parts.append(frame.decompress(rest))
            if not frame.eof:
                raise CompressionBroken
            rest = frame.unused_data
            if not rest:
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise CompressionBroken from error
    raise CompressionBroken(f"The body has more than {MAX_MEMBERS:,} zstd frames.")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"Decompressed the body may have at most {max_bytes:,} bytes.")


CODINGS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "zstd": _unzstd,
}
"""How each coding is read; `x-gzip` is another name of gzip (RFC 9110, section 8.4.1.3)."""
