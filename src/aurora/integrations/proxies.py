"""Whose address a request comes from, where proxies stand between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_HOPS: Final = 32
MAX_TEXT: Final = 64


class Proxies:
    """The proxies whose word about a caller counts (AURORA_TRUSTED_PROXIES).

    Anybody can write a header. What a proxy of ours adds stands at the right of X-Forwarded-For, so
    the caller is the right-most hop that is not one of ours, and nothing left of it is believed.

    Args:
        trusted: Their addresses and networks; none means that no header counts.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted: tuple[Network, ...] = tuple(
            ipaddress.ip_network(each, strict=False) for each in trusted
        )

    def caller(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the caller's address; None where even the peer's is not known.

        Args:
            peer: The other end of the connection.
            headers: Of the request, in lower case, as they came.
        """
        address = None if peer is None else parse_address(peer)
        if address is None or not self._is_trusted(address):
            return peer if address is None else str(address)
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        if not lines:
            real = [value for name, value in headers if name == b"x-real-ip"]
            said = parse_address(real[-1].decode("latin-1")) if real else None
            return str(said or address)
        hops = b",".join(lines).split(b",")[-MAX_HOPS:]
        for hop in reversed(hops):
            said = parse_address(hop.decode("latin-1"))
            if said is None:
                break
            address = said
            if not self._is_trusted(said):
                break
        return str(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def parse_address(text: str) -> Address | None:
    """Return an address as a proxy writes it, perhaps with a port; IPv4 in IPv6 is unwrapped."""
    text = text.strip()
    if len(text) > MAX_TEXT:
        return None
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
