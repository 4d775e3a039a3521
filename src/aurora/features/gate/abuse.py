"""Caps on what strangers may cost: who sends many keys that nobody has is not looked up for."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from math import ceil

from aurora.features.gate.model import (
    FAILURES_PER_MINUTE,
    MAX_PLACES,
    Verdict,
)
from aurora.features.gate.watch import seconds
from aurora.features.limits.model import Taken

IPV6_BYTES = 8
WINDOW_S = 60.0


class FailureCaps:
    """Counts the unknown keys of each address, a bucket that empties in a minute.

    Only look-ups are capped: a key that is remembered passes however many wrong ones come from the
    same address, and a malformed one costs nothing anyway. The addresses themselves are bounded;
    beyond that the one that failed longest ago is forgotten.

    Args:
        per_minute: Unknown keys of one address.
        max_places: Addresses that are counted.
    """

    def __init__(
        self, *, per_minute: int = FAILURES_PER_MINUTE, max_places: int = MAX_PLACES
    ) -> None:
        self._step_s = WINDOW_S / per_minute
        self._max_places = max_places
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are counted."""
        return len(self._full_at)

    def refusal(self, ip: str | None) -> Verdict | None:
        """Return the verdict for an address that has failed too often, or None."""
        if ip is None:
            return None
        wait_s = self._full_at.get(_place(ip), 0.0) - seconds() - WINDOW_S + self._step_s
        if wait_s <= 0:
            return None
        retry_s = max(1, ceil(wait_s))
        return Verdict(
            valid=False,
            code="RATE_LIMITED",
            detail="too_many_unknown_keys",
            limits=Taken(code="RATE_LIMITED", retry_after_s=retry_s),
        )

    def note(self, ip: str | None) -> None:
        """Count an unknown key."""
        if ip is None:
            return
        place, now = _place(ip), seconds()
        full_at = max(self._full_at.pop(place, now), now) + self._step_s
        self._full_at[place] = full_at
        if len(self._full_at) > self._max_places:
            self._full_at.popitem(last=False)


def _place(ip: str) -> str:
    """Return what counts as one: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return address.packed[:IPV6_BYTES].hex()
    return str(address)
