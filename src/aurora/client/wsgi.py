"""The middleware for WSGI: the same as for ASGI, for Django, Flask, and whatever has threads."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

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
from aurora.client.metering import CLOSE_TIMEOUT_S, FLUSH_S, Done, Meter, Served, WhenFull
from aurora.client.model import Question, Verdict
from aurora.client.spool import MAX_BYTES, Durability
from aurora.core import clock
from aurora.core.digests import derived_id
from aurora.core.ratelimits import limit_fields

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

VERIFY_TIMEOUT_S: Final = 10.0
WRITE_TIMEOUT_S: Final = 30.0
FAILED: Final = 500
_BODILESS: Final = frozenset({204, 304})
_REASONS: Final = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}


class AuroraWSGIMiddleware:
    """Stands before a WSGI application (PEP 3333). Its settings are those of `AuroraMiddleware`.

    The passed request's verdict stands in `environ["aurora"]`. Questions go through one thread
    with an event loop, so requests of many threads share calls and connections.

    Args:
        app: The application.
        backend: As for ASGI.
        spool: As for ASGI.
        scope: As for ASGI.
        exempt: As for ASGI.
        trusted_proxies: As for ASGI.
        when_away: As for ASGI.
        durability: As for ASGI.
        when_full: As for ASGI.
        request_id_header: As for ASGI.
        max_spool_bytes: As for ASGI.
        flush_s: As for ASGI.
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
    ) -> None:
        self.app = app
        self._checkpoint = Checkpoint(
            scope=scope,
            exempt=exempt,
            trusted_proxies=trusted_proxies,
            when_away=when_away,
            request_id_header=request_id_header,
        )
        self._id_name = None
        if request_id_header is not None:
            self._id_name = "HTTP_" + request_id_header.upper().replace("-", "_")
        self.meter = Meter(
            backend,
            spool,
            durability=durability,
            when_full=when_full,
            max_bytes=max_spool_bytes,
            flush_s=flush_s,
        )
        self._asking = _Asking(backend)
        self._is_durable = durability == "before_response"
        atexit.register(self.close)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = _path(environ)
        if self._checkpoint.exempt and path.startswith(self._checkpoint.exempt):
            return self.app(environ, start_response)
        request = _Request(environ, path, self._id_name)
        ip = environ.get("REMOTE_ADDR")
        if self._checkpoint.hops.is_needed:
            ip = self._checkpoint.hops.address(ip, environ.get("HTTP_X_FORWARDED_FOR"))
        request.ip = ip or None
        verdict = locally_refused(request.key, request.origin)
        if verdict is None and self.meter.refuses:
            verdict = METERING_FULL
        if verdict is None:
            question = self._checkpoint.question(
                request.key or "", request.origin, request.ip, path, request.method
            )
            verdict = self._checkpoint.settle(question, self._asking.verify(question))
        if not verdict.valid:
            return _refuse(verdict, request, start_response)
        request.passed = environ["aurora"] = passed(verdict)
        return _Answer(self, request, start_response)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write and send what is left; called at the end of the process too."""
        atexit.unregister(self.close)
        self._asking.close()
        self.meter.close(timeout_s)

    def note(self, request: _Request, status: int) -> None:
        """Take a request down, and wait for the disk where that was asked for."""
        if not self._is_durable:
            self.meter.note(_served(request, status, None))
            return
        written = threading.Event()
        failures: list[BaseException] = []

        def done(failed: BaseException | None) -> None:
            if failed is not None:
                failures.append(failed)
            written.set()

        self.meter.note(_served(request, status, done))
        if not written.wait(WRITE_TIMEOUT_S):
            raise TimeoutError("the usage of this request could not be written")
        if failures:
            raise failures[0]

    @property
    def is_durable(self) -> bool:
        """Whether the event has to be on the disk before the answer ends."""
        return self._is_durable


class _Request:
    """What is known of a request."""

    def __init__(self, environ: Environ, path: str, id_name: str | None) -> None:
        self.began_s, self.at_s = time.perf_counter(), clock.seconds()
        self.path, self.method = path, str(environ["REQUEST_METHOD"])
        found = bearer(environ.get("HTTP_AUTHORIZATION", ""))
        self.key = found or environ.get("HTTP_X_API_KEY", "").strip() or None
        self.origin: str | None = environ.get("HTTP_ORIGIN")
        self.user_agent: str | None = environ.get("HTTP_USER_AGENT")
        self.request_id: str | None = None if id_name is None else environ.get(id_name)
        self.ip: str | None = None
        self.environ = environ
        self.passed: Passed | None = None


class _Answer:
    """The application's answer as it is handed on; it is noted once, when its last byte is due."""

    def __init__(
        self, middleware: AuroraWSGIMiddleware, request: _Request, start_response: StartResponse
    ) -> None:
        self._middleware, self._request = middleware, request
        self._start_response = start_response
        self._status = 0
        self._unsent: int | None = None
        self._is_noted = False
        try:
            self._body = middleware.app(request.environ, self._start)
            self._chunks: Iterator[bytes] = iter(self._body)
        except BaseException:
            self._note(self._status or FAILED)
            raise

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        self._status = int(status[:3])
        if self._request.method == "HEAD" or self._status in _BODILESS:
            self._unsent = 0
        else:
            lengths = [v for n, v in headers if n.lower() == "content-length" and v.isdigit()]
            self._unsent = int(lengths[0]) if lengths else None
        passed = self._request.passed
        fields = limit_fields(passed.verdict.limits if passed else None)
        more = [(name.decode(), value.decode()) for name, value in fields]
        if exc_info:
            return self._start_response(status, [*headers, *more], exc_info)
        write = self._start_response(status, [*headers, *more])

        def counted(data: bytes) -> object:
            self._before(data)
            return write(data)

        return counted

    def __iter__(self) -> Iterator[bytes]:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next part; before the one that ends the answer, the event is written."""
        try:
            chunk = next(self._chunks)
        except StopIteration:
            if self._middleware.is_durable:
                # Before the server ends the answer, where no length told its client the end.
                self._note(self._status)
            raise
        except BaseException:
            self._note(self._status or FAILED)
            raise
        self._before(chunk)
        return chunk

    def close(self) -> None:
        """Close the application's answer; the server calls it however the answer ended."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._note(self._status or FAILED)

    def _before(self, chunk: bytes) -> None:
        if self._unsent is None or not self._middleware.is_durable:
            return
        self._unsent -= len(chunk)
        if self._unsent <= 0:
            self._note(self._status)

    def _note(self, status: int) -> None:
        if not self._is_noted:
            self._is_noted = True
            self._middleware.note(self._request, status)


class _Asking:
    """The thread in whose event loop the verifier lives; begun anew in a forked child."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._begin_anew()
        reference = weakref.WeakMethod(self._begin_anew)
        os.register_at_fork(after_in_child=lambda: (again := reference()) and again())

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._verifier: Verifier | None = None

    def verify(self, question: Question) -> Verdict:
        """Return the verdict, UNAVAILABLE where there is none in time."""
        try:
            loop = self._started()
            asked = asyncio.run_coroutine_threadsafe(self._verify(question), loop)
            return asked.result(VERIFY_TIMEOUT_S)
        except (OSError, TimeoutError):
            return UNAVAILABLE

    async def _verify(self, question: Question) -> Verdict:
        verifier = self._verifier
        if verifier is None:
            verifier = self._backend.verifier()
            # Set before it is open: whoever comes meanwhile must not make a second one.
            self._verifier = verifier
            try:
                await verifier.open()
            except BaseException:
                self._verifier = None
                raise
        return verifier.verify_at_once(question) or await verifier.verify(question)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._run, args=(loop,), name="aurora-verify", daemon=True
                ).start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_forever()
        loop.close()

    def close(self) -> None:
        """End the thread."""
        loop, verifier, self._verifier = self._loop, self._verifier, None
        if loop is None or loop.is_closed():
            return
        if verifier is not None:
            closing = asyncio.run_coroutine_threadsafe(verifier.close(), loop)
            closing.result(VERIFY_TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        self._loop = None


def _path(environ: Environ) -> str:
    # Bytes that PEP 3333 carries as latin-1.
    raw = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return str(raw).encode("latin-1").decode("utf-8", "replace") or "/"


def _served(request: _Request, status: int, done: Done | None) -> Served:
    if request.passed is None:
        raise LookupError("only what passed is metered")
    verdict = request.passed.verdict
    event_id = None
    if request.request_id is not None:
        parts = (verdict.key_id, request.method, request.path, request.request_id)
        event_id = derived_id(*parts).hex
    return Served(
        request.at_s,
        verdict,
        request.method,
        request.path,
        status,
        int((time.perf_counter() - request.began_s) * 1_000),
        request.origin,
        request.user_agent,
        request.ip,
        event_id,
        request.passed.more,
        done,
    )


def _refuse(verdict: Verdict, request: _Request, start_response: StartResponse) -> Iterable[bytes]:
    status, headers, body = refusal(verdict, quote(request.path))
    texts = [(name.decode(), value.decode()) for name, value in headers]
    start_response(f"{status} {_REASONS.get(status, 'Service Unavailable')}", texts)
    return [b""] if request.method == "HEAD" else [body]
