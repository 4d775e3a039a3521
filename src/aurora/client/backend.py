"""What the middleware asks of Aurora, whether it is far away or in this process."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from aurora.client.model import Question, Receipt, Verdict

STATUS_OF: Final = {
    "MALFORMED": 401,
    "NOT_FOUND": 401,
    "REVOKED": 401,
    "EXPIRED": 401,
    "NOT_YET": 401,
    "ORGANIZATION_SUSPENDED": 403,
    "ORIGIN_DENIED": 403,
    "IP_DENIED": 403,
    "SCOPE_MISSING": 403,
    "RATE_LIMITED": 429,
    "QUOTA_EXCEEDED": 429,
    "UNAVAILABLE": 503,
}
"""Codes of refusals by HTTP status; one that is not known here is a 403."""

UNAVAILABLE: Final = Verdict(valid=False, code="UNAVAILABLE")


class Away(Exception):
    """Aurora did not answer; what was asked may be asked again.

    Attributes:
        retry_after_s: Seconds, where Aurora said so.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class BatchRefused(Exception):
    """Aurora will not take this body, now or later: 400, 413, 422."""

    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{detail} [{code}]")


class Asked(Protocol):
    """What is asked about a request, for as long as the answer takes: a Question, or as good."""

    @property
    def key(self) -> str | None:
        """Return the key as it was sent."""

    @property
    def origin(self) -> str | None:
        """Return the Origin header."""

    @property
    def ip(self) -> str | None:
        """Return the caller's address."""

    @property
    def scope(self) -> str | None:
        """Return what the request is going to do."""


class Verifier(Protocol):
    """Decides about requests, in the event loop that opened it."""

    async def open(self) -> None:
        """Get ready; called once, in the loop that will ask.

        Raises:
            OSError: Aurora cannot be reached; a later request tries again.
        """

    def verify_at_once(self, question: Asked, /) -> Verdict | None:
        """Return the verdict, or None where it takes waiting; nothing is kept of the question."""

    async def verify(self, question: Question) -> Verdict:
        """Return the verdict. UNAVAILABLE is one: whoever asks decides what it means."""

    async def close(self) -> None:
        """Give back what was taken."""


class Recorder(Protocol):
    """Hands events to Aurora, in a loop of its own."""

    async def open(self) -> None:
        """Get ready; called once, in the loop that will record."""

    async def record(self, body: bytes) -> Receipt:
        """Record a JSON array of events; what the receipt says is committed.

        Raises:
            Away: Aurora did not say that it has them.
            BatchRefused: It never will.
        """

    async def close(self) -> None:
        """Give back what was taken."""


class Plan(msgspec.Struct):
    """How a recorder is made in another process; its repr hides what it is made of.

    Attributes:
        factory: `module:name` of what makes it.
        arguments: What that is called with.
    """

    factory: str
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        """Show what is made, and nothing secret."""
        return f"Plan(factory={self.factory!r})"


class Backend(Protocol):
    """How to reach Aurora."""

    def plan(self) -> Plan | None:
        """Return how a process of its own records, or None where a thread does."""

    def verifier(self) -> Verifier:
        """Return what decides about requests."""

    def recorder(self) -> Recorder:
        """Return what events are handed to."""
