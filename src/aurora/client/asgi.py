"""The middleware for ASGI: verifies, limits, and answers refusals before, meters after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

from aurora.client.backend import UNAVAILABLE, Backend, Verifier
from aurora.client.checkpoint import (
    METERING_FULL,
    Checkpoint,
    Passed,
    WhenAway,
    bearer,
    locally_refused,
    passed,
    refusal,
)
from aurora.client.metering import CLOSE_TIMEOUT_S, FLUSH_S, Meter, Served, WhenFull
from aurora.client.model import Verdict
from aurora.client.spool import MAX_BYTES, Durability
from aurora.core import clock
from aurora.core.digests import derived_id
from aurora.core.ratelimits import HeaderList, limit_fields

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT_LEFT: Final = 499
"""The status of a request whose client left before an answer began, as nginx logs it."""
FAILED: Final = 500
AWAY_S: Final = 0.5
"""After the backend could not be opened, for how long nobody tries."""
_HEARD: Final = frozenset(
    {b"authorization", b"x-api-key", b"origin", b"user-agent", b"x-forwarded-for"}
)
_BODILESS: Final = frozenset({204, 304})


class AuroraMiddleware:
    """Stands before an ASGI application; websockets and lifespan go through untouched.

    Args:
        app: The application.
        backend: `Remote(url, token)`, or `aurora.apps.in_process.InProcess(dsn)`.
        spool: The file in which usage waits for Aurora. Processes may share it.
        scope: What a request's key needs: one scope, a function of path and method, or None.
        exempt: Beginnings of paths that anybody may use; nothing there is metered.
        trusted_proxies: Networks of your own proxies, for the right address behind them.
        when_away: `refuse` answers 503 while Aurora is away; `pass` lets through whoever was let
            through with the same question within the hour before.
        durability: `after_response` may lose the last 50 ms at a kill; `before_response` has the
            event on the disk before the last byte of the answer leaves.
        when_full: `drop` serves on and counts what it could not keep; `refuse` answers 503.
        request_id_header: Set on every request by your own proxy, and by nobody else.
        max_spool_bytes: Of events that wait.
        flush_s: How long events are gathered before they are written.
        close_timeout_s: How long the end of the application waits for the last events.
    """

    def __init__(
        self,
        app: App,
        *,
        backend: Backend,
        spool: str | Path,
        scope: str | Callable[[str, str], str | None] | None = None,
        exempt: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        when_away: WhenAway = "refuse",
        durability: Durability = "after_response",
        when_full: WhenFull = "drop",
        request_id_header: str | None = None,
        max_spool_bytes: int = MAX_BYTES,
        flush_s: float = FLUSH_S,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self.app, self._backend = app, backend
        self._checkpoint = Checkpoint(
            scope=scope,
            exempt=exempt,
            trusted_proxies=trusted_proxies,
            when_away=when_away,
            request_id_header=request_id_header,
        )
        # No path begins with the other: where nothing is exempt, nothing is.
        self.hops = self._checkpoint.hops
        self._exempt = self._checkpoint.exempt or ("\0",)
        self.id_header = None if request_id_header is None else request_id_header.lower().encode()
        self.heard = _HEARD if self.id_header is None else _HEARD | {self.id_header}
        self.meter = Meter(
            backend,
            spool,
            durability=durability,
            when_full=when_full,
            max_bytes=max_spool_bytes,
            flush_s=flush_s,
        )
        self.is_durable = durability == "before_response"
        self._is_lenient = when_away == "pass"
        self._close_timeout_s = close_timeout_s
        self._verifier: Verifier | None = None
        self._opening: asyncio.Task[Verifier] | None = None
        self._away_until_s = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event stream."""
        if scope["type"] != "http" or scope["path"].startswith(self._exempt):
            if scope["type"] == "lifespan":
                await self._live(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        passage = _Passage(self, scope, send)
        key = passage.key
        verdict = locally_refused(key, passage.origin)
        if verdict is None and self.meter.is_full:
            verdict = METERING_FULL
        if verdict is None:
            verifier = self._verifier or await self._open()
            question = self._checkpoint.question(
                key or "", passage.origin, passage.ip, passage.endpoint, passage.method
            )
            verdict = verifier.verify_at_once(question) or await verifier.verify(question)
            if self._is_lenient:
                verdict = self._checkpoint.settle(question, verdict)
        if not verdict.valid:
            await _refuse(verdict, scope, send)
            return
        scope["aurora"] = passage.let_through(verdict)
        try:
            await self.app(
                scope, receive, passage.send_durably if self.is_durable else passage.send
            )
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError)
            passage.status = passage.status or (CLIENT_LEFT if left else FAILED)
            raise
        finally:
            if not passage.is_noted:
                passage.status = passage.status or FAILED
                self.meter.note(passage.ended())
            passage.let_go()

    async def note_durably(self, passage: _Passage) -> None:
        """Return once the event is on the disk.

        Raises:
            SpoolFull: It is not, and `when_full` is `refuse`: the answer must not end well.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def settle(failed: BaseException | None) -> None:
            if written.done():
                return
            if failed is None:
                written.set_result(None)
            else:
                written.set_exception(failed)

        def done(failed: BaseException | None) -> None:
            loop.call_soon_threadsafe(settle, failed)

        passage.done = done
        self.meter.note(passage.ended())
        await written

    async def _open(self) -> Verifier:
        """Return the verifier; whoever comes meanwhile waits for the same one."""
        if time.monotonic() < self._away_until_s:
            return _AWAY
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_once())
        try:
            return await asyncio.shield(self._opening)
        except (OSError, TimeoutError):
            self._opening = None
            self._away_until_s = time.monotonic() + AWAY_S
            return _AWAY

    async def _open_once(self) -> Verifier:
        verifier = self._backend.verifier()
        await verifier.open()
        self._verifier = verifier
        return verifier

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application live; send what an earlier one left, and what is left at the end."""
        await asyncio.to_thread(self.meter.start)

        async def told(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await self.close()
            await send(message)

        await self.app(scope, receive, told)

    async def close(self) -> None:
        """Write and send what is left; for whoever runs the application without a lifespan."""
        verifier, self._verifier, self._opening = self._verifier, None, None
        if verifier is not None:
            await verifier.close()
        await asyncio.to_thread(self.meter.close, self._close_timeout_s)


class _Away:
    """Stands in for a verifier that could not be opened; the next request tries again."""

    async def open(self) -> None:
        """Open nothing."""

    def verify_at_once(self, question: object) -> Verdict:
        """Return that nobody knows."""
        del question
        return UNAVAILABLE

    async def verify(self, question: object) -> Verdict:
        """Return that nobody knows."""
        del question
        return UNAVAILABLE

    async def close(self) -> None:
        """Close nothing."""


_AWAY: Final = _Away()


class _Passage(Served):
    """A request from its headers to the last byte of its answer; then it is what is metered.

    One object for all of it, and not one for each part: making them was a quarter of what the
    middleware cost (`bench/middleware.py`). Nothing that `scope` holds may point here: what points
    in a circle costs the collector more than all else.

    Attributes:
        key: As it was sent; None once it was let through.
        ip: The caller's, behind declared proxies.
        status: Of the answer, 0 before it begins.
        is_noted: Whether it is metered already.
    """

    __slots__ = (
        "_began_s",
        "_fields",
        "_middleware",
        "_passed",
        "_request_id",
        "_scope",
        "_send",
        "_unsent",
        "is_noted",
        "key",
    )

    _fields: HeaderList
    _passed: Passed

    def __init__(self, middleware: AuroraMiddleware, scope: Scope, send: Send) -> None:
        self._began_s, self.at_s = time.perf_counter(), clock.seconds()
        self._middleware, self._scope, self._send = middleware, scope, send
        self.method, self.endpoint = scope["method"], scope["path"]
        self.key = self.origin = self.user_agent = self._request_id = None
        self.event_id = self.done = None
        self._unsent: int | None = None
        self.status, self.is_noted = 0, False
        api_key = forwarded = None
        heard = middleware.heard
        for name, value in scope["headers"]:
            # Most headers say nothing here, and are passed over at once.
            if name not in heard:
                continue
            text = value.decode("latin-1")
            if name == b"authorization":
                self.key = self.key or bearer(text)
            elif name == b"user-agent":
                self.user_agent = text
            elif name == b"x-api-key":
                api_key = text.strip()
            elif name == b"origin":
                self.origin = text
            elif name == b"x-forwarded-for":
                forwarded = text if forwarded is None else f"{forwarded},{text}"
            if name == middleware.id_header:
                self._request_id = text
        self.key = self.key or api_key
        peer = scope.get("client")
        self.ip = peer[0] if peer else None
        if middleware.hops.is_needed:
            self.ip = middleware.hops.address(self.ip, forwarded)

    def let_through(self, verdict: Verdict) -> Passed:
        """Return what the application gets of the verdict, and remember what is told of it."""
        self.key, self.verdict = None, verdict
        self._fields = limit_fields(verdict.limits)
        self._passed = passed(verdict)
        return self._passed

    def ended(self) -> Served:
        """Return itself, with how it ended: now it is what is metered."""
        self.ms = int((time.perf_counter() - self._began_s) * 1_000)
        self.more = self._passed.more
        if self._request_id is not None:
            # With the key in it: one customer's id never meets another's.
            parts = (self.verdict.key_id, self.method, self.endpoint, self._request_id)
            self.event_id = derived_id(*parts).hex
        # The route's pattern where a framework leaves it: /rooms/{id}, not every room.
        self.endpoint = getattr(self._scope.get("route"), "path", None) or self.endpoint
        return self

    def let_go(self) -> None:
        """Hold nothing of the server's any more, and no key, while this waits to be written."""
        self._scope, self._send = {}, _ended

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
            self._unsent = _body_length(self._scope, message)
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


async def _refuse(verdict: Verdict, scope: Scope, send: Send) -> None:
    status, headers, body = refusal(verdict, scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    sent = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": sent})
