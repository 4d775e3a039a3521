"""Keys name themselves, carry their checksum, and never show in a repr."""

from __future__ import annotations

import hashlib
import re
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.secrets import (
    ALPHABET,
    Environment,
    checksum,
    equal,
    generate_api_key,
    generate_service_token,
    hash_key,
    is_service_token,
    is_well_formed,
)

# The pattern of the seed's CHECK constraint: our keys must satisfy it too.
SEED_PATTERN = r"^tro_(live|test)_[a-zA-Z0-9]{32}$"
BODY = "tro_test_" + "A" * 26
KNOWN_KEY = BODY + checksum(BODY)

ENVIRONMENTS = st.sampled_from(["production", "test"])


@given(ENVIRONMENTS)
def test_a_key_names_its_environment_and_satisfies_the_seed(environment: Environment) -> None:
    secret = generate_api_key(environment)
    expected = "tro_live_" if environment == "production" else "tro_test_"
    assert re.fullmatch(SEED_PATTERN, secret.key)
    assert secret.key.startswith(expected)
    assert is_well_formed(secret.key)
    assert secret.prefix == secret.key[:15]


def test_the_hash_of_a_key_is_its_sha_256_in_lowercase_hex() -> None:
    secret = generate_api_key("test")
    assert secret.hash == hashlib.sha256(secret.key.encode()).hexdigest()
    # FIPS 180-4: the digest of "abc".
    assert hash_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_checksum_is_crc_32_in_base62_padded_with_zeros() -> None:
    # CRC-32 of "123456789" is CBF43926, the check value of the standard.
    assert zlib.crc32(b"123456789") == 0xCBF43926
    value = sum(ALPHABET.index(c) * 62**i for i, c in enumerate(reversed(checksum("123456789"))))
    assert value == 0xCBF43926
    assert checksum("") == "000000"
    assert ALPHABET == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_repr_shows_no_more_than_the_public_beginning() -> None:
    secret = generate_api_key("production")
    for shown in (repr(secret), str(secret), f"{secret}", repr([secret])):
        assert secret.key not in shown
        assert secret.key[15:] not in shown
        assert secret.hash not in shown
    assert secret.prefix in repr(secret)


@given(st.integers(9, 40), st.sampled_from(ALPHABET))
def test_a_single_typo_is_refused_without_a_look_up(position: int, letter: str) -> None:
    typo = KNOWN_KEY[:position] + letter + KNOWN_KEY[position + 1 :]
    assert is_well_formed(typo) == (typo == KNOWN_KEY)


@given(st.integers(9, 39))
def test_two_swapped_characters_are_refused(position: int) -> None:
    key = "tro_live_" + "0123456789abcdefghijklmnop"
    key += checksum(key)
    swapped = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
    assert is_well_formed(swapped) == (swapped == key)


@pytest.mark.parametrize(
    "text",
    [
        KNOWN_KEY + "\n",  # `$` would accept it
        " " + KNOWN_KEY,
        KNOWN_KEY + "A",
        KNOWN_KEY[:-1],
        KNOWN_KEY.replace("tro_test_", "tro_demo_"),
        KNOWN_KEY.replace("tro_test_", "TRO_TEST_"),
        KNOWN_KEY.replace("A", "\u0410", 1),  # Cyrillic A
        KNOWN_KEY.replace("A", "\u212a", 1),  # the Kelvin sign
        KNOWN_KEY.replace("A", "\u0661", 1),  # an Arabic digit
        KNOWN_KEY.replace("A", "\ud800", 1),  # a lone surrogate
        KNOWN_KEY.replace("A", "\0", 1),
        "",
        "tro_test_",
        "tro_demo_test_key",
    ],
)
def test_what_only_looks_like_a_key_is_refused(text: str) -> None:
    assert not is_well_formed(text)


def test_a_live_key_is_not_a_test_key_with_another_beginning() -> None:
    assert not is_well_formed(KNOWN_KEY.replace("tro_test_", "tro_live_"))


def test_a_megabyte_costs_no_more_than_a_key() -> None:
    hostile = "tro_live_" + "A" * 50_000_000

    def cost_s(text: str) -> float:
        started = time.perf_counter()
        for _ in range(200):
            is_well_formed(text)
        return time.perf_counter() - started

    # Reading 50 MB 200 times takes tens of seconds; stopping at 41 characters takes none.
    assert cost_s(hostile) < 0.5


def test_a_service_token_is_no_api_key_and_no_api_key_is_a_service_token() -> None:
    token = generate_service_token()
    assert re.fullmatch(r"aur_svc_[0-9A-Za-z]{32}", token)
    assert is_service_token(token)
    assert not is_well_formed(token)
    assert not is_service_token(KNOWN_KEY)
    assert not is_service_token(token[:-1] + ("0" if token[-1] != "0" else "1"))


def test_random_characters_cover_the_alphabet_evenly_enough() -> None:
    drawn = "".join(generate_service_token()[8:34] for _ in range(1_000))
    share = len(drawn) / len(ALPHABET)
    assert set(drawn) == set(ALPHABET)
    assert all(share * 0.6 < drawn.count(letter) < share * 1.4 for letter in ALPHABET)


def test_comparing_takes_any_text() -> None:
    assert equal("æøå", "æøå".encode())
    assert not equal("a", "b")
    assert not equal("a", "\ud800")
    assert hash_key("\ud800") != hash_key("?")
