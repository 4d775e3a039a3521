"""The fields of an access-log line, each parsed once and remembered while it repeats."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Generic, Literal, TypeVar

from aurora.features.usage.importing.routes import Routes, widget_of
from aurora.features.usage.model import WidgetType

MAX_CACHED = 16_384
MAX_AGENT_CHARS = 512
MAX_TEXT_CHARS = 2048
MAX_METHOD_CHARS = 20
MAX_DURATION_MS = 86_400_000
NO_ENDPOINT = "-"
NO_METHOD = "UNKNOWN"

# Networks a reverse proxy of one's own lives in; only from there is X-Forwarded-For believed.
PROXY_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (
    ip_network("10.0.0.0/8"),
    ip_network("127.0.0.0/8"),
    ip_network("172.16.0.0/12"),
    ip_network("192.168.0.0/16"),
    ip_network("::1/128"),
    ip_network("fc00::/7"),
    ip_network("fe80::/10"),
)
# nginx, $upstream_cache_status: the answer came out of the cache.
CACHED_STATES = frozenset({"HIT", "STALE", "UPDATING", "REVALIDATED"})

Key = TypeVar("Key")
Value = TypeVar("Value")
Request = tuple[str, str, WidgetType | None, bool]  # method, endpoint, widget type, impression
Tail = tuple[int | None, bool, str | None, str | None]  # ms, cached, country, forwarded for

_MONTH_NAMES = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_TIME = re.compile(
    rb"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2})"
    rb"(?:\.[0-9]+)? ([+-])([0-9]{2})([0-9]{2})\Z"
)
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_PLAIN_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"b": b"\b", b"f": b"\f"}
_REFERER = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^/?#:@\s]+)(:[0-9]{1,5})?"
    r"([^?#]*)"
)
_TOKEN = re.compile(r'(?:([A-Za-z_]{1,40})[=:])?(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_SECONDS = re.compile(r"[0-9]{1,6}\.[0-9]{1,9}\Z")
_MILLISECONDS = re.compile(r"([0-9]{1,9})(?:\.[0-9]+)?ms\Z")
_WHOLE = re.compile(r"[0-9]{1,15}\Z")
_DURATION_NAMES = frozenset({"rt", "request_time", "duration", "time"})
_CACHE_NAMES = frozenset({"", "cs", "cache", "cache_status", "upstream_cache_status"})
_COUNTRY_NAMES = frozenset({"country", "country_code", "geoip_country_code"})


class Remembered(dict[Key, Value], Generic[Key, Value]):
    """A function with a bounded memory; looking a key up calls it when the answer is not known."""

    def __init__(self, parse: Callable[[Key], Value]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, key: Key) -> Value:
        """Parse and remember; when full, everything is forgotten, which costs less than order."""
        if len(self) >= MAX_CACHED:
            self.clear()
        value = self[key] = self._parse(key)
        return value


class FieldCache:
    """The fields of a log, remembered for as long as one file is read."""

    def __init__(self, routes: Routes, bare_unit: Literal["s", "ms", "us"] | None) -> None:
        self._routes = routes
        self._bare_unit = bare_unit
        self.requests: Remembered[bytes, Request] = Remembered(self._usual_request)
        self.referers: Remembered[bytes | None, tuple[str | None, str | None]] = Remembered(
            split_referer
        )
        self.agents: Remembered[bytes | None, str | None] = Remembered(agent_of)
        self.addresses: Remembered[bytes, str | None] = Remembered(address_of)
        self.tails: Remembered[bytes, Tail] = Remembered(self._tail)
        self._proxies: Remembered[str, bool] = Remembered(_is_proxy)

    def is_proxy(self, address: str | None) -> bool:
        """Tell whether this address may speak for others through X-Forwarded-For."""
        return address is not None and self._proxies[address]

    def _usual_request(self, raw: bytes) -> Request:
        method, _, path = text_of(raw, MAX_TEXT_CHARS + MAX_METHOD_CHARS + 1).partition(" ")
        return self._request(method, path)

    def unusual_request(self, raw: bytes) -> Request:
        """Read a request line with escapes, an absolute target, no version, or plain garbage."""
        method, _, rest = text_of(raw, 4 * MAX_TEXT_CHARS).partition(" ")
        target = re.split(r" HTTP/[0-9.]+\Z", rest)[0]
        path = re.split(r"[?#]", re.sub(r"\A[A-Za-z]+://[^/?#]*", "", target), maxsplit=1)[0]
        if not re.fullmatch(rf"[A-Z]{{1,{MAX_METHOD_CHARS}}}", method) or not target:
            return NO_METHOD, NO_ENDPOINT, None, False
        if target == "*" or method == "CONNECT":
            path = NO_ENDPOINT
        elif "://" in target and not path:
            path = "/"
        if not path.startswith("/"):
            return method, NO_ENDPOINT, None, False
        return self._request(method, path)

    def _request(self, method: str, path: str) -> Request:
        return method, path[:MAX_TEXT_CHARS], *widget_of(method, path, self._routes)

    def _tail(self, raw: bytes) -> Tail:
        """Read the fields after the user agent; what is not understood is passed over."""
        duration_ms: int | None = None
        cached, country, forwarded = False, None, None
        whole: list[str] = []
        for found in _TOKEN.finditer(raw[:MAX_TEXT_CHARS].decode("utf-8", "replace")):
            name, value = (found[1] or "").lower(), found[2] if found[3] is None else found[3]
            if duration_ms is None and (not name or name in _DURATION_NAMES):
                duration_ms = duration_of(value, named=bool(name))
                if not name and _WHOLE.match(value):
                    whole.append(value)
            if name in _CACHE_NAMES and value in CACHED_STATES:
                cached = True
            elif name in _COUNTRY_NAMES and re.fullmatch(r"[A-Z]{2}", value):
                country = value
            elif forwarded is None and found[2] is not None:
                forwarded = client_of(value)
        if duration_ms is None and self._bare_unit is not None and whole:
            # Apache formats put %D or %T last.
            scale = {"s": 1000.0, "ms": 1.0, "us": 0.001}[self._bare_unit]
            duration_ms = min(round(int(whole[-1]) * scale), MAX_DURATION_MS)
        return duration_ms, cached, country, forwarded


def parse_time(raw: bytes) -> datetime | None:
    """Read `10/Oct/2000:13:55:36 -0700` or ISO 8601 with an offset; the result is in UTC.

    A leap second (60) is taken as the second before it, as POSIX clocks repeat it.
    """
    found = _TIME.match(raw)
    try:
        if found is None:
            stamp = datetime.fromisoformat(raw.decode("ascii"))
            return None if stamp.tzinfo is None else stamp.astimezone(UTC)
        day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
        shift = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-shift if sign == b"-" else shift)
        return datetime(
            int(year), _MONTHS[month], int(day), int(hour), int(minute), min(int(second), 59)
        ).replace(tzinfo=zone).astimezone(UTC)  # fmt: skip
    except (ValueError, KeyError, OverflowError):
        return None


def text_of(raw: bytes, limit: int) -> str:
    r"""Undo the escapes \", \\, and \xNN, replace what is not UTF-8, and cut to `limit` characters.

    NUL becomes U+FFFD: PostgreSQL text cannot hold it.
    """
    if b"\\" in raw:
        raw = _ESCAPE.sub(_unescaped, raw)
    return raw.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")[:limit]


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes((int(found[1], 16),))
    return _PLAIN_ESCAPES.get(found[2], found[2])


def agent_of(raw: bytes | None) -> str | None:
    """Return the user agent, at most MAX_AGENT_CHARS characters of it."""
    return None if raw is None or raw in (b"", b"-") else text_of(raw, MAX_AGENT_CHARS)


def split_referer(raw: bytes | None) -> tuple[str | None, str | None]:
    """Return the origin (scheme and host) of a referer, and the page without query or password."""
    found = None if raw is None else _REFERER.match(text_of(raw, MAX_TEXT_CHARS))
    if found is None:
        return None, None
    scheme, host, port, path = found.groups()
    origin = f"{scheme.lower()}://{host.lower()}{port or ''}"
    return origin, (origin + path)[:MAX_TEXT_CHARS]


def address_of(raw: bytes) -> str | None:
    """Return the IP address in its normal form; a host name or `-` gives None.

    An IPv4 address mapped into IPv6 is unwrapped: it is the same visitor.
    """
    text = raw.decode("ascii", "replace")
    try:
        socket.inet_pton(socket.AF_INET, text)
    except ValueError:
        # A zero byte: a crash of the machine leaves runs of them in a log.
        return None
    except OSError:
        text = text.partition("%")[0].strip("[]")
    else:
        return text
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return None
    if packed.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def client_of(forwarded: str) -> str | None:
    """Return the right-most address of an X-Forwarded-For list that is not a proxy's own."""
    for part in reversed(forwarded.split(",")):
        address = address_of(part.strip().encode("ascii", "replace"))
        if address is None:
            return None
        if not _is_proxy(address):
            return address
    return None


def _is_proxy(address: str) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in PROXY_NETWORKS)


def duration_of(value: str, *, named: bool) -> int | None:
    """Return milliseconds for `0.123` (seconds, as nginx writes them) or `12ms`, or None.

    A whole number counts as seconds only under a name such as `rt=`.
    """
    if _SECONDS.match(value) or (named and _WHOLE.match(value)):
        return min(round(float(value) * 1000), MAX_DURATION_MS)
    if found := _MILLISECONDS.match(value):
        return min(int(found[1]), MAX_DURATION_MS)
    return None
