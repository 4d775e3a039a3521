"""Header fields, read by a parser of structured fields that is not ours."""

from __future__ import annotations

from typing import Any

import http_sf
import msgspec
import pytest
from msgspec.structs import replace

from aurora.client.model import Limits
from aurora.core.ratelimits import limit_fields
from aurora.features.limits.headers import limit_headers, limit_texts
from aurora.features.limits.model import Taken

PASSED = Taken(limit=10_000, remaining=50, reset_s=30)
REFUSED = Taken(code="RATE_LIMITED", limit=100, remaining=0, reset_s=7, retry_after_s=7)


def parsed(taken: Taken, name: str) -> list[Any]:
    found: Any = http_sf.parse(dict(limit_headers(taken))[name.encode()], tltype="list")
    return list(found)


def test_a_client_reads_its_policy_and_what_is_left() -> None:
    assert parsed(PASSED, "ratelimit-policy") == [("hourly", {"q": 10_000, "w": 3_600})]
    assert parsed(PASSED, "ratelimit") == [("hourly", {"r": 50, "t": 30})]
    assert b"retry-after" not in dict(limit_headers(PASSED))


def test_a_refusal_says_when_to_come_again() -> None:
    assert dict(limit_texts(REFUSED))["retry-after"] == "7"
    assert parsed(REFUSED, "ratelimit") == [("hourly", {"r": 0, "t": 7})]


def test_a_burst_is_a_second_policy() -> None:
    assert parsed(replace(PASSED, per_second=20), "ratelimit-policy") == [
        ("hourly", {"q": 10_000, "w": 3_600}),
        ("burst", {"q": 20, "w": 1}),
    ]


@pytest.mark.parametrize("number", [0, 1, 2_147_483_647])
def test_every_number_is_one_that_a_field_can_hold(number: int) -> None:
    taken = Taken(limit=number, remaining=number, reset_s=number)
    assert parsed(taken, "ratelimit") == [("hourly", {"r": number, "t": number})]


def test_the_middleware_tells_the_same() -> None:
    for taken in (PASSED, REFUSED, replace(REFUSED, per_second=3), Taken()):
        limits = msgspec.convert(taken, Limits, from_attributes=True)
        assert limit_fields(limits) == limit_headers(taken)
    assert limit_fields(None) == []


def test_what_was_not_asked_is_not_told() -> None:
    assert limit_headers(Taken()) == []


@pytest.mark.parametrize("wrong", [b"hourly;r=50, t=30", b'"hourly";r=50;t=', b'hourly";r=50'])
def test_the_parser_refuses_other_forms(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        http_sf.parse(wrong, tltype="list")
