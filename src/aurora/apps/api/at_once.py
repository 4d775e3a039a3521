"""Answers a hot request where it is parsed, without a task, if there is nothing to wait for.

A task, its context, its messages, and the checks of every header are most of what a server in
Python does for a request; `bench/gate.py` measures what is left without them. Whatever is not
plain goes the ordinary way, through `Server`: so does everything under another HTTP server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from aurora.core.ids import request_id as new_request_id
from aurora.integrations.http import HotRoute

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
        self._answers: Mapping[str, Callable[[bytes, Any], bytes | None]] = {
            route.path: route.at_once for route in hot if route.at_once is not None
        }
        self._state = state

    def is_plain(self, scope: Mapping[str, Any]) -> bool:
        """Return whether the request may be answered once its body is there: small, and POST."""
        if scope["path"] not in self._answers or scope["method"] != "POST":
            return False
        size, length = 0, b""
        for name, value in scope["headers"]:
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

    def answer(self, scope: Mapping[str, Any], body: bytes) -> tuple[bytes, bytes] | None:
        """Return the lines of the head and the body of a 200, or None where it takes more."""
        answered = self._answers[scope["path"]](body, self._state)
        if answered is None:
            return None
        name = request_id_of(dict(scope["headers"])).encode("latin-1")
        return _HEAD % (name, len(answered)), answered


class HotProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which asks the application's `at_once` before it makes a task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at_once: AtOnce | None = None if self.access_log else _at_once_of(self.app)
        self._held: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # One that waited behind another has its body already, and goes the ordinary way: answered
        # from here, a thousand of them would be a thousand calls deep.
        if (
            self._at_once is not None
            and app is self.app
            and cycle.more_body
            and self._at_once.is_plain(cycle.scope)
        ):
            self._held = cycle
            return
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Answer what was held, or let it go the ordinary way."""
        held, self._held = self._held, None
        super().on_message_complete()
        if held is not None and not self._answered(held):
            super()._start_asgi_task(held, self.app)

    def _answered(self, cycle: RequestResponseCycle) -> bool:
        # Somebody who does not read his answers waits in the ordinary way until he does.
        if self._at_once is None or self.flow.write_paused or cycle.disconnected:
            return False
        try:
            answer = self._at_once.answer(cycle.scope, bytes(cycle.body))
        except Exception:  # noqa: BLE001 - it fails again the ordinary way, where that is logged
            return False
        if answer is None:
            return False
        head, body = answer
        always = b"".join([b"%s: %s\r\n" % each for each in self.server_state.default_headers])
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join((b"HTTP/1.1 200 OK\r\n", always, head, close, b"\r\n", body)))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
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
