"""What the replies room speaks of: a call that is made once, and what became of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from aurora.core.errors import Conflict, Invalid

KEEP_S: Final = 24 * 3_600
"""How long an answer is kept, in seconds."""
MAX_CALL_S: Final = 120.0
"""A call that is under way for longer has lost its end: no statement may take half as long."""
MAX_BODY_BYTES: Final = 1024 * 1024
KEY: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
"""Printable ASCII without blanks, as Stripe and the IETF's draft have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """A call that is to be made once.

    Attributes:
        caller: Who makes it, by the audit's name.
        credential: What the caller proved that with; in no repr and no table.
        key: The Idempotency-Key; the same.
        request_digest: SHA-256 of method, path, query, and body.
    """

    caller: str
    credential: bytes
    key: bytes
    request_digest: bytes

    def __repr__(self) -> str:
        """Show whose call it is, and nothing secret."""
        return f"Once(caller={self.caller!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A row: an answer, or none yet. `age_s` is in seconds."""

    request_digest: bytes
    sealed: bytes | None
    age_s: float


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A status, the headers that are the answer's own, and a body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class IdempotencyKeyInvalid(Invalid):
    """The header cannot be a key."""

    status, code = 400, "idempotency_key_invalid"
    title = "Idempotency-Key is 1 to 255 printable ASCII characters without blanks"


class IdempotencyKeyReused(Invalid):
    """The key came with another request before."""

    code, title = "idempotency_key_reused", "This Idempotency-Key was used for another request"


class IdempotencyInFlight(Conflict):
    """The first call is under way."""

    code, title = "idempotency_in_flight", "The call with this Idempotency-Key is under way"


class OutcomeUnknown(Conflict):
    """The first call ended and its answer is lost, so only its caller can find out what it did."""

    code = "idempotency_outcome_unknown"
    title = "A call with this Idempotency-Key was made and its answer lost; look what it did"
