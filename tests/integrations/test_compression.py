"""Compressed bodies are read within a bound, and whole or not at all."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Callable

import pytest
import zstandard

from aurora.core.errors import TooLarge
from aurora.integrations.compression import CompressionBroken, EncodingUnsupported, decompress

TEXT = b"aurora borealis over Lyngen " * 400
MAX_BYTES = 16 * 1024 * 1024
GIGABYTE = 1024 * 1024 * 1024


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "zstd": ("zstd", zstd),
    "zstd without its size": ("zstd", zstd_without_size),
}


@pytest.mark.parametrize("name", CODERS)
def test_what_was_compressed_comes_back_also_in_several_parts(name: str) -> None:
    coding, compress = CODERS[name]
    assert decompress(compress(TEXT), coding, max_bytes=len(TEXT)) == TEXT
    assert decompress(compress(TEXT) * 2, coding, max_bytes=2 * len(TEXT)) == TEXT * 2
    assert decompress(compress(b""), coding, max_bytes=0) == b""


@pytest.mark.parametrize("name", CODERS)
def test_one_byte_over_the_limit_is_too_large(name: str) -> None:
    coding, compress = CODERS[name]
    with pytest.raises(TooLarge):
        decompress(compress(TEXT), coding, max_bytes=len(TEXT) - 1)


@pytest.mark.parametrize("name", CODERS)
def test_what_ends_early_or_goes_on_is_broken(name: str) -> None:
    coding, compress = CODERS[name]
    whole = compress(TEXT)
    for broken in (b"", b"x", whole[:-1], whole[: len(whole) // 2], whole[:5], whole + b"more"):
        with pytest.raises(CompressionBroken):
            decompress(broken, coding, max_bytes=MAX_BYTES)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_is_refused_without_being_unpacked(name: str) -> None:
    coding, _ = CODERS[name]
    if coding == "gzip":
        part = gzip.compress(bytes(GIGABYTE // 64))
        bomb = part * 64
        assert len(bomb) < 1.1 * 1024 * 1024
    else:
        bomb = zstd(bytes(GIGABYTE))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge):
        decompress(bomb, coding, max_bytes=MAX_BYTES)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < 64


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, zstd", "GZIP"])
def test_other_codings_are_named_unsupported(coding: str) -> None:
    with pytest.raises(EncodingUnsupported):
        decompress(TEXT, coding, max_bytes=MAX_BYTES)
