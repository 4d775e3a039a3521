"""Digests of facts: one fact gives the same bytes every time, two facts never share them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from aurora.core.clock import as_utc

Part = str | bytes | int | UUID | datetime | None

_encoder: Final = msgspec.json.Encoder(order="sorted", decimal_format="string")
_LENGTH_BYTES: Final = 8


def canonical_json(value: Any) -> bytes:
    """Return a value as JSON in one fixed form: keys sorted, no spaces, UTF-8.

    It takes what msgspec takes (structs, dataclasses, Decimal as string, UUID, datetime). It is
    close to RFC 8785 and differs in how binary fractions are written, so compare it only with
    itself. Infinity and NaN become null: the doors refuse them before.

    Raises:
        TypeError: The value holds something JSON has no form for.
    """
    return _encoder.encode(value)


def content_digest(value: Any) -> bytes:
    """Return the SHA-256 (32 bytes) of a value's canonical JSON; it tells retry from conflict."""
    return hashlib.sha256(canonical_json(value)).digest()


def digest(parts: Iterable[Part]) -> bytes:
    """Return the SHA-256 (32 bytes) of several parts, each with its type and its length in front.

    Joining with a separator makes ("a", "b-c") and ("a-b", "c") the same event, and the second
    customer's usage disappears as a duplicate.

    Raises:
        TypeError: A part is of another type than `Part`.
        ValueError: A datetime names no zone.
    """
    hashed = hashlib.sha256()
    for part in parts:
        tag, data = _tagged(part)
        hashed.update(tag + len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    return hashed.digest()


def derived_id(*parts: Part) -> UUID:
    """Return the UUID of version 8 (RFC 9562, section 5.8) that follows from these facts.

    Whoever retries derives the same id again, so the fact is stored once; a random id made at
    each attempt has billed customers several times over.
    """
    value = int.from_bytes(digest(parts)[:16], "big")
    value = value & ~(0xF << 76) | (0x8 << 76)
    return UUID(int=value & ~(0b11 << 62) | (0b10 << 62))


def _tagged(part: Part) -> tuple[bytes, bytes]:
    """Return a letter for the type of a part, and its bytes."""
    match part:
        case None:
            return b"n", b""
        case str():
            return b"s", part.encode("utf-8", "surrogatepass")
        case bytes():
            return b"b", part
        case bool():
            raise TypeError("a truth value is not a part of an identity; name what it means")
        case int():
            return b"i", str(part).encode("ascii")
        case UUID():
            return b"u", part.bytes
        case datetime():
            return b"t", as_utc(part).isoformat(timespec="microseconds").encode("ascii")
    raise TypeError(f"{type(part).__name__} has no bytes of its own to digest")
