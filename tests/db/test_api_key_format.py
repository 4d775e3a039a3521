"""What SQL and Python both compute comes out the same: keys, check digits, periods, identities."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aurora.core.periods import period_date, period_start
from aurora.core.secrets import (
    ALPHABET,
    VISIBLE_LENGTH,
    Environment,
    checksum,
    generate_api_key,
    hash_key,
    is_well_formed,
)
from aurora.core.taxids import kid
from aurora.features.usage.staging import event_key

OSLO = "Europe/Oslo"
ENVIRONMENTS: tuple[Environment, ...] = ("production", "test")
# What PostgreSQL's text can hold.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
KEYS = st.builds(
    lambda prefix, body: prefix + body + checksum(prefix + body),
    st.sampled_from(["tro_live_", "tro_test_"]),
    st.text(ALPHABET, min_size=26, max_size=26),
)
MONTHS_IN_TEN_YEARS = 120
# A run of the crons in the wrong zone is how these would come apart, so the session is far away.
FAR_AWAY = "Pacific/Kiritimati"


@pytest.fixture(scope="module")
async def asked(worker_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection for looks alone, in a session whose time zone is nobody's."""
    async with await psycopg.AsyncConnection.connect(worker_dsn, autocommit=True) as connection:
        await connection.execute(f"set timezone = '{FAR_AWAY}'")
        yield connection


async def value(connection: psycopg.AsyncConnection[Any], query: str, *parameters: object) -> Any:
    found = await (await connection.execute(query.encode(), parameters)).fetchone()
    assert found is not None
    return found[0]


async def is_api_key(connection: psycopg.AsyncConnection[Any], text: str) -> bool:
    answer: bool = await value(connection, "select app.is_api_key(%s::text)", text)
    return answer


async def test_keys_made_in_sql_are_keys_in_python(
    asked: psycopg.AsyncConnection[Any],
) -> None:
    for environment in ENVIRONMENTS:
        found = await asked.execute(
            "select generate_api_key(%s) from generate_series(1, 300)", (environment,)
        )
        made = [key for (key,) in await found.fetchall()]
        assert len(set(made)) == 300
        assert all(is_well_formed(key) for key in made)
        start = "tro_test_" if environment == "test" else "tro_live_"
        assert all(key.startswith(start) for key in made)
        # Each of 62 characters stands in some of 7800 places: no part of the alphabet is missing.
        assert set("".join(key[9:35] for key in made)) == set(ALPHABET)


async def test_no_character_of_a_key_made_in_sql_is_likelier_than_another(
    asked: psycopg.AsyncConnection[Any],
) -> None:
    found = await asked.execute("select generate_api_key() from generate_series(1, 2000)")
    body = "".join([key[9:35] for (key,) in await found.fetchall()])
    expected = len(body) / len(ALPHABET)
    chi_squared = sum((body.count(each) - expected) ** 2 / expected for each in ALPHABET)
    # 61 degrees of freedom: chance exceeds 125 once in three hundred thousand runs; bytes modulo 62
    # without rejection give over 1000.
    assert chi_squared < 125


@pytest.mark.parametrize("environment", ["", "live", "Production", None])
async def test_a_key_of_no_environment_is_refused(
    asked: psycopg.AsyncConnection[Any], environment: str | None
) -> None:
    with pytest.raises(psycopg.DatabaseError, match="environment_invalid"):
        await value(asked, "select generate_api_key(%s)", environment)


@given(st.sampled_from(ENVIRONMENTS))
async def test_keys_made_in_python_are_keys_in_sql(
    asked: psycopg.AsyncConnection[Any], environment: Environment
) -> None:
    secret = generate_api_key(environment)
    assert await is_api_key(asked, secret.key)
    kept = await value(
        asked, "select left(%s, 15) || encode(sha256(convert_to(%s, 'UTF8')), 'hex')",
        secret.key, secret.key,
    )  # fmt: skip
    assert kept == secret.prefix + secret.hash == secret.key[:VISIBLE_LENGTH] + hash_key(secret.key)


@given(KEYS, st.integers(0, 40), st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
async def test_one_wrong_character_is_refused_on_both_sides(
    asked: psycopg.AsyncConnection[Any], key: str, place: int, wrong: str
) -> None:
    assert is_well_formed(key)
    assert await is_api_key(asked, key)
    mistyped = key[:place] + wrong + key[place + 1 :]
    assert is_well_formed(mistyped) is (mistyped == key)
    assert await is_api_key(asked, mistyped) is (mistyped == key)


@given(st.one_of(TEXT, KEYS, KEYS.map(lambda key: key + "\n"), KEYS.map(lambda key: " " + key)))
@example("tro_live_" + "٣" * 32)
@example("tro_demo_test_key")
@example("")
async def test_both_sides_take_the_same_texts_for_keys(
    asked: psycopg.AsyncConnection[Any], text: str
) -> None:
    assert await is_api_key(asked, text) is is_well_formed(text)


@given(st.binary(max_size=60))
@example(b"")
@example(b"123456789")
async def test_the_checksum_is_that_of_zlib(
    asked: psycopg.AsyncConnection[Any], data: bytes
) -> None:
    assert await value(asked, "select app.crc32(%s::bytea)", data) == zlib.crc32(data)


@given(st.text("0123456789", min_size=1, max_size=24))
@example("1234")
@example("0")
@example("2026000001")
async def test_the_check_digit_of_a_payment_reference_is_the_same(
    asked: psycopg.AsyncConnection[Any], digits: str
) -> None:
    assert digits + await value(asked, "select app.mod10(%s::text)", digits) == kid(digits)


@given(st.dates(date(2016, 1, 1), date(2036, 12, 31)))
@example(date(2024, 2, 29))
@example(date(2023, 12, 31))
@example(date(2024, 1, 30))
@example(date(2026, 3, 29))
@example(date(2026, 10, 25))
async def test_ten_years_of_billing_moments_are_the_same(
    asked: psycopg.AsyncConnection[Any], anchor: date
) -> None:
    found = await asked.execute(
        "select app.billing_moment(%s::date, n, %s) from generate_series(0, %s) as n order by n",
        (anchor, OSLO, MONTHS_IN_TEN_YEARS),
    )
    moments = [moment for (moment,) in await found.fetchall()]
    assert moments == [
        period_start(anchor, 1, n, OSLO) for n in range(MONTHS_IN_TEN_YEARS + 1)
    ]  # fmt: skip
    # A period of a year is twelve months from the anchor: leap days come back.
    assert moments[48] == period_start(anchor, 12, 4, OSLO)
    assert period_date(anchor, 12, 4).day == anchor.day


@given(st.none() | TEXT, TEXT)
@example(None, "")
@example("", "a")
@example("a", "b-c")
@example("a-b", "c")
@example("å", "\U0001f30c")
async def test_the_identity_of_an_event_is_the_same(
    asked: psycopg.AsyncConnection[Any], source: str | None, event_id: str
) -> None:
    key = await value(asked, "select app.usage_event_key(%s::text, %s::text)", source, event_id)
    assert key == UUID(bytes=event_key(source, event_id))
