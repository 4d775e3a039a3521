"""Whose address a request comes from, where proxies stand between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from aurora.core.hops import Address, Network, is_within, parse_address, right_most_untrusted


class Proxies:
    """The proxies whose word about a caller counts (AURORA_TRUSTED_PROXIES).

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
            return peer if address is None else _text(address)
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        if not lines:
            real = [value for name, value in headers if name == b"x-real-ip"]
            said = parse_address(real[-1].decode("latin-1")) if real else None
            return str(said or address)
        return str(right_most_untrusted(address, b",".join(lines).decode("latin-1"), self._trusted))

    def _is_trusted(self, address: Address) -> bool:
        return bool(self._trusted) and is_within(address, self._trusted)


# Remembered: the same few peers come with every request.
_text: Final = lru_cache(maxsize=4_096)(str)
