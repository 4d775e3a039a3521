"""Aurora over HTTP, for the middleware: many questions in one call, and no verdict used twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
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


class _Waiting:
    """A question, who waits for its answer, and since when."""

    __slots__ = ("answer", "question", "since_s")

    def __init__(self, question: Question, answer: asyncio.Future[Verdict], since_s: float) -> None:
        self.question, self.answer, self.since_s = question, answer, since_s


class RemoteVerifier:
    """Asks Aurora about each request, together with the others that are asked at the same time.

    Every question is asked: a verdict takes one of the key's limit, and is worth one request. Who
    comes alone is asked about at once; what is asked while calls are under way goes together in
    the next. One call at a time would be fewer, but of half the size where requests come as fast
    as they are answered, for half of them then wait while the other half is asked about.
    """

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        self._aurora = AsyncAurora(url, token, timeout_s=timeout_s, retrying=_ONCE)
        self._timeout_s = timeout_s
        self._waiting: deque[_Waiting] = deque()
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
        """Return the verdict; UNAVAILABLE where none came within twice the time of a call."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Verdict] = loop.create_future()
        self._waiting.append(_Waiting(question, answer, loop.time()))
        if len(self._calls) < MAX_CALLS:
            self._begin()
        return await answer

    def _begin(self) -> None:
        task = asyncio.create_task(self._call())
        self._calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._waiting and len(self._calls) < MAX_CALLS:
            self._begin()

    async def _call(self) -> None:
        """Ask about whoever waits; when this ends, none of them waits any more."""
        # One turn of the loop later everybody who asked in this one has done so.
        await asyncio.sleep(0)
        asked = self._next()
        if not asked:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ask(asked)
        except TimeoutError:
            self._away_until_s = asyncio.get_running_loop().time() + AWAY_S
        finally:
            _answer(asked, [UNAVAILABLE] * len(asked))

    def _next(self) -> list[_Waiting]:
        """Take those who wait longest, as many as a call may ask about, but nobody who left."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        asked: list[_Waiting] = []
        while self._waiting and len(asked) < MAX_QUESTIONS_PER_CALL:
            waiting = self._waiting.popleft()
            if waiting.since_s < before_s:
                _answer([waiting], [UNAVAILABLE])
            elif not waiting.answer.done():
                asked.append(waiting)
        return asked

    async def _ask(self, asked: list[_Waiting]) -> None:
        try:
            if len(asked) == 1:
                verdicts = [await self._aurora.send(calls.verify(asked[0].question))]
            else:
                questions = [each.question for each in asked]
                verdicts = await self._aurora.send(calls.verify_many(questions))
        except CallFailed as error:
            if error.status in _NEVER and len(asked) > 1:
                # One question spoils the call; the others are not answered for it.
                middle = len(asked) // 2
                await self._ask(asked[:middle])
                await self._ask(asked[middle:])
            elif error.status is None or error.status >= 500:  # noqa: PLR2004
                # One bad question is not an outage; silence and 5xx are.
                self._away_until_s = asyncio.get_running_loop().time() + AWAY_S
            return
        if len(verdicts) == len(asked):
            _answer(asked, verdicts)

    async def close(self) -> None:
        """Let nobody wait any more, and close the connections."""
        waiting, self._waiting = list(self._waiting), deque()
        _answer(waiting, [UNAVAILABLE] * len(waiting))
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._aurora.close()


def _answer(asked: Sequence[_Waiting], verdicts: Sequence[Verdict]) -> None:
    """Give each its verdict, but who has one or has left."""
    for waiting, verdict in zip(asked, verdicts, strict=True):
        if not waiting.answer.done():
            waiting.answer.set_result(verdict)


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
