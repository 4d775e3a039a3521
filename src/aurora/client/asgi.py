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
    identity,
    limit_fields,
    locally_refused,
    refusal,
)
from aurora.client.metering import CLOSE_TIMEOUT_S, FLUSH_S, Meter, Served, WhenFull
from aurora.client.model import Verdict
from aurora.client.spool import MAX_BYTES, Durability
from aurora.core import clock
from aurora.core.digests import derived_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT_LEFT: Final = 499
"""The status of a request whose client left before an answer began, as nginx logs it."""
FAILED: Final = 500
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
        self._exempt = self._checkpoint.exempt
        self._id_header = None if request_id_header is None else request_id_header.lower().encode()
        self.meter = Meter(
            backend,
            spool,
            durability=durability,
            when_full=when_full,
            max_bytes=max_spool_bytes,
            flush_s=flush_s,
        )
        self._is_durable = durability == "before_response"
        self._close_timeout_s = close_timeout_s
        self._verifier: Verifier | None = None
        self._opening: asyncio.Task[Verifier] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event stream."""
        if scope["type"] != "http" or scope["path"].startswith(self._exempt or "\0"):
            if scope["type"] == "lifespan":
                await self._live(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        began_s = time.perf_counter()
        at = clock.now()
        heard = _Heard(scope, self._id_header)
        ip = scope["client"][0] if scope.get("client") else None
        if self._checkpoint.hops.is_needed:
            ip = self._checkpoint.hops.address(ip, heard.forwarded)
        verdict = locally_refused(heard.key, heard.origin)
        if verdict is None and self.meter.is_full:
            verdict = METERING_FULL
        if verdict is None:
            verdict = await self._decide(heard, ip, scope)
        if not verdict.valid:
            await _refuse(verdict, scope, send)
            return
        await self._serve(_Request(scope, heard, ip, verdict, began_s, at), receive, send)

    async def _decide(self, heard: _Heard, ip: str | None, scope: Scope) -> Verdict:
        verifier = self._verifier or await self._open()
        question = self._checkpoint.question(
            heard.key or "", heard.origin, ip, scope["path"], scope["method"]
        )
        verdict = verifier.verify_at_once(question) or await verifier.verify(question)
        return self._checkpoint.settle(question, verdict)

    async def _serve(self, request: _Request, receive: Receive, send: Send) -> None:
        request.scope["aurora"] = request.passed
        answer = _Answer(self, request, send)
        try:
            await self.app(
                request.scope, receive, answer.send_durably if self._is_durable else answer.send
            )
        except BaseException as error:
            left = answer.has_left or isinstance(error, asyncio.CancelledError)
            answer.status = answer.status or (CLIENT_LEFT if left else FAILED)
            raise
        finally:
            if not answer.is_noted:
                self.meter.note(self._served(request, answer.status or FAILED, None))

    async def note_durably(self, request: _Request, status: int) -> None:
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

        self.meter.note(self._served(request, status, done))
        await written

    def _served(
        self, request: _Request, status: int, done: Callable[[BaseException | None], None] | None
    ) -> Served:
        scope, heard, passed = request.scope, request.heard, request.passed
        organization_id, key_id = identity(passed.verdict)
        route = scope.get("route")
        event_id = None
        if heard.request_id is not None:
            # With the key in it: one customer's id never meets another's.
            event_id = derived_id(key_id, scope["method"], scope["path"], heard.request_id).hex
        return Served(
            self.meter.next_number(),
            request.at,
            organization_id,
            key_id,
            scope["method"],
            # The route's pattern where a framework leaves it: /rooms/{id}, not every room.
            getattr(route, "path", None) or scope["path"],
            status,
            int((time.perf_counter() - request.began_s) * 1_000),
            heard.origin,
            heard.user_agent,
            request.ip,
            event_id,
            passed.more,
            done,
        )

    async def _open(self) -> Verifier:
        """Return the verifier; whoever comes meanwhile waits for the same one."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_once())
        try:
            return await asyncio.shield(self._opening)
        except (OSError, ConnectionError, TimeoutError):
            self._opening = None
            return _AWAY

    async def _open_once(self) -> Verifier:
        verifier = self._backend.verifier()
        await verifier.open()
        self._verifier = verifier
        return verifier

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application live, and write and send what is left when it has ended."""

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


class _Heard:
    """What the headers of a request say, each read once."""

    __slots__ = ("forwarded", "key", "origin", "request_id", "user_agent")

    def __init__(self, scope: Scope, id_header: bytes | None) -> None:
        self.key = self.origin = self.user_agent = self.forwarded = self.request_id = None
        api_key: str | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.key = self.key or bearer(value.decode("latin-1"))
            elif name == b"x-api-key":
                api_key = value.decode("latin-1").strip()
            elif name == b"origin":
                self.origin = value.decode("latin-1")
            elif name == b"user-agent":
                self.user_agent = value.decode("latin-1")
            elif name == b"x-forwarded-for":
                text = value.decode("latin-1")
                self.forwarded = text if self.forwarded is None else f"{self.forwarded},{text}"
            elif name == id_header:
                self.request_id = value.decode("latin-1")
        self.key = self.key or api_key


class _Answer:
    """The answer to a request that passed, on its way out."""

    __slots__ = (
        "_fields",
        "_middleware",
        "_request",
        "_send",
        "_unsent",
        "has_left",
        "is_noted",
        "status",
    )

    def __init__(self, middleware: AuroraMiddleware, request: _Request, send: Send) -> None:
        self._middleware, self._request, self._send = middleware, request, send
        self._fields = limit_fields(request.passed.verdict.limits)
        self._unsent: int | None = None
        self.status = 0
        self.is_noted = self.has_left = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer, the limits in its headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._fields:
                message = {**message, "headers": [*message.get("headers", ()), *self._fields]}
        try:
            await self._send(message)
        except OSError:
            self.has_left = True
            raise

    async def send_durably(self, message: Message) -> None:
        """Do the same; the event is on the disk before the last byte leaves.

        Its client may act on the last byte as soon as it has it, whatever comes after in ASGI.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._unsent = _body_length(self._request.scope, message)
        elif message["type"] == "http.response.body" and not self.is_noted:
            if not message.get("more_body", False):
                self._unsent = 0
            elif self._unsent is not None:
                self._unsent -= len(message.get("body", b""))
        if self._unsent is not None and self._unsent <= 0 and not self.is_noted:
            self.is_noted = True
            await self._middleware.note_durably(self._request, self.status)
        await self.send(message)


class _Request:
    """A request that passed."""

    __slots__ = ("at", "began_s", "heard", "ip", "passed", "scope")

    def __init__(
        self, scope: Scope, heard: _Heard, ip: str | None, verdict: Verdict, began_s: float, at: Any
    ) -> None:
        self.scope, self.heard, self.ip, self.passed = scope, heard, ip, Passed(verdict)
        self.began_s, self.at = began_s, at


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
