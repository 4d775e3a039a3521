"""The gate's question and answer."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

MAX_VERIFY_BODY_BYTES = 16 * 1024

Code = Literal[
    "VALID",
    "MALFORMED",
    "NOT_FOUND",
    "REVOKED",
    "EXPIRED",
    "ORGANIZATION_SUSPENDED",
    "ORIGIN_DENIED",
    "IP_DENIED",
    "SCOPE_MISSING",
]


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
    """Whether the request may pass, and why; only a key that exists names its organization."""

    valid: bool
    code: Code
    organization_id: UUID | None = None
    key_id: UUID | None = None
    environment: Literal["production", "test"] | None = None
    kind: Literal["secret", "publishable"] | None = None
    scopes: list[str] = []
    rate_limit_tier: str | None = None
    rate_limit_per_hour: int | None = None
