"""Answers a hot request where it is parsed, without a task: at once, or when a commit is over.

A task, its context, its messages, and the checks of every header are most of what a server in
Python does for a request; `bench/gate.py` measures what is left without them. Whatever is not
plain goes the ordinary way, through `Server`: so does everything under another HTTP server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aurora.apps.api.identity import Doorkeeper
from aurora.core.errors import AuroraError
from aurora.core.ids import request_id as new_request_id
from aurora.integrations.hot import HotAnswer, HotRoute, Later, Pending, PlainRequest
from aurora.integrations.http import problem

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEADER_BYTES: Final = 64 * 1024
SMALL_BODY_BYTES: Final = 16 * 1024
"""No connection buffers less, so these bodies need no budget of their own."""
MAX_LENGTH_DIGITS: Final = 5
MAX_HEADS: Final = 1_024
MAX_HEAD_BYTES: Final = 2_048
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
# Of every answer of a hot route; what is nobody's business to keep is never stored.
HOT_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
JSON_HEADERS: Final = [(b"content-type", b"application/json")]
# What changes how a body is read; a request with any of them is not plain.
_NOT_PLAIN: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_END_OF_HEAD: Final = b"\r\n\r\n"

log = structlog.get_logger(__name__)


class Head(NamedTuple):
    """What the parser read of the head of a plain request that leaves the connection open.

    Attributes:
        target: What is asked for.
        headers: As they came, by names in lower case.
        named: The same by their names.
        length: Bytes of the body.
    """

    target: bytes
    headers: Headers
    named: Mapping[bytes, bytes]
    length: int


class InternalError(AuroraError):
    """Something of ours is wrong; the log has it under the request's id."""

    status, code, title = 500, "internal_error", "Something went wrong on our side"


class AtOnce:
    """The routes that may be answered without a task.

    Args:
        hot: All hot routes.
        state: The application's, by name.
        doorkeeper: Knows whose key a request has.

    Attributes:
        heads: By their bytes. Who sends one request after another repeats its head, and what the
            parser said of the same bytes before need not be asked again.
    """

    def __init__(self, hot: tuple[HotRoute, ...], state: Any, doorkeeper: Doorkeeper) -> None:
        self._routes: Mapping[bytes, HotRoute] = {
            route.path.encode("ascii"): route for route in hot if route.at_once is not None
        }
        self._state, self._doorkeeper = state, doorkeeper
        self.heads: dict[bytes, Head] = {}
        self._dated: object = None
        self._opening = b""

    def remember(self, text: bytes, head: Head) -> None:
        """Keep what the parser read of these bytes."""
        if len(text) <= MAX_HEAD_BYTES:
            if len(self.heads) >= MAX_HEADS:
                self.heads.clear()
            self.heads[text] = head

    def opening(self, default_headers: Headers) -> bytes:
        """Return how a 200 with JSON begins: the same until the server writes another date."""
        if default_headers is not self._dated:
            self._opening = _opening(200, default_headers, JSON_HEADERS)
            self._dated = default_headers
        return self._opening

    def is_plain(self, method: bytes, target: bytes, headers: Headers) -> bool:
        """Return whether the request may be answered once its body is there: small, and POST."""
        if target not in self._routes or method != b"POST":
            return False
        size, length = 0, b""
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"content-length":
                length = value
            elif name in _NOT_PLAIN:
                return False
        return (
            size <= MAX_HEADER_BYTES
            and len(length) <= MAX_LENGTH_DIGITS
            and length.isdigit()
            and int(length) <= SMALL_BODY_BYTES
        )

    def answer(self, head: Head, body: bytes, peer: str | None) -> bytes | Later | None:
        """Return the body of a 200 or what it must wait for; None where it takes more.

        Args:
            head: Of the request.
            body: Whole.
            peer: The other end of the connection.
        """
        route, caller = self._routes[head.target], None
        if not route.public:
            ip = self._state.proxies.caller(peer, head.headers)
            caller = self._doorkeeper.identify_at_once(route.path, head.named, self._state.gate, ip)
            if caller is None:
                return None
        if route.at_once is None:
            return None
        return route.at_once(PlainRequest(body, head.named, caller, self._state))


class HotProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which asks the application's `at_once` before it makes a task.

    It stands between the parser and uvicorn: a plain request is held back until its body is there,
    then answered, or handed on as if it had come this moment. Only what the parser calls, and what
    the server calls of every protocol, is overridden.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What uvicorn would do with a request beside serving it is not done here.
        is_plain = not self.access_log and not self.root_path and self.limit_concurrency is None
        self._at_once: AtOnce | None = _at_once_of(self.app) if is_plain else None
        self._held: bytearray | None = None
        self._packet: bytes | None = None
        self._is_between = True
        self._is_ending = False

    def data_received(self, data: bytes) -> None:
        """Answer a request that is whole and begins as an earlier one; let others be parsed."""
        at_once = self._at_once
        if at_once is None or not self._is_between:
            super().data_received(data)
            return
        begin = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        head = at_once.heads.get(data[:begin])
        if head is not None and len(data) == begin + head.length and self.is_idle:
            self._unset_keepalive_if_required()
            if self._answered(head, data[begin:], stays=True):
                return
        self._packet = data
        super().data_received(data)
        self._packet = None

    def on_message_begin(self) -> None:
        """Note that what comes next belongs to a request."""
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hold a plain request back; let any other go the ordinary way."""
        if (
            self._at_once is not None
            and self.is_idle
            and self._at_once.is_plain(self.parser.get_method(), self.url, self.headers)
        ):
            self._held = bytearray()
            return
        self._hand_on(None)

    def on_body(self, body: bytes) -> None:
        """Keep what belongs to a request that is held back."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        """Answer what was held back, or let it go the ordinary way."""
        self._is_between = True
        held, self._held = self._held, None
        if held is not None:
            body = bytes(held)
            head = Head(self.url, self.headers, dict(self.headers), len(body))
            stays = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            if self._answered(head, body, stays=stays):
                if stays:
                    self._remember(head)
                return
            self._hand_on(body)
        super().on_message_complete()

    def _remember(self, head: Head) -> None:
        packet = self._packet
        if packet is None or self._at_once is None:
            return
        text = packet[: len(packet) - head.length]
        # Only where the packet held this request and nothing else.
        if text.find(_END_OF_HEAD) == len(text) - len(_END_OF_HEAD):
            self._at_once.remember(text, head)

    def shutdown(self) -> None:
        """End once the request that is held back is answered, at once where there is none."""
        if self._held is None:
            super().shutdown()
        else:
            self._is_ending = True

    @property
    def is_idle(self) -> bool:
        """Whether whatever came before is answered: answers keep the order of their requests."""
        return self.cycle is None or self.cycle.response_complete

    def _hand_on(self, body: bytes | None) -> None:
        # One that came behind an answer in the same packet must not end with its keep-alive.
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False
        if body:
            super().on_body(body)

    def _answered(self, head: Head, body: bytes, *, stays: bool) -> bool:
        # Somebody who does not read his answers waits in the ordinary way until he does.
        if self._at_once is None or self.flow.write_paused or self.transport.is_closing():
            return False
        peer = None if self.client is None else self.client[0]
        try:
            answer = self._at_once.answer(head, body, peer)
        except Exception:  # noqa: BLE001 - it fails again the ordinary way, where that is logged
            return False
        if answer is None:
            return False
        under_way = _UnderWay(head, stays and not self._is_ending)
        if isinstance(answer, Later):
            # uvicorn asks the cycle of a connection what it must of a request under way.
            self.cycle = cast("RequestResponseCycle", under_way)
            answer.done.add_done_callback(partial(self._end_later, under_way, answer))
        else:
            self._end(under_way, HotAnswer(200, answer, JSON_HEADERS))
        return True

    def _end_later(self, under_way: _UnderWay, later: Later, done: Pending[Any]) -> None:
        try:
            answer = HotAnswer(200, later.render(done.result()), JSON_HEADERS)
        except AuroraError as error:
            answer = refusal(error, under_way.path, under_way.name)
        except Exception:
            log.exception("request_failed", request_id=under_way.name, path=under_way.path)
            answer = refusal(InternalError(), under_way.path, under_way.name)
        under_way.response_complete = True
        if self.transport.is_closing():
            # Whoever asked has left; what was stored is stored.
            return
        self._end(under_way, answer)

    def _end(self, under_way: _UnderWay, answer: HotAnswer) -> None:
        default = self.server_state.default_headers
        if self._at_once is not None and answer.headers is JSON_HEADERS:
            opening = self._at_once.opening(default)
        else:
            opening = _opening(answer.status, default, answer.headers)
        self.transport.write(
            b"%sx-request-id: %s\r\ncontent-length: %d\r\n%s\r\n%s"
            % (
                opening,
                under_way.name.encode("latin-1"),
                len(answer.body),
                b"" if under_way.keep_alive else b"connection: close\r\n",
                answer.body,
            )
        )
        if not under_way.keep_alive:
            self.transport.close()
        self.on_response_complete()


class _UnderWay:
    """A request that is answered later: all that uvicorn asks of the cycle of a connection.

    Attributes:
        name: The request's id.
        keep_alive: Whether the connection stays after it; the server's end says no.
        response_complete: Whether it is answered; whoever queues behind it waits for that.
        disconnected: Whether its sender left.
    """

    __slots__ = ("_target", "disconnected", "keep_alive", "name", "response_complete")

    def __init__(self, head: Head, keep_alive: bool) -> None:
        self.name, self._target, self.keep_alive = (
            request_id_of(head.named),
            head.target,
            keep_alive,
        )
        self.response_complete = self.disconnected = False

    @property
    def path(self) -> str:
        """Return what it asks for."""
        return self._target.decode("ascii")

    @property
    def message_event(self) -> Self:
        """Return what is set when the connection is lost; nobody waits for it."""
        return self

    def set(self) -> None:
        """Wake nobody."""


def _opening(status: int, default: Headers, own: Headers) -> bytes:
    lines = [b"%s: %s\r\n" % each for each in (*default, *HOT_HEADERS, *own)]
    phrase = HTTPStatus(status).phrase.encode("ascii")
    return b"HTTP/1.1 %d %s\r\n%s" % (status, phrase, b"".join(lines))


def refusal(error: AuroraError, path: str, request_id: str) -> HotAnswer:
    """Return a refusal as a hot route's answer."""
    response = problem(error, instance=path, request_id=request_id)
    # Length and no-store are every hot answer's.
    own = [
        (name, value)
        for name, value in response.raw_headers
        if name not in (b"content-length", b"cache-control")
    ]
    return HotAnswer(response.status_code, bytes(response.body), own)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the name that a request came with, where it is one safe word, or a fresh one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and REQUEST_ID.fullmatch(name := sent.decode("latin-1")):
        return name
    return new_request_id()


def _at_once_of(app: Any) -> AtOnce | None:
    found = getattr(app, "at_once", None)
    return found if isinstance(found, AtOnce) else None
