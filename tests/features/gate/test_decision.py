"""The gate's decision is one pure function: every code, their order, origins, and addresses."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.features.gate.cache import Cache
from aurora.features.gate.decision import as_networks, decide, ip_allowed, origin_allowed
from aurora.features.gate.model import KeyRow, VerifyRequest
from aurora.features.keys.model import KeyRecord

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LABELS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\Z")


def a_record(**fields: Any) -> KeyRecord:
    record: dict[str, Any] = {
        "id": UUID(int=1),
        "organization_id": UUID(int=2),
        "organization_status": "active",
        "plan_id": None,
        "kind": "secret",
        "environment": "production",
        "scopes": ["aurora:read"],
        "status": "active",
        "not_before": None,
        "expires_at": None,
        "allowed_origins": ["*"],
        "ip_whitelist": None,
        "rate_limit_tier": "basic",
        "rate_limit_per_hour": 100,
        "burst_per_second": None,
    }
    return Cache().compile(KeyRow(**(record | fields)))


def decided(record: dict[str, Any], request: dict[str, Any]) -> str:
    return decide(a_record(**record), VerifyRequest(key="k", **request), NOW)


ORIGIN = "https://www.hotel.example"
PUBLISHABLE = {"kind": "publishable", "allowed_origins": [ORIGIN]}
# What is wrong, in the order in which it is told; each wins over all that follow.
WRONG: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("REVOKED", {"status": "revoked"}, {}),
    ("EXPIRED", {"expires_at": NOW}, {}),
    ("NOT_YET", {"not_before": NOW + SECOND}, {}),
    ("ORGANIZATION_SUSPENDED", {"organization_status": "suspended"}, {}),
    (
        "ORIGIN_DENIED",
        {"kind": "publishable", "allowed_origins": ["https://other.example"]},
        {"origin": ORIGIN},
    ),
    ("IP_DENIED", {"ip_whitelist": ["10.0.0.0/8"]}, {"ip": "192.0.2.1"}),
    ("SCOPE_MISSING", {}, {"scope": "billing:read"}),
]


@pytest.mark.parametrize("place", range(len(WRONG)))
def test_each_code_wins_over_all_that_come_after_it(place: int) -> None:
    code, record, request = WRONG[place]
    assert decided(record, request) == code
    for _, other_record, other_request in reversed(WRONG[place + 1 :]):
        record, request = other_record | record, other_request | request
    assert decided(record, request) == code


@pytest.mark.parametrize(
    ("record", "request_", "code"),
    [
        ({}, {}, "VALID"),
        ({"expires_at": NOW + SECOND}, {}, "VALID"),
        ({"expires_at": NOW - SECOND}, {}, "EXPIRED"),
        ({"status": "expired"}, {}, "EXPIRED"),
        ({"status": "expired", "expires_at": NOW + SECOND}, {}, "EXPIRED"),
        ({"not_before": NOW}, {}, "VALID"),
        ({"not_before": NOW + SECOND}, {}, "NOT_YET"),
        ({"organization_status": "trial"}, {}, "VALID"),
        ({"organization_status": "cancelled"}, {}, "ORGANIZATION_SUSPENDED"),
        ({"allowed_origins": [ORIGIN]}, {}, "VALID"),
        # Only browsers send an origin, and what a browser has, anybody has.
        ({"allowed_origins": [ORIGIN]}, {"origin": ORIGIN}, "ORIGIN_DENIED"),
        ({"allowed_origins": ["*"]}, {"origin": "null"}, "ORIGIN_DENIED"),
        (PUBLISHABLE, {"origin": ORIGIN}, "VALID"),
        (PUBLISHABLE, {}, "VALID"),
        (PUBLISHABLE, {"origin": "null"}, "ORIGIN_DENIED"),
        (PUBLISHABLE | {"allowed_origins": []}, {"origin": ORIGIN}, "ORIGIN_DENIED"),
        ({"ip_whitelist": ["10.0.0.0/8"]}, {"ip": "10.1.2.3"}, "VALID"),
        ({"ip_whitelist": ["10.0.0.0/8"]}, {}, "IP_DENIED"),
        ({"ip_whitelist": ["10.0.0.0/8"]}, {"ip": "not an address"}, "IP_DENIED"),
        ({"ip_whitelist": []}, {"ip": "10.1.2.3"}, "IP_DENIED"),
        ({}, {"scope": "aurora:read"}, "VALID"),
        ({"scopes": []}, {"scope": "aurora:read"}, "SCOPE_MISSING"),
    ],
)
def test_the_table_of_decisions(
    record: dict[str, Any], request_: dict[str, Any], code: str
) -> None:
    assert decided(record, request_) == code


@pytest.mark.parametrize(
    ("origin", "rule", "is_allowed"),
    [
        (ORIGIN, ORIGIN, True),
        ("HTTPS://WWW.Hotel.Example", ORIGIN, True),
        ("http://www.hotel.example", ORIGIN, False),
        ("https://www.hotel.example:8443", ORIGIN, False),
        ("https://www.hotel.example.evil.example", ORIGIN, False),
        ("https://www.hotel.example/", ORIGIN, False),
        ("https://a.hotel.example", "https://*.hotel.example", True),
        ("https://a.b.hotel.example", "https://*.hotel.example", True),
        ("https://hotel.example", "https://*.hotel.example", False),
        ("https://.hotel.example", "https://*.hotel.example", False),
        ("https://evilhotel.example", "https://*.hotel.example", False),
        ("http://a.hotel.example", "https://*.hotel.example", False),
        ("https://evil.example/.hotel.example", "https://*.hotel.example", False),
        ("https://evil.example#.hotel.example", "https://*.hotel.example", False),
        ("https://evil.example?.hotel.example", "https://*.hotel.example", False),
        ("https://user@a.hotel.example", "https://*.hotel.example", False),
        ("https://evil.example:80.hotel.example", "https://*.hotel.example", False),
        ("https://a.hotel.example:8443", "https://*.hotel.example", False),
        ("https://a.hotel.example:8443", "https://*.hotel.example:8443", True),
        ("https://\N{KELVIN SIGN}.hotel.example", "https://k.hotel.example", False),
        (
            "https://\N{SNOWMAN}é.hotel.example",
            "https://*.hotel.example",
            False,
        ),
        ("https://*.hotel.example", "https://*.hotel.example", False),
        ("null", "*", True),
        ("", "https://*.hotel.example", False),
    ],
)
def test_origins(origin: str, rule: str, is_allowed: bool) -> None:
    assert origin_allowed(origin, [rule]) is is_allowed
    assert origin_allowed(origin, ["https://nobody.invalid", rule]) is is_allowed


@given(labels=st.lists(LABELS, max_size=3), domain=st.lists(LABELS, min_size=2, max_size=3))
def test_a_wildcard_stands_for_one_label_or_more(labels: list[str], domain: list[str]) -> None:
    rule = "https://*." + ".".join(domain)
    assert origin_allowed("https://" + ".".join([*labels, *domain]), [rule]) is bool(labels)


@given(origin=st.text(max_size=40), domain=LABELS)
def test_whatever_a_wildcard_lets_in_is_a_host_below_the_domain(origin: str, domain: str) -> None:
    rule = f"https://*.{domain}.example"
    for asked in (origin, f"https://{origin}.{domain}.example", f"https://{origin}"):
        if origin_allowed(asked, [rule]):
            host = asked.lower().removeprefix("https://")
            assert host.endswith(f".{domain}.example")
            assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


ADDRESSES = st.ip_addresses(v=4)


@given(address=ADDRESSES, length=st.integers(0, 32))
def test_an_address_is_in_its_own_network_also_when_ipv6_wraps_it(
    address: ipaddress.IPv4Address, length: int
) -> None:
    rule = str(ipaddress.ip_network((address, length), strict=False))
    assert ip_allowed(str(address), as_networks([rule]))
    assert ip_allowed(f"::ffff:{address}", as_networks([rule]))
    wrapped = [f"::ffff:{rule.split('/', maxsplit=1)[0]}/{96 + length}"]
    assert ip_allowed(str(address), as_networks(wrapped))


@given(address=ADDRESSES, other=ADDRESSES, length=st.integers(0, 32))
def test_the_network_decides_by_its_leading_bits(
    address: ipaddress.IPv4Address, other: ipaddress.IPv4Address, length: int
) -> None:
    same = int(address) >> (32 - length) == int(other) >> (32 - length)
    rule = f"{address}/{length}"
    assert ip_allowed(str(other), as_networks([rule])) is same


@given(text=st.text(max_size=50), rules=st.lists(st.ip_addresses().map(str), max_size=3))
def test_no_text_breaks_the_list_of_addresses(text: str, rules: list[str]) -> None:
    assert ip_allowed(text, as_networks([*rules, text])) in (True, False)
