"""The middleware for ASGI: verifies, limits, and answers refusals before, meters after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from aurora.client.backend import UNAVAILABLE, Backend, Verifier
from aurora.client.checkpoint import (
    MAX_KEY,
    METERING_FULL,
    Checkpoint,
    WhenAway,
    locally_refused,
    refusal,
)
from aurora.client.metering import CLOSE_TIMEOUT_S, FLUSH_S, Meter, WhenFull
from aurora.client.model import Verdict
from aurora.client.passage import HEARD, Message, Passage, Receive, Scope, Send
from aurora.client.spool import MAX_BYTES, Durability

App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLIENT_LEFT: Final = 499
"""The status of a request whose client left before an answer began, as nginx logs it."""
FAILED: Final = 500
CROWD_S: Final = 0.002
"""Requests that come so soon one after the other are verified in a row."""
AWAY_S: Final = 0.5
"""After the backend could not be opened, for how long nobody tries."""


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
        self.heard = HEARD if self.id_header is None else HEARD | {self.id_header}
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
        self._came_s = float("-inf")
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
        passage = Passage(self, scope, send)
        key = passage.key
        verdict = None
        if not key or len(key) > MAX_KEY or passage.origin is not None or self.meter.refuses:
            verdict = self._refused_here(passage)
        if verdict is None:
            passage.scope = self._checkpoint.needed(passage.endpoint, passage.method)
            verifier = self._verifier or await self._open()
            verdict = verifier.verify_at_once(passage)
            if verdict is None or self._is_lenient:
                verdict = await self._settled(verifier, passage, verdict)
        if not verdict.valid:
            await _refuse(verdict, scope, send)
            return
        scope["aurora"] = passage.let_through(verdict)
        began_s, self._came_s = self._came_s, passage.began_s
        try:
            if self._came_s - began_s < CROWD_S:
                # Whoever else came in this turn of the loop is verified before the first of them
                # goes on: between two requests of a framework the processor has the gate's code at
                # hand no more, and it costs twice as much (`bench/middleware.py`).
                await asyncio.sleep(0)
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

    def _refused_here(self, passage: Passage) -> Verdict | None:
        """Return the verdict that Aurora is not needed for."""
        verdict = locally_refused(passage.key, passage.origin)
        return METERING_FULL if verdict is None and self.meter.refuses else verdict

    async def _settled(
        self, verifier: Verifier, passage: Passage, verdict: Verdict | None
    ) -> Verdict:
        """Return the verdict that counts, where it takes waiting, or Aurora may be away."""
        question = passage.question()
        verdict = verdict or await verifier.verify(question)
        return self._checkpoint.settle(question, verdict) if self._is_lenient else verdict

    async def note_durably(self, passage: Passage) -> None:
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


async def _refuse(verdict: Verdict, scope: Scope, send: Send) -> None:
    status, headers, body = refusal(verdict, scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    sent = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": sent})
