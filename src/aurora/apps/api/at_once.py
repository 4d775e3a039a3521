"""Answers a hot request where it is parsed, without a task, if there is nothing to wait for.

A task, its context, its messages, and the checks of every header are most of what a server in
Python does for a request; `bench/gate.py` measures what is left without them. Whatever is not
plain goes the ordinary way, through `Server`: so does everything under another HTTP server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aurora.core.ids import request_id as new_request_id
from aurora.integrations.http import HotRoute

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEADER_BYTES: Final = 64 * 1024
SMALL_BODY_BYTES: Final = 16 * 1024
"""No connection buffers less, so these bodies need no budget of their own."""
MAX_LENGTH_DIGITS: Final = 5
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
_HEAD: Final = (
    b"".join(b"%s: %s\r\n" % each for each in HOT_HEADERS + JSON_HEADERS)
    + b"x-request-id: %s\r\ncontent-length: %d\r\n"
)


class AtOnce:
    """The routes that may be answered at once.

    Args:
        hot: All hot routes.
        state: The application's, by name.
    """

    def __init__(self, hot: tuple[HotRoute, ...], state: Any) -> None:
        self._answers: Mapping[bytes, Callable[[bytes, Any], bytes | None]] = {
            route.path.encode("ascii"): route.at_once for route in hot if route.at_once is not None
        }
        self._state = state

    def is_plain(self, method: bytes, target: bytes, headers: Headers) -> bool:
        """Return whether the request may be answered once its body is there: small, and POST."""
        if target not in self._answers or method != b"POST":
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

    def answer(self, target: bytes, headers: Headers, body: bytes) -> tuple[bytes, bytes] | None:
        """Return the lines of the head and the body of a 200, or None where it takes more."""
        answered = self._answers[target](body, self._state)
        if answered is None:
            return None
        name = request_id_of(dict(headers)).encode("latin-1")
        return _HEAD % (name, len(answered)), answered


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
        self._is_ending = False

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
        held, self._held = self._held, None
        if held is not None:
            if self._answered(bytes(held)):
                return
            self._hand_on(bytes(held))
        super().on_message_complete()

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

    def _answered(self, body: bytes) -> bool:
        # Somebody who does not read his answers waits in the ordinary way until he does.
        if self._at_once is None or self.flow.write_paused or self.transport.is_closing():
            return False
        try:
            answer = self._at_once.answer(self.url, self.headers, body)
        except Exception:  # noqa: BLE001 - it fails again the ordinary way, where that is logged
            return False
        if answer is None:
            return False
        head, said = answer
        stays = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        stays = stays and not self._is_ending
        always = b"".join([b"%s: %s\r\n" % each for each in self.server_state.default_headers])
        close = b"" if stays else b"connection: close\r\n"
        self.transport.write(b"".join((b"HTTP/1.1 200 OK\r\n", always, head, close, b"\r\n", said)))
        if not stays:
            self.transport.close()
        self.on_response_complete()
        return True


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the name that a request came with, where it is one safe word, or a fresh one."""
    sent = headers.get(b"x-request-id")
    if sent is not None and REQUEST_ID.fullmatch(name := sent.decode("latin-1")):
        return name
    return new_request_id()


def _at_once_of(app: Any) -> AtOnce | None:
    found = getattr(app, "at_once", None)
    return found if isinstance(found, AtOnce) else None
