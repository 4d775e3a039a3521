"""Digests tell two facts apart, however their parts are cut, and one fact is always itself."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import RFC_4122, UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.digests import Part, canonical_json, content_digest, derived_id, digest

PARTS = st.one_of(
    st.none(),
    st.text(),
    st.binary(),
    st.integers(),
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
)


def test_a_digest_is_that_of_its_tagged_and_measured_parts() -> None:
    by_hand = b"s" + (1).to_bytes(8, "big") + b"a" + b"i" + (2).to_bytes(8, "big") + b"12"
    assert digest(["a", 12]) == hashlib.sha256(by_hand).digest()


def test_joining_parts_with_a_dash_is_not_how_it_is_done() -> None:
    assert digest(["a", "b-c"]) != digest(["a-b", "c"])
    assert digest(["ab", ""]) != digest(["a", "b"])
    assert digest(["1"]) != digest([1]) != digest([b"1"])
    assert digest([None]) != digest([""]) != digest([])


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4))
def test_two_facts_share_a_digest_only_if_they_are_one(a: list[Part], b: list[Part]) -> None:
    assert (digest(a) == digest(b)) == (a == b)


def test_one_moment_in_two_zones_is_one_fact() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert digest([at]) == digest([at.astimezone(timezone(timedelta(hours=9)))])
    with pytest.raises(ValueError, match="names no time zone"):
        digest([at.replace(tzinfo=None)])


@pytest.mark.parametrize("part", [True, 1.5, Decimal(1), ["a"]])
def test_a_part_without_bytes_of_its_own_is_refused(part: Any) -> None:
    with pytest.raises(TypeError):
        digest([part])


@given(st.lists(PARTS, max_size=4))
def test_a_derived_id_is_a_uuid_of_version_8_that_every_retry_derives_again(
    parts: list[Part],
) -> None:
    made = derived_id(*parts)
    assert (made.version, made.variant) == (8, RFC_4122)
    assert made == derived_id(*parts)
    assert made.bytes[:6] == digest(parts)[:6]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_the_order_of_keys_is_no_part_of_the_content(fields: dict[str, int]) -> None:
    reordered = dict(reversed(fields.items()))
    assert content_digest(fields) == content_digest(reordered)


class Event(msgspec.Struct):
    status_code: int
    endpoint: str


def test_a_struct_and_the_same_object_as_it_was_sent_are_one_content() -> None:
    sent = {"endpoint": "/now", "status_code": 200}
    assert content_digest(Event(200, "/now")) == content_digest(sent)


def test_canonical_json_is_sorted_compact_and_exact() -> None:
    value = {"b": Decimal("0.10"), "a": UUID(int=1), "ø": [None, True]}
    expected = '{"a":"00000000-0000-0000-0000-000000000001","b":"0.10","ø":[null,true]}'
    assert canonical_json(value) == expected.encode()
    assert content_digest(value) == hashlib.sha256(expected.encode()).digest()
    assert content_digest({"a": 1}) != content_digest({"a": "1"})
