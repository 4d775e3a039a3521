"""Of X-Forwarded-For the right-most address that is none of our own proxies' counts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.client.checkpoint import Hops
from aurora.core.hops import MAX_HOPS, Address, parse_address, right_most_untrusted
from aurora.integrations.proxies import Proxies

OURS = "10.0.0.0/8"
PROXY = ipaddress.ip_address("10.0.0.1")
STRANGERS = st.ip_addresses().filter(
    lambda a: (
        not (a.version == 4 and a in ipaddress.ip_network(OURS))
        and not (a.version == 6 and a.ipv4_mapped is not None)
    )
)
INNER = st.ip_addresses(network=OURS)


def found(forwarded: str) -> str:
    return str(right_most_untrusted(PROXY, forwarded, [ipaddress.ip_network(OURS)]))


def left_most(forwarded: str) -> str:
    """The wrong version: what the caller wrote himself stands at the left."""
    return str(parse_address(forwarded.split(",", maxsplit=1)[0]) or PROXY)


@pytest.mark.parametrize(
    ("forwarded", "caller"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.9, ", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_a_caller_is_found_in_whatever_proxies_write(forwarded: str, caller: str) -> None:
    assert found(forwarded) == caller


@given(
    forged=st.lists(STRANGERS | st.text(max_size=20), max_size=5),
    caller=STRANGERS,
    proxies=st.lists(INNER, max_size=5),
)
def test_nothing_a_caller_writes_changes_who_he_is(
    forged: list[Address | str], caller: Address, proxies: list[Address]
) -> None:
    forwarded = ", ".join(map(str, [*forged, caller, *proxies]))
    assert found(forwarded) == str(caller)


def test_the_left_most_hop_would_be_whatever_a_caller_writes() -> None:
    assert left_most("203.0.113.9, 192.0.2.1") == "203.0.113.9"


def test_a_list_is_read_so_far_and_no_further() -> None:
    inner = ", ".join(["10.0.0.2"] * MAX_HOPS)
    assert found(f"192.0.2.1, {inner}") == "10.0.0.2"


@given(forwarded=st.text(alphabet="0123456789abcdef.:[], ", max_size=60))
def test_the_middleware_and_the_server_find_the_same(forwarded: str) -> None:
    lines = [(b"x-forwarded-for", forwarded.encode())]
    expected = Proxies([OURS]).caller("10.0.0.1", lines)
    assert Hops([OURS]).address("10.0.0.1", forwarded) == expected
    assert Proxies([OURS]).caller("192.0.2.7", lines) == "192.0.2.7"
    assert Hops([OURS]).address("192.0.2.7", forwarded) == "192.0.2.7"
    assert Hops([]).address("10.0.0.1", forwarded) == "10.0.0.1"
