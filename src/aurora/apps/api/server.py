"""The ASGI application: hot routes straight from the socket, everything else through FastAPI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aurora.core.errors import AuroraError, Malformed, Unauthorized
from aurora.db.transaction import named
from aurora.features.replies.service import once as make_once
from aurora.integrations.compression import EncodingUnsupported, decompress
from aurora.integrations.hot import HotAnswer, HotRequest, HotRoute
from aurora.integrations.http import BodyBudget, Caller, problem, read_body

from . import once
from .at_once import (
    HOT_HEADERS,
    JSON_HEADERS,
    MAX_HEADER_BYTES,
    AtOnce,
    InternalError,
    refusal,
    request_id_of,
)
from .identity import Doorkeeper

MAX_BODY_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_BODY_READ_AT_ONCE_BYTES = 16 * 1024
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SECURITY_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

log = structlog.get_logger(__name__)


class MethodNotAllowed(AuroraError):
    """The path is there, the method is not."""

    status, code, title = 405, "method_not_allowed", "This path does not take this method"


class HeadersTooLarge(AuroraError):
    """The headers of the request pass a named limit (RFC 6585, section 5)."""

    status, code, title = 431, "headers_too_large", "The request's headers are too large"


class Server:
    """Gives a request an id, an identity, and a bounded strict body, and a failure its problem.

    Args:
        app: The FastAPI application for everything that is not hot.
        hot: Routes that no framework stands before.
        doorkeeper: Knows who sends a request.
        state: The application's; its lifespan puts the pool and the gate there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: tuple[HotRoute, ...],
        doorkeeper: Doorkeeper,
        state: Any,
    ) -> None:
        self.app, self.doorkeeper, self.state = app, doorkeeper, state
        self.at_once = AtOnce(hot, state, doorkeeper)
        self.hot = {route.path: route for route in hot}
        self.budgets = {route.path: BodyBudget(route.max_bytes_under_way) for route in hot}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event stream."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scope["aurora.request_id"] = request_id_of(headers)
        route = self.hot.get(scope["path"])
        if route is not None:
            await self._serve_hot(route, scope, headers, receive, send)
        else:
            await self._serve_marked(scope, headers, receive, send)

    async def _serve_marked(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Serve what goes through the framework, and mark its answer."""
        began = time.perf_counter()
        request_id = scope["aurora.request_id"]
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                marked = MutableHeaders(scope=message)
                marked["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    marked.setdefault(name, value)
                caller = scope.get("aurora.caller")
                if caller is not None:
                    marked.raw.extend(caller.answer_headers)
            await send(message)

        try:
            await self._serve(scope, headers, receive, send_marked)
        except AuroraError as error:
            await self._refuse(error, scope, receive, send_marked)
        except ConnectionError:
            return
        except Exception:
            log.exception("request_failed", request_id=request_id, path=scope["path"])
            if not status:
                await self._refuse(InternalError(), scope, receive, send_marked)
        finally:
            log.debug(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 2),
                request_id=request_id,
            )

    async def _serve(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        _refuse_large_headers(scope)
        _refuse_encoding(headers)
        _refuse_zero_bytes(scope)
        # Doors that limit by address ask the scope.
        scope["client"] = (_caller_ip(self.state, scope) or "", 0)
        caller = await self._identify(scope, headers)
        if caller is not None:
            scope["aurora.caller"] = caller
            send = _never_stored(send)
        body = b""
        if scope["method"] in UNSAFE:
            body = await read_body(receive, max_bytes=MAX_BODY_BYTES)
            check_json(body)
            receive = _replay(body, receive)
            # What was changed is in effect at this process' gate before its caller hears of it.
            send = _after(self.state.gate.catch_up, send)
        with named(None if caller is None else caller.name, scope["aurora.request_id"]):
            key = headers.get(once.HEADER)
            if key is None or caller is None or scope["method"] not in UNSAFE:
                await self.app(scope, receive, send)
                return
            call = make_once(
                caller=caller.name,
                credential=self.doorkeeper.credential(headers),
                key=key,
                method=scope["method"],
                path=scope["path"],
                query=scope.get("query_string", b""),
                body=body,
            )
            await once.serve_once(self.app, call, self.state.pool, scope, receive, send)

    async def _identify(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller | None:
        return await self.doorkeeper.identify(
            scope["method"], scope["path"], headers, self.state.gate, _caller_ip(self.state, scope)
        )

    async def _serve_hot(
        self,
        route: HotRoute,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve a hot route with nothing around it that its answer does not need."""
        try:
            answer = await self._answer_hot(route, scope, headers, receive)
        except ConnectionError:
            return
        except AuroraError as error:
            answer = refusal(error, scope["path"], scope["aurora.request_id"])
        except Exception:
            log.exception(
                "request_failed", request_id=scope["aurora.request_id"], path=scope["path"]
            )
            answer = refusal(InternalError(), scope["path"], scope["aurora.request_id"])
        if isinstance(answer, bytes):
            status, body, own = 200, answer, JSON_HEADERS
        else:
            status, body, own = answer.status, answer.body, answer.headers
        marks = [
            (b"x-request-id", scope["aurora.request_id"].encode("latin-1")),
            (b"content-length", b"%d" % len(body)),
        ]
        await send(
            {"type": "http.response.start", "status": status, "headers": HOT_HEADERS + own + marks}
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer_hot(
        self, route: HotRoute, scope: Scope, headers: dict[bytes, bytes], receive: Receive
    ) -> bytes | HotAnswer:
        _refuse_large_headers(scope)
        if not route.takes_compressed:
            _refuse_encoding(headers)
        if scope["method"] not in route.methods:
            raise MethodNotAllowed(f"Use {route.methods[0]}.", allow=", ".join(route.methods))
        caller = None
        if not route.public:
            caller = await self._identify(scope, headers)
            if caller is None:
                raise Unauthorized(
                    "Send an API key or a service token as 'Authorization: Bearer …'."
                )
        with self.budgets[route.path].share() as share:
            body = await read_body(receive, max_bytes=route.max_body_bytes, share=share)
            coding = headers.get(b"content-encoding")
            if coding is not None and route.takes_compressed:
                body = await _decompressed(body, coding, route.max_body_bytes)
                share.take(len(body))
            request = HotRequest(body, headers, caller, self.state.pool, scope, self.state)
            if caller is None:
                return await route.handler(request)
            with named(caller.name, scope["aurora.request_id"]):
                return await route.handler(request)

    async def _refuse(self, error: AuroraError, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(error, instance=scope["path"], request_id=scope["aurora.request_id"])
        await response(scope, receive, send)


def _caller_ip(state: Any, scope: Scope) -> str | None:
    peer = scope.get("client")
    found: str | None = state.proxies.caller(None if peer is None else peer[0], scope["headers"])
    return found


def _refuse_large_headers(scope: Scope) -> None:
    if sum([len(name) + len(value) for name, value in scope["headers"]]) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"The headers may have at most {MAX_HEADER_BYTES:,} bytes.")


def _refuse_encoding(headers: dict[bytes, bytes]) -> None:
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise EncodingUnsupported("Send the body without a Content-Encoding.")


async def _decompressed(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    name = coding.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return body
    if len(body) <= MAX_BODY_READ_AT_ONCE_BYTES and name in ("gzip", "x-gzip"):
        # So few bytes may still become a thousand times as many, in 20 ms at the most.
        return decompress(body, name, max_bytes=max_bytes)
    # Both libraries let other threads run meanwhile.
    return await asyncio.to_thread(decompress, body, name, max_bytes=max_bytes)


def check_json(body: bytes) -> None:
    """Refuse a body that a lax parser would take: NaN, half surrogates, depth, U+0000.

    Raises:
        Malformed: It is not strict JSON, or holds a character that cannot be stored.
    """
    if not body:
        return
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise Malformed(f"The body is not JSON: {error}.") from None
    # What has fewer brackets than levels needs no walk.
    if body.count(b"{") + body.count(b"[") > MAX_JSON_DEPTH and _is_deep(document):
        raise Malformed(f"The body is nested more than {MAX_JSON_DEPTH} levels deep.")
    if b"\\u0000" in body and _holds_zero(document):
        raise Malformed("A text holds the character U+0000, which cannot be stored.")


def _is_deep(document: Any) -> bool:
    """Say whether there are more levels than what reads and writes the document can follow."""
    level: list[Any] = [document]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        members = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for each in members for inner in each]
    return True


def _holds_zero(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _holds_zero(member) for key, member in value.items())
    if isinstance(value, list):
        return any(_holds_zero(member) for member in value)
    return False


def _refuse_zero_bytes(scope: Scope) -> None:
    if b"%00" in scope.get("query_string", b"") or "\x00" in scope["path"]:
        raise Malformed("The address holds the character U+0000, which nothing here is named by.")


def _replay(body: bytes, receive: Receive) -> Receive:
    message: MutableMapping[str, Any] | None = {
        "type": "http.request",
        "body": body,
        "more_body": False,
    }

    async def again() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return again


def _after(first: Callable[[], Awaitable[None]], send: Send) -> Send:
    """Let something happen between the end of the work and the beginning of its answer."""

    async def later(message: Message) -> None:
        if message["type"] == "http.response.start":
            await first()
        await send(message)

    return later


def _never_stored(send: Send) -> Callable[[Message], Awaitable[None]]:
    """An answer to somebody known must not be kept by a cache on the way."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("cache-control", "no-store")
        await send(message)

    return marked
