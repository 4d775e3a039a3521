"""Aurora over HTTP, for the middleware: many questions in one call, and no verdict used twice."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from aurora.client import calls
from aurora.client.asynchronous import AsyncAurora
from aurora.client.backend import UNAVAILABLE, Asked, Away, BatchRefused, Plan
from aurora.client.errors import CallFailed
from aurora.client.model import MAX_QUESTIONS_PER_CALL, Question, Receipt, Verdict
from aurora.client.retrying import Retrying

VERIFY_TIMEOUT_S: Final = 2.0
RECORD_TIMEOUT_S: Final = 30.0
MAX_CALLS: Final = 2
"""Calls of verify under way; what is asked meanwhile goes together in the next."""
MAX_WAITING: Final = 10_000
AWAY_S: Final = 0.5
"""After Aurora did not answer, for how long nobody waits for it."""

_ONCE: Final = Retrying(max_attempts=1)
_NEVER: Final = frozenset({400, 413, 422})


class Remote:
    """How to reach Aurora over HTTP.

    Args:
        url: Where it is.
        token: A service token with `usage:write`: whatever organization's key a request carries,
            its usage is recorded for that organization.
        timeout_s: How long a request waits for its verdict.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = VERIFY_TIMEOUT_S) -> None:
        self._url, self._token, self._timeout_s = url, token, timeout_s

    def __repr__(self) -> str:
        """Show where Aurora is, and nothing secret."""
        return f"Remote({self._url!r})"

    def plan(self) -> Plan | None:
        """Return None: sending is waiting, mostly, and a thread can wait."""
        return None

    def verifier(self) -> RemoteVerifier:
        """Return what asks `POST /v1/keys/verify`."""
        return RemoteVerifier(self._url, self._token, self._timeout_s)

    def recorder(self) -> RemoteRecorder:
        """Return what sends `POST /v1/usage/events`."""
        return RemoteRecorder(self._url, self._token)


class RemoteVerifier:
    """Asks Aurora about each request, together with the others that are asked at the same time.

    Every question is asked: a verdict takes one of the key's limit, and is worth one request.
    """

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        self._aurora = AsyncAurora(url, token, timeout_s=timeout_s, retrying=_ONCE)
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[Question, asyncio.Future[Verdict]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._away_until_s = float("-inf")

    async def open(self) -> None:
        """Nothing is opened before the first question."""

    def verify_at_once(self, question: Asked, /) -> Verdict | None:
        """Return UNAVAILABLE while Aurora is away; otherwise it takes a call."""
        del question
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until_s or len(self._waiting) >= MAX_WAITING:
            return UNAVAILABLE
        return None

    async def verify(self, question: Question) -> Verdict:
        """Return the verdict, UNAVAILABLE where none came in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Verdict] = loop.create_future()
        self._waiting.append((question, answer))
        if len(self._calls) < MAX_CALLS:
            self._begin()
        # A call that hangs must not hold those who wait for the one after it.
        done, _ = await asyncio.wait({answer}, timeout=2 * self._timeout_s)
        if not done:
            answer.cancel()
            return UNAVAILABLE
        return answer.result()

    def _begin(self) -> None:
        task = asyncio.create_task(self._call())
        self._calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._waiting and len(self._calls) < MAX_CALLS:
            self._begin()

    async def _call(self) -> None:
        # One turn of the loop later everybody who asked in this one has done so.
        await asyncio.sleep(0)
        asked = [
            self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_QUESTIONS_PER_CALL))
        ]
        asked = [each for each in asked if not each[1].done()]
        if not asked:
            return
        verdicts = [UNAVAILABLE] * len(asked)
        try:
            if len(asked) == 1:
                verdicts = [await self._aurora.send(calls.verify(asked[0][0]))]
            else:
                questions = [question for question, _ in asked]
                verdicts = await self._aurora.send(calls.verify_many(questions))
        except CallFailed as error:
            # One bad question is not an outage; silence and 5xx are.
            if error.status is None or error.status >= 500:  # noqa: PLR2004
                self._away_until_s = asyncio.get_running_loop().time() + AWAY_S
        finally:
            if len(verdicts) != len(asked):
                verdicts = [UNAVAILABLE] * len(asked)
            for (_, answer), verdict in zip(asked, verdicts, strict=True):
                if not answer.done():
                    answer.set_result(verdict)

    async def close(self) -> None:
        """Let nobody wait any more, and close the connections."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        while self._waiting:
            _, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(UNAVAILABLE)
        await self._aurora.close()


class RemoteRecorder:
    """Sends events; when and how often is the sender's business."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._aurora: AsyncAurora | None = None

    async def open(self) -> None:
        """Make the client, in the loop that will use it."""
        self._aurora = AsyncAurora(
            self._url, self._token, timeout_s=RECORD_TIMEOUT_S, retrying=_ONCE
        )

    async def record(self, body: bytes) -> Receipt:
        """Send a JSON array of events.

        Raises:
            Away: No receipt came.
            BatchRefused: Aurora cannot read it.
        """
        if self._aurora is None:
            raise Away("the recorder is not open")
        try:
            return await self._aurora.send(calls.record_encoded(body))
        except CallFailed as error:
            if error.status in _NEVER:
                raise BatchRefused(error.code, error.detail) from None
            raise Away(str(error), error.retry_after_s) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._aurora is not None:
            await self._aurora.close()
