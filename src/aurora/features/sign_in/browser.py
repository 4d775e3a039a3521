"""What a browser is asked for: the session cookie, its CSRF token, and where it comes from."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import Response

from aurora.core.errors import Invalid
from aurora.core.secrets import equal
from aurora.features.sign_in.model import SESSION_LIFETIME, CsrfRefused

CSRF_HEADER: Final = "x-csrf-token"
IPV6_NETWORK_BITS: Final = 64
"""One subscriber has at least a /64: limits count it as one place."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_FAMILIES: Final = (
    ("Edge", "Edg"),
    ("Opera", "OPR"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("Python", "python"),
)
MAX_USER_AGENT_CHARACTERS: Final = 500


class PublicUrlInvalid(Invalid):
    """The address under which people reach Aurora cannot be used."""

    code = "public_url_invalid"
    title = "AURORA_PUBLIC_URL is https://host, or http:// on this machine only"


@dataclass(frozen=True, slots=True)
class Site:
    """Where people reach this platform; the request's Host header is never believed for it.

    Attributes:
        url: Scheme, host, and port, without a slash at the end.
    """

    url: str

    def __post_init__(self) -> None:
        """Refuse an address over which a cookie would travel in the clear."""
        parts = urlsplit(self.url)
        local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
        plain = f"{parts.scheme}://{parts.netloc}" == self.url and "@" not in parts.netloc
        if not parts.hostname or not plain or not (local or parts.scheme == "https"):
            raise PublicUrlInvalid

    @property
    def is_https(self) -> bool:
        """Whether cookies can be Secure."""
        return self.url.startswith("https://")

    @property
    def session_cookie(self) -> str:
        """The name of the session cookie; `__Host-` makes browsers hold its rules too."""
        return "__Host-aurora_session" if self.is_https else "aurora_session"

    @property
    def csrf_cookie(self) -> str:
        """The name of the cookie from which pages read the CSRF token."""
        return "__Host-aurora_csrf" if self.is_https else "aurora_csrf"

    def check_origin(self, origin: str | None) -> None:
        """Refuse a request that a page of somebody else made.

        Browsers send Origin with every unsafe request; programs that are no browser send none, and
        have the CSRF token to show.

        Raises:
            CsrfRefused: The origin is another one, or hidden (`null`).
        """
        if origin is not None and origin not in self._origins():
            raise CsrfRefused("The request comes from a page of another site.")

    def is_own(self, origin: str | None) -> bool:
        """Return whether a page of this platform's own sends the request."""
        return origin is not None and origin in self._origins()

    def _origins(self) -> frozenset[str]:
        if self.is_https:
            return frozenset({self.url})
        port = urlsplit(self.url).port
        return frozenset(f"http://{host}" + (f":{port}" if port else "") for host in _LOOPBACK)


def csrf_token(session_token: str) -> str:
    """Return the CSRF token of a session: only who holds the session's secret can make it.

    Bound by HMAC-SHA-256, so that a cookie planted from a sister domain is worth nothing
    (OWASP: signed double-submit cookie).
    """
    mac = hmac.new(session_token.encode(), b"aurora csrf", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def check_csrf(session_token: str, sent: str | None) -> None:
    """Refuse an unsafe request whose X-CSRF-Token is missing or another session's.

    Raises:
        CsrfRefused: Saying which.
    """
    if not sent:
        raise CsrfRefused("Send the session's CSRF token in the header X-CSRF-Token.")
    if not equal(sent, csrf_token(session_token)):
        raise CsrfRefused("X-CSRF-Token is not this session's.")


def cookie(headers: Mapping[bytes, bytes], name: str) -> str | None:
    """Return a cookie's value, or None where it is missing or sent twice.

    Twice means that somebody planted one: which of them is ours cannot be told.
    """
    found = [
        value
        for part in headers.get(b"cookie", b"").decode("latin-1").split(";")
        for key, separator, value in (part.strip().partition("="),)
        if separator and key == name
    ]
    return found[0] if len(found) == 1 and found[0] else None


def set_cookies(response: Response, site: Site, session_token: str) -> None:
    """Give the browser its session and the CSRF token that belongs to it."""
    for name, value, is_hidden in (
        (site.session_cookie, session_token, True),
        (site.csrf_cookie, csrf_token(session_token), False),
    ):
        response.set_cookie(
            name,
            value,
            max_age=int(SESSION_LIFETIME.total_seconds()),
            path="/",
            secure=site.is_https,
            httponly=is_hidden,
            samesite="lax",
        )


def clear_cookies(response: Response, site: Site) -> None:
    """Take them away again."""
    for name, is_hidden in ((site.session_cookie, True), (site.csrf_cookie, False)):
        response.delete_cookie(
            name, path="/", secure=site.is_https, httponly=is_hidden, samesite="lax"
        )


def user_agent_family(user_agent: str | None) -> str:
    """Return such as Firefox, or other: for a person to recognise a session by."""
    text = (user_agent or "")[:MAX_USER_AGENT_CHARACTERS]
    for family, mark in _FAMILIES:
        if re.search(rf"\b{mark}[/-]", text, re.ASCII):
            return family
    return "other"


def place_of(address: str | None) -> str:
    """Return what limits count as one place: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip.packed[:8] + bytes(8), IPV6_NETWORK_BITS)))
    return str(ip)
