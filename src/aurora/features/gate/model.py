"""The gate's question and answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Protocol
from uuid import UUID

import msgspec

from aurora.features.keys.model import Environment, KeyRecord, Kind
from aurora.features.limits.model import Taken

MAX_BATCH: Final = 100
"""Questions in one call of verify."""
MAX_VERIFY_BODY_BYTES: Final = 256 * 1024

LEASE_MS: Final = 1_000
"""How old the last proof that nothing changed may be, in milliseconds (AURORA_KEY_LEASE_MS)."""
HEARTBEATS_PER_LEASE: Final = 4
MAX_RECORDS: Final = 1_000_000
"""Keys a process remembers (AURORA_KEY_CACHE_RECORDS); those used least recently go first, by and
large."""
MAX_UNKNOWN: Final = 10_000
"""Keys a process remembers not to exist."""
MAX_CHANGES: Final = 10_000
"""Changes read at once; where there are more, everything is forgotten."""
KEEP_CHANGES: Final = timedelta(minutes=10)
"""How long a change stays in the log after the worker saw it."""
MAX_SILENCE_S: Final = 60.0
"""A process that has not read the log for so long forgets everything: well below KEEP_CHANGES."""
LOOK_UP_TIMEOUT_S: Final = 1.0
"""How long PostgreSQL is waited for before the verdict is UNAVAILABLE."""
MAX_LOOK_UPS: Final = 500
"""Keys looked up at once; one more hears UNAVAILABLE, as it would by waiting."""

FAILURES_PER_MINUTE: Final = 60
"""Unknown keys of one address that are looked up; further ones hear RATE_LIMITED."""
PEER_FAILURES_PER_MINUTE: Final = 600
"""The same of a peer that asks for others, such as a customer's server."""
MAX_PLACES: Final = 50_000
"""Addresses whose failures are counted."""
FLUSH_S: Final = 5.0
"""How often uses of keys are written down."""
MAX_ERRANDS: Final = 100_000
"""Keys whose use waits to be written down; more are let go."""

Code = Literal[
    "VALID",
    "MALFORMED",
    "NOT_FOUND",
    "REVOKED",
    "EXPIRED",
    "NOT_YET",
    "ORGANIZATION_SUSPENDED",
    "ORIGIN_DENIED",
    "IP_DENIED",
    "SCOPE_MISSING",
    "RATE_LIMITED",
    "QUOTA_EXCEEDED",
    "UNAVAILABLE",
]

Detail = Literal["secret_key_in_browser", "too_many_unknown_keys"]

HTTP_STATUS: Final[dict[Code, int]] = {
    "VALID": 200,
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
"""What a door that answers for the gate says: 401 another key is needed, 403 another request,
429 later, 503 the gate does not know."""


class VerifyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request that carries a key, as much of it as the gate needs.

    Attributes:
        key: The key as it was sent.
        origin: The Origin header, where there was one.
        ip: The caller's address, where it is known.
        scope: What the request is going to do.
        endpoint: Where it goes; for the record.
    """

    key: Annotated[str, msgspec.Meta(max_length=500)]
    origin: Annotated[str, msgspec.Meta(max_length=300)] | None = None
    ip: Annotated[str, msgspec.Meta(max_length=45)] | None = None
    scope: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    endpoint: Annotated[str, msgspec.Meta(max_length=2048)] | None = None


class Verdict(msgspec.Struct, kw_only=True, frozen=True):
    """Whether the request may pass, and why; only a key that exists names its organization.

    What was taken of limits and quota is told where it was asked for: a request that is refused
    before takes nothing.
    """

    valid: bool
    code: Code
    detail: Detail | None = None
    organization_id: UUID | None = None
    key_id: UUID | None = None
    environment: Environment | None = None
    kind: Kind | None = None
    scopes: tuple[str, ...] = ()
    plan_id: str | None = None
    rate_limit_tier: str | None = None
    rate_limit_per_hour: int | None = None
    limits: Taken | None = None


class VerifyBatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Several questions in one call."""

    requests: Annotated[list[VerifyRequest], msgspec.Meta(max_length=MAX_BATCH)]


class BatchVerdict(msgspec.Struct, kw_only=True, frozen=True):
    """The verdicts of a batch, in the order of its questions."""

    results: list[Verdict]


class Limiter(Protocol):
    """What the gate asks once everything else is right with a request."""

    def take(self, record: KeyRecord, scope: str | None = None) -> Taken | None:
        """Take one request at once, or return None where that needs PostgreSQL."""

    async def lease(self, record: KeyRecord, scope: str | None = None) -> Taken:
        """Take one request after a round trip to PostgreSQL.

        Raises:
            psycopg.Error: PostgreSQL does not answer; the verdict is UNAVAILABLE.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key as the database has it, with what matters of its organization."""

    id: UUID
    organization_id: UUID
    organization_status: str
    plan_id: str | None
    kind: Kind
    environment: Environment
    scopes: list[str]
    status: str
    not_before: datetime | None
    expires_at: datetime | None
    allowed_origins: list[str]
    ip_whitelist: list[str] | None
    rate_limit_tier: str
    rate_limit_per_hour: int
    burst_per_second: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed, as pairs of organization and key hash, and the snapshot it was seen from.

    A pair without a hash means every key of the organization, one without either everybody's.
    """

    seen: str
    changed: list[tuple[str | None, str | None]]
