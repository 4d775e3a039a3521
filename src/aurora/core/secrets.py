"""Secrets that name themselves: API keys and service tokens whose typos need no look-up."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets as random_source
import zlib
from dataclasses import dataclass, field
from typing import Final, Literal

Environment = Literal["production", "test"]

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_PREFIXES: Final[dict[Environment, str]] = {"production": "tro_live_", "test": "tro_test_"}
SERVICE_TOKEN_PREFIX: Final = "aur_svc_"  # noqa: S105 - the public beginning of every token

RANDOM_LENGTH: Final = 26
"""Random base62 characters in a secret: 154 bits."""
CHECKSUM_LENGTH: Final = 6
"""62**6 is more than 2**32, so six characters hold any CRC-32."""
VISIBLE_LENGTH: Final = 15
"""Characters of a key that may be shown and stored: its prefix and six random ones."""

# fullmatch and ASCII: `$` accepts a newline at the end, and \w and \d accept other alphabets.
_BODY: Final = f"[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}"
_API_KEY: Final = re.compile(f"tro_(?:live|test)_{_BODY}", re.ASCII)
_SERVICE_TOKEN: Final = re.compile(f"{SERVICE_TOKEN_PREFIX}{_BODY}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """A key at the one moment it can be seen; its repr shows only the public beginning.

    Attributes:
        key: The whole key, shown to its owner once and never stored.
        prefix: The first 15 characters, stored and displayed.
        hash: SHA-256 of the key, 64 lowercase hex digits; what the database looks up.
    """

    key: str = field(repr=False)
    prefix: str
    hash: str = field(repr=False)


def generate_api_key(environment: Environment) -> ApiKeySecret:
    """Return a fresh API key: `tro_live_` or `tro_test_`, 26 random characters, 6 of checksum."""
    key = _generate(KEY_PREFIXES[environment])
    return ApiKeySecret(key=key, prefix=key[:VISIBLE_LENGTH], hash=hash_key(key))


def generate_service_token() -> str:
    """Return a fresh token for a service of the operator: `aur_svc_`, 26 characters, checksum.

    It is a plain string, so its repr shows it: hash it with `hash_key` before it goes anywhere.
    """
    return _generate(SERVICE_TOKEN_PREFIX)


def is_well_formed(text: str) -> bool:
    """Say whether a text can be an API key: shape, alphabet, and checksum.

    The work does not grow with the text, so a megabyte in a header costs what a key costs. It
    proves nothing about the key being known or alive.
    """
    return _API_KEY.fullmatch(text) is not None and _has_checksum(text)


def is_service_token(text: str) -> bool:
    """Say whether a text can be a service token, at bounded cost like `is_well_formed`."""
    return _SERVICE_TOKEN.fullmatch(text) is not None and _has_checksum(text)


def hash_key(text: str) -> str:
    """Return the SHA-256 of a key or token as 64 lowercase hex digits.

    A plain hash is enough: with 154 random bits there is nothing to guess, and a slow hash in
    the gate would be a gift to whoever floods it.
    """
    return hashlib.sha256(_to_bytes(text)).hexdigest()


def equal(a: str | bytes, b: str | bytes) -> bool:
    """Compare two secrets in a time that says nothing about where they differ."""
    return hmac.compare_digest(_to_bytes(a), _to_bytes(b))


def checksum(text: str) -> str:
    """Return the CRC-32 of an ASCII text as six base62 characters, padded with zeros."""
    value = zlib.crc32(text.encode("ascii"))
    characters = []
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))


def _generate(prefix: str) -> str:
    """Return prefix, random characters, and the checksum of both."""
    body = prefix + "".join(random_source.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + checksum(body)


def _has_checksum(text: str) -> bool:
    """Say whether the last six characters are the checksum of all before them."""
    return equal(checksum(text[:-CHECKSUM_LENGTH]), text[-CHECKSUM_LENGTH:])


def _to_bytes(text: str | bytes) -> bytes:
    """Return the bytes of a text; a lone surrogate from a hostile body must not raise."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
