"""One request on its way through the ASGI middleware, from its headers to its last byte."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from aurora.client.checkpoint import Passed, bearer, passed
from aurora.client.metering import Served
from aurora.client.model import Question, Verdict
from aurora.core import clock
from aurora.core.digests import derived_id
from aurora.core.ratelimits import HeaderList, limit_fields

if TYPE_CHECKING:
    from aurora.client.asgi import AuroraMiddleware

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEARD: Final = frozenset(
    {b"authorization", b"x-api-key", b"origin", b"user-agent", b"x-forwarded-for"}
)
_BODILESS: Final = frozenset({204, 304})


class Passage(Served):
    """A request from its headers to the last byte of its answer; then it is what is metered.

    One object for all of it, the question to the gate included, and not one for each part: making
    them was a quarter of what the middleware cost (`bench/middleware.py`). Nothing that `scope`
    holds may point here: what points in a circle costs the collector more than all else.

    Attributes:
        began_s: When it came, by `time.perf_counter`.
        key: As it was sent; None once it was let through.
        ip: The caller's, behind declared proxies.
        scope: What its key needs, where it needs something.
        status: Of the answer, 0 before it begins.
        is_noted: Whether it is metered already.
    """

    __slots__ = (
        "_fields",
        "_http",
        "_middleware",
        "_passed",
        "_request_id",
        "_send",
        "_unsent",
        "began_s",
        "is_noted",
        "key",
        "scope",
    )

    scope: str | None
    _fields: HeaderList
    _passed: Passed
    _unsent: int | None

    def __init__(self, middleware: AuroraMiddleware, http: Scope, send: Send) -> None:
        self.began_s, self.at_s = time.perf_counter(), clock.seconds()
        self._middleware, self._http, self._send = middleware, http, send
        self.method, self.endpoint = http["method"], http["path"]
        key = origin = user_agent = request_id = api_key = forwarded = None
        heard = middleware.heard
        for name, value in http["headers"]:
            # Most headers say nothing here, and are passed over at once.
            if name not in heard:
                continue
            text = value.decode("latin-1")
            if name == b"authorization":
                key = key or bearer(text)
            elif name == b"user-agent":
                user_agent = text
            elif name == b"x-api-key":
                api_key = text.strip()
            elif name == b"origin":
                origin = text
            elif name == b"x-forwarded-for":
                forwarded = text if forwarded is None else f"{forwarded},{text}"
            if name == middleware.id_header:
                request_id = text
        self.key, self.origin, self.user_agent = key or api_key, origin, user_agent
        self._request_id = request_id
        peer = http.get("client")
        self.ip = peer[0] if peer else None
        if middleware.hops.is_needed:
            self.ip = middleware.hops.address(self.ip, forwarded)
        self.scope = self.event_id = self.done = self._unsent = None
        self.status, self.is_noted = 0, False

    def question(self) -> Question:
        """Return what Aurora is asked, where that is kept or sent."""
        return Question(key=self.key or "", origin=self.origin, ip=self.ip, scope=self.scope)

    def let_through(self, verdict: Verdict) -> Passed:
        """Return what the application gets of the verdict, and remember what is told of it."""
        self.key, self.verdict = None, verdict
        self._fields = limit_fields(verdict.limits)
        self._passed = passed(verdict)
        return self._passed

    def ended(self) -> Served:
        """Return itself, with how it ended: now it is what is metered."""
        self.ms = int((time.perf_counter() - self.began_s) * 1_000)
        self.more = self._passed.more
        if self._request_id is not None:
            # With the key in it: one customer's id never meets another's.
            parts = (self.verdict.key_id, self.method, self.endpoint, self._request_id)
            self.event_id = derived_id(*parts).hex
        # The route's pattern where a framework leaves it: /rooms/{id}, not every room.
        self.endpoint = getattr(self._http.get("route"), "path", None) or self.endpoint
        return self

    def let_go(self) -> None:
        """Hold nothing of the server's any more, and no key, while this waits to be written."""
        self._http, self._send = {}, _ended

    def send(self, message: Message) -> Awaitable[None]:
        """Send a part of the answer, the limits in its headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._fields:
                message = {**message, "headers": [*message.get("headers", ()), *self._fields]}
        # Not awaited here: what the server returns is as good to await, and one step less.
        return self._send(message)

    async def send_durably(self, message: Message) -> None:
        """Do the same; the event is on the disk before the last byte leaves.

        Its client may act on the last byte as soon as it has it, whatever comes after in ASGI.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._unsent = _body_length(self._http, message)
        elif message["type"] == "http.response.body" and not self.is_noted:
            if not message.get("more_body", False):
                self._unsent = 0
            elif self._unsent is not None:
                self._unsent -= len(message.get("body", b""))
        if self._unsent is not None and self._unsent <= 0 and not self.is_noted:
            self.is_noted = True
            await self._middleware.note_durably(self)
        await self.send(message)


async def _ended(_message: Message) -> None:
    raise RuntimeError("the application has returned; nothing more can be sent")


def _body_length(scope: Scope, message: Message) -> int | None:
    """Return after how many bytes of body an answer is whole to its client, where that is told."""
    if scope["method"] == "HEAD" or message["status"] in _BODILESS:
        return 0
    for name, value in message.get("headers", ()):
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None
