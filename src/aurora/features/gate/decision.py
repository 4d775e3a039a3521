"""The gate's decision, a pure function over a key's record, a clock, and the request."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime

from aurora.features.gate.model import Code, VerifyRequest
from aurora.features.keys.model import KeyRecord, Network

SUSPENDED = frozenset({"suspended", "cancelled"})
MAPPED_BITS = 96
"""Of ::ffff:0:0/96, in which IPv6 carries IPv4 (RFC 4291, section 2.5.5.2)."""


def decide(  # noqa: PLR0911 - one return a verdict, in the order of the interface
    record: KeyRecord, request: VerifyRequest, now: datetime
) -> Code:
    """Return the gate's code for a request whose key has this record, limits apart.

    The order is part of the interface: what is wrong with the key comes before what is wrong with
    the request.
    """
    rules = record.rules
    if rules.status == "revoked":
        return "REVOKED"
    # The clock decides, not the status: a key is refused from the very second it expires.
    if rules.status == "expired" or (rules.expires_at is not None and rules.expires_at <= now):
        return "EXPIRED"
    if rules.not_before is not None and now < rules.not_before:
        return "NOT_YET"
    if record.account.status in SUSPENDED:
        return "ORGANIZATION_SUSPENDED"
    if request.origin is not None and (
        is_exposed(record, request) or not origin_allowed(request.origin, rules.allowed_origins)
    ):
        return "ORIGIN_DENIED"
    if rules.networks is not None and not ip_allowed(request.ip, rules.networks):
        return "IP_DENIED"
    if request.scope is not None and request.scope not in rules.scopes:
        return "SCOPE_MISSING"
    return "VALID"


def is_exposed(record: KeyRecord, request: VerifyRequest) -> bool:
    """Return whether a secret key came out of a browser, where anybody can read it.

    Only browsers send Origin (Fetch standard, section 3.2), so the key stands in a page.
    """
    return request.origin is not None and record.rules.kind == "secret"


def origin_allowed(origin: str, allowed: Sequence[str]) -> bool:
    """Return whether an Origin header matches `*`, an exact origin, or `https://*.example.com`.

    A wildcard stands for one or more labels, never for none: `https://example.com` does not match
    `https://*.example.com`.
    """
    asked = origin.lower()
    # Browsers send ASCII (RFC 6454, section 6.2); lower() would make a K of the Kelvin sign.
    is_ascii = origin.isascii()
    for rule in allowed:
        if rule == "*":
            return True
        scheme, star, domain = rule.partition("://*.")
        # The wildcard itself is no origin, so a rule with one never matches as it is written.
        if not star and rule == asked and is_ascii:
            return True
        if star and asked.startswith(f"{scheme}://") and asked.endswith(f".{domain}"):
            label = asked[len(scheme) + 3 : -len(domain) - 1]
            if label and is_ascii and all(c.isalnum() or c in ".-" for c in label):
                return True
    return False


def ip_allowed(ip: str | None, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks; IPv4 inside IPv6 is unwrapped."""
    if ip is None:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def as_networks(rules: Sequence[str]) -> tuple[Network, ...]:
    """Return a key's IP list as networks; what is neither address nor network lets nobody in."""
    found: list[Network] = []
    for rule in rules:
        try:
            network = ipaddress.ip_network(rule, strict=False)
        except ValueError:
            continue
        if isinstance(network, ipaddress.IPv6Network):
            mapped = network.network_address.ipv4_mapped
            if mapped is not None and network.prefixlen >= MAPPED_BITS:
                network = ipaddress.ip_network((mapped, network.prefixlen - MAPPED_BITS))
        found.append(network)
    return tuple(found)
