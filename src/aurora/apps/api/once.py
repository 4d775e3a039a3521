"""Makes an unsafe call that bears an Idempotency-Key once, and answers it the same every time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aurora.core.errors import AuroraError, LimitExceeded
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.replies import service
from aurora.features.replies.model import MAX_BODY_BYTES, Answer, Once

HEADER: Final = b"idempotency-key"
REPLAYED: Final = (b"idempotency-replayed", b"true")
_KEPT: Final = frozenset({b"content-type", b"location", b"content-disposition"})
_SERVER_FAILED: Final = 500

log = structlog.get_logger(__name__)


async def serve_once(
    app: ASGIApp, call: Once, pool: Pool, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve a call, or give the answer that it had before.

    Raises:
        IdempotencyKeyReused: The key belongs to another request.
        IdempotencyInFlight: The first call is under way.
        OutcomeUnknown: The first call's answer was lost.
    """
    async with transaction(pool, PLATFORM) as conn:
        before = await service.begin(conn, call)
    if before is not None:
        headers = [*before.headers, (b"content-length", b"%d" % len(before.body)), REPLAYED]
        await send({"type": "http.response.start", "status": before.status, "headers": headers})
        await send({"type": "http.response.body", "body": before.body})
        return
    heard = _Listening(send)
    await app(scope, receive, heard.send)
    try:
        async with transaction(pool, PLATFORM) as conn:
            if heard.status == LimitExceeded.status:
                await service.give_back(conn, call)
            elif (answer := heard.answer()) is not None:
                await service.keep(conn, call, answer)
        await heard.finish()
    except AuroraError as error:
        # The effect is there, and the answer has not gone out whole: its caller will ask again
        # and hear that the outcome is unknown, which is the truth.
        log.warning("reply_not_kept", code=error.code)
        await heard.finish()


class _Listening:
    """Hears an answer as it goes out; its end waits until the answer is kept."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self._send = send
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._held: list[Message] = []
        self._is_secret = False
        self.status = 0

    async def send(self, message: Message) -> None:
        """Hold a small answer back until it is kept; a large one goes out as it comes."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = [pair for pair in message["headers"] if pair[0].lower() in _KEPT]
            # A cookie is given to whoever asked, and to nobody who asks again.
            self._is_secret = any(name.lower() == b"set-cookie" for name, _ in message["headers"])
        else:
            self._size += len(message.get("body", b""))
            self._body.append(message.get("body", b""))
        self._held.append(message)
        if self._size > MAX_BODY_BYTES:
            self._body.clear()
            await self.finish()

    def answer(self) -> Answer | None:
        """Return what is to be kept, or None where that is nothing.

        After a 5xx nobody knows whether the transaction was committed, so its outcome stays
        unknown, and the call is not made again.
        """
        whole = self.status and self.status < _SERVER_FAILED and self._size <= MAX_BODY_BYTES
        if not whole or self._is_secret:
            return None
        return Answer(self.status, self._headers, b"".join(self._body))

    async def finish(self) -> None:
        """Send what was held back."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)
