"""Which address a request comes from, where proxies stand between: one rule for all doors."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS: Final = 32
MAX_TEXT: Final = 64


def right_most_untrusted(peer: Address, forwarded: str, trusted: Sequence[Network]) -> Address:
    """Return the first address from the right that is none of our own proxies'.

    Anybody can write a header. What a proxy of ours adds stands at the right of X-Forwarded-For, so
    nothing left of the first stranger is believed (MDN, "X-Forwarded-For", Selecting an IP
    address). Where the list ends before, or holds what is no address, it is the last one known.

    Args:
        peer: The other end of the connection, a proxy of ours.
        forwarded: The header, its lines joined with commas.
        trusted: Networks of our own proxies.
    """
    found = peer
    for hop in reversed(forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
        said = parse_address(hop)
        if said is None:
            break
        found = said
        if not is_within(said, trusted):
            break
    return found


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return any(address in network for network in networks)


def parse_address(text: str) -> Address | None:
    """Return an address as a proxy writes it, perhaps with a port; IPv4 in IPv6 is unwrapped."""
    text = text.strip()
    return None if len(text) > MAX_TEXT else _parsed(text)


@lru_cache(maxsize=4_096)
def _parsed(text: str) -> Address | None:
    # Remembered, because the same few peers come with every request.
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
