"""What the ASGI and the WSGI middleware have in common: the question, the answer, the headers."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from aurora.client.backend import STATUS_OF
from aurora.client.model import Question, Verdict
from aurora.core.hops import Address, is_within, parse_address, right_most_untrusted
from aurora.core.ratelimits import HeaderList, limit_fields

WhenAway = Literal["refuse", "pass"]

PROBLEM_TYPE: Final = "urn:aurora:problem:"
PROBLEM_JSON: Final = b"application/problem+json"
MAX_KNOWN: Final = 100_000
"""Keys remembered for the time that Aurora is away."""
KNOWN_S: Final = 3_600.0
"""Seconds since its last VALID during which a key passes while Aurora is away."""
MAX_KEY: Final = 500
MAX_ORIGIN: Final = 300

KEY_MISSING: Final = Verdict(valid=False, code="KEY_MISSING")
METERING_FULL: Final = Verdict(valid=False, code="METERING_FULL")
_STATUS: Final = {**STATUS_OF, "KEY_MISSING": 401, "METERING_FULL": 503}
_AWAY_RETRY_S: Final = 1
_SENTENCES: Final = {
    "KEY_MISSING": "Send an API key as 'Authorization: Bearer …' or 'X-API-Key: …'.",
    "MALFORMED": "This is not an API key: its form or its checksum is wrong.",
    "RATE_LIMITED": "The key's requests are used up for now.",
    "QUOTA_EXCEEDED": "The included impressions of the month are used up.",
    "SCOPE_MISSING": "The key does not have the scope that this request needs.",
    "ORIGIN_DENIED": "The key may not be used from this origin.",
    "IP_DENIED": "The key may not be used from this address.",
    "ORGANIZATION_SUSPENDED": "The organization is suspended.",
    "UNAVAILABLE": "Keys cannot be checked right now.",
    "METERING_FULL": "Usage cannot be recorded right now.",
}


class Passed(msgspec.Struct, eq=False):
    """What the application behind the middleware gets of the decision.

    It stands in `scope["aurora"]` and `environ["aurora"]`.

    Attributes:
        verdict: Whose key it is, and what it may do.
        more: Fields of the event that only the application knows.
    """

    verdict: Verdict
    more: dict[str, Any] | None = None

    def note(self, **fields: Any) -> None:
        """Add to the event: widget_type, widget_impression, cached, country_code, metadata.

        Raises:
            TypeError: The middleware knows that field itself.
        """
        unknown = fields.keys() - _NOTED
        if unknown:
            raise TypeError(f"an application notes {', '.join(sorted(_NOTED))}; not {unknown}")
        self.more = {**(self.more or {}), **fields}


_NOTED: Final = frozenset(
    {"widget_type", "widget_impression", "cached", "country_code", "metadata", "endpoint"}
)


class Hops:
    """Which address a request comes from, behind declared proxies.

    Args:
        trusted: Networks of one's own proxies; none means that the header is not read.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(each) for each in trusted]
        self.is_needed = bool(self._networks)
        self._proxy = lru_cache(maxsize=4_096)(self._find_proxy)

    def address(self, peer: str | None, forwarded: str | None) -> str | None:
        """Return the right-most untrusted address, or the last known one where it ends before."""
        proxy = None if peer is None or forwarded is None else self._proxy(peer)
        if proxy is None or forwarded is None:
            return peer
        return str(right_most_untrusted(proxy, forwarded, self._networks))

    def _find_proxy(self, peer: str) -> Address | None:
        address = parse_address(peer)
        return address if address is not None and is_within(address, self._networks) else None


class Known:
    """Keys that were valid a short while ago, by their SHA-256: for the time Aurora is away."""

    def __init__(self, *, max_keys: int = MAX_KNOWN, for_s: float = KNOWN_S) -> None:
        self._max_keys, self._for_s = max_keys, for_s
        self._verdicts: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()

    def remember(self, question: Question, verdict: Verdict) -> None:
        """Remember that a question was answered VALID."""
        digest = _digest(question)
        self._verdicts[digest] = (time.monotonic(), verdict)
        self._verdicts.move_to_end(digest)
        if len(self._verdicts) > self._max_keys:
            self._verdicts.popitem(last=False)

    def find(self, question: Question) -> Verdict | None:
        """Return what the same question was answered with, where that is not too long ago."""
        at, verdict = self._verdicts.get(_digest(question), (float("-inf"), None))
        return verdict if time.monotonic() - at <= self._for_s else None

    def forget(self, question: Question) -> None:
        """Forget a question that was answered otherwise since."""
        if self._verdicts:
            self._verdicts.pop(_digest(question), None)


def _digest(question: Question) -> bytes:
    # What is remembered is the whole question: another scope or origin was never allowed.
    return hashlib.sha256(msgspec.json.encode(question)).digest()


def bearer(authorization: str) -> str | None:
    """Return the credential of an Authorization header of the scheme Bearer."""
    if authorization.startswith("Bearer "):
        return authorization[7:].strip() or None
    scheme, _, credential = authorization.partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def locally_refused(key: str | None, origin: str | None) -> Verdict | None:
    """Return the verdict on what Aurora would not even read."""
    if not key:
        return KEY_MISSING
    if len(key) > MAX_KEY:
        return Verdict(valid=False, code="MALFORMED")
    if origin is not None and len(origin) > MAX_ORIGIN:
        return Verdict(valid=False, code="ORIGIN_DENIED")
    return None


def refusal(verdict: Verdict, instance: str) -> tuple[int, HeaderList, bytes]:
    """Return status, headers, and body of the problem document (RFC 9457) for a refusal."""
    status = _STATUS.get(verdict.code, 403)
    code = verdict.code.lower()
    sentence = _SENTENCES.get(verdict.code, f"The API key is not accepted: {verdict.code}.")
    problem = {
        "type": PROBLEM_TYPE + code,
        "title": "The request may not pass",
        "status": status,
        "detail": sentence,
        "instance": instance,
        "code": code,
    }
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", PROBLEM_JSON),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *limit_fields(verdict.limits),
    ]
    if status == 401:  # noqa: PLR2004
        headers.append((b"www-authenticate", b'Bearer realm="aurora"'))
    if status == 503:  # noqa: PLR2004
        headers.append((b"retry-after", b"%d" % _AWAY_RETRY_S))
    return status, headers, body


class Checkpoint:
    """The settings and the memory that both middlewares share.

    Args:
        scope: What a request needs: one scope for all, a function of path and method, or None.
        exempt: Beginnings of paths that anybody may use, such as `/healthz`; nothing is metered.
        trusted_proxies: Networks of one's own proxies.
        when_away: refuse answers 503 while Aurora is away; pass lets through whoever asked the
            same with the same key, and was let through, within the hour before.
        request_id_header: Set by one's own proxy on every request, and never by a customer: the
            event's id follows from it, so that what the proxy sends twice counts once.
    """

    def __init__(
        self,
        *,
        scope: str | Callable[[str, str], str | None] | None,
        exempt: Sequence[str],
        trusted_proxies: Sequence[str],
        when_away: WhenAway,
        request_id_header: str | None,
    ) -> None:
        self.exempt = tuple(exempt)
        self.hops = Hops(trusted_proxies)
        self.when_away = when_away
        self.request_id_header = request_id_header
        self._scope = scope
        self._known = Known()

    def question(
        self, key: str, origin: str | None, ip: str | None, path: str, method: str
    ) -> Question:
        """Return what Aurora is asked about a request."""
        return Question(key=key, origin=origin, ip=ip, scope=self.needed(path, method))

    def needed(self, path: str, method: str) -> str | None:
        """Return the scope that a request's key needs, or None."""
        scope = self._scope
        return scope(path, method) if callable(scope) else scope

    def settle(self, question: Question, verdict: Verdict) -> Verdict:
        """Return the verdict that counts: Aurora's, or another one while it is away."""
        if self.when_away == "refuse":
            return verdict
        if verdict.valid:
            self._known.remember(question, verdict)
        elif verdict.code == "UNAVAILABLE":
            found = self._known.find(question)
            # What was left of a limit an hour ago says nothing now.
            return verdict if found is None else msgspec.structs.replace(found, limits=None)
        elif verdict.code not in {"RATE_LIMITED", "QUOTA_EXCEEDED"}:
            self._known.forget(question)
        return verdict


def passed(verdict: Verdict) -> Passed:
    """Return what the application gets of a verdict that lets a request pass.

    Raises:
        LookupError: It does not say whose the request is, so nobody could be billed for it.
    """
    if verdict.organization_id is None or verdict.key_id is None:
        raise LookupError("a verdict that lets pass names organization and key")
    return Passed(verdict)
