"""What every HTTP door shares: who calls, how a refusal looks, and how much body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aurora.core.errors import (
    AuroraError,
    Forbidden,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, person, tenant

PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE = "urn:aurora:problem:"
MAX_BYTES_UNDER_WAY = 64 * 1024 * 1024
BODIES_RETRY_AFTER_S = 1
NO_STORE = {"cache-control": "no-store"}

Receive = Callable[[], Awaitable[Any]]


class ScopeMissing(Forbidden):
    """The key or token does not carry the scope that this call needs."""

    code, title = "scope_missing", "The key or token does not have the scope that this call needs"


class OperatorOnly(Forbidden):
    """Only the platform's operators may do this."""

    code, title = "operator_only", "Only an operator may do this"


class SessionNeeded(Forbidden):
    """Only a person with a session in a browser may do this."""

    code, title = "session_needed", "Only a person who is signed in with a session may do this"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        kind: operator: everything. service: a service token in what it may not do everything of.
            key: an organization with its key. person: somebody signed in.
        organization_id: A key's.
        key_id: A key's.
        scopes: A key's or a service token's.
        person_id: A person's, `auth.users.id`.
        email: A person's.
        session_id: Where a person came with a cookie.
        is_operator: Whether a person runs the platform (`app.is_operator()`).
        token_id: A stored service token's.
        answer_headers: What every answer to this caller carries, in lower case.
    """

    kind: Literal["operator", "service", "key", "person"]
    organization_id: UUID | None = None
    key_id: UUID | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    person_id: UUID | None = None
    email: str | None = None
    session_id: UUID | None = None
    is_operator: bool = False
    token_id: UUID | None = None
    answer_headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def acts_as_platform(self) -> bool:
        """Whether row level security is not what limits this caller."""
        return self.kind == "operator" or (self.kind == "person" and self.is_operator)

    @property
    def name(self) -> str:
        """What the audit calls this caller: operator, key:<id>, user:<id>, service:<id>."""
        if self.person_id is not None:
            return f"user:{self.person_id}"
        if self.key_id is not None:
            return f"key:{self.key_id}"
        return "operator" if self.token_id is None else f"service:{self.token_id}"

    def actor(self, organization_id: UUID) -> Actor:
        """Return who acts in the database on this organization's data.

        Raises:
            ScopeMissing: A service token that is not an operator's: it has no rights of its own.
        """
        if self.kind == "key":
            return tenant(organization_id)
        return self.everywhere()

    def everywhere(self) -> Actor:
        """Return who acts where no single organization is named.

        Raises:
            OperatorOnly: The caller belongs to one organization.
            ScopeMissing: A service token that is not an operator's.
        """
        if self.acts_as_platform:
            return PLATFORM
        if self.kind == "person" and self.person_id is not None:
            return person(self.person_id, email=self.email)
        self.must_be_operator()
        raise OperatorOnly

    def organization(self, asked: UUID | None, *, scope: str) -> UUID:
        """Return the organization this call is about, having checked that the caller may ask.

        A person's membership is not checked here but by the row level security of `actor`.

        Raises:
            ScopeMissing: A key or a service token without the scope.
            NotFound: A key that asks about another organization; the same as a missing one.
            OrganizationMissing: An operator or a person who names no organization is told to.
        """
        if self.kind in {"operator", "person"}:
            if asked is None:
                raise OrganizationMissing
            return asked
        if scope not in self.scopes:
            raise ScopeMissing(f"This call needs the scope {scope}.", scope=scope)
        if self.organization_id is None or asked not in (None, self.organization_id):
            raise NotFound
        return self.organization_id

    def must_be_operator(self, scope: str = "operator") -> None:
        """Refuse everybody but operators, and service tokens that carry the scope.

        Raises:
            ScopeMissing: A service token without the scope.
            OperatorOnly: The caller is an organization's key, or a person who is no operator.
        """
        if self.acts_as_platform:
            return
        if self.kind != "service":
            raise OperatorOnly
        if scope not in self.scopes:
            raise ScopeMissing(f"This call needs the scope {scope}.", scope=scope)

    def must_have_session(self) -> tuple[UUID, UUID]:
        """Return the person and the session.

        Raises:
            SessionNeeded: The caller is no person, or came with another system's token.
        """
        if self.person_id is None or self.session_id is None:
            raise SessionNeeded
        return self.person_id, self.session_id


class OrganizationMissing(AuroraError):
    """Who belongs to more than one organization must say which is meant."""

    status, code = 422, "organization_id_missing"
    title = "This call must name organization_id"


def caller_of(request: Request) -> Caller:
    """Return who makes this request (a FastAPI dependency).

    Raises:
        Unauthorized: Nobody: no credentials came with it.
    """
    found = request.scope.get("aurora.caller")
    if not isinstance(found, Caller):
        raise Unauthorized(
            "Send an API key or a service token as 'Authorization: Bearer …' or 'X-API-Key: …', "
            "or sign in."
        )
    return found


def pool_of(request: Request) -> Pool:
    """Return the application's connection pool (a FastAPI dependency)."""
    pool: Pool = request.app.state.pool
    return pool


def problem(error: AuroraError, *, instance: str, request_id: str) -> Response:
    """Return the RFC 9457 problem document for a refusal."""
    body: dict[str, Any] = {
        "type": PROBLEM_TYPE + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
        **error.facts,
    }
    headers = {**NO_STORE, **error.headers}
    if error.status == Unauthorized.status:
        headers["www-authenticate"] = 'Bearer realm="aurora"'
    retry_after_s = error.facts.get("retry_after_s")
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    allow = error.facts.get("allow")
    if allow is not None:
        headers["allow"] = allow
    return Response(
        msgspec.json.encode(body), error.status, headers=headers, media_type=PROBLEM_JSON
    )


def picture_response(png: bytes) -> Response:
    """Return a picture as the picture that it is, and as nothing that a browser could run."""
    headers = {**NO_STORE, "content-security-policy": "default-src 'none'; sandbox"}
    return Response(png, media_type="image/png", headers=headers)


class BodiesTooMany(Unavailable):
    """The bodies of other requests fill the memory that this route has for bodies."""

    code, title = "bodies_too_many", "Too many requests send bodies at once; send this one again"


class BodyBudget:
    """How many bytes the bodies of one route may have together, from reading to answering.

    Args:
        max_bytes: One body fits always, however large, when it is alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken = 0

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """Give a request its share, which is given back at the end of the block."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.taken -= share.bytes

    def has_room(self, already: int, more: int) -> bool:
        """Say whether a request with `already` bytes may have `more`, in bytes."""
        return self.taken == already or self.taken + more <= self._max_bytes


class BodyShare:
    """What one request holds of a budget, in bytes."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.bytes = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            BodiesTooMany: The others leave no room for them.
        """
        if not self._budget.has_room(self.bytes, size):
            raise BodiesTooMany(retry_after_s=BODIES_RETRY_AFTER_S)
        self.bytes += size
        self._budget.taken += size


async def read_body(receive: Receive, *, max_bytes: int, share: BodyShare | None = None) -> bytes:
    """Read a request's body, and stop reading where it passes the limit.

    Args:
        receive: The ASGI channel.
        max_bytes: The named limit of the door.
        share: What the request holds of the route's budget.

    Raises:
        TooLarge: The body is larger; its rest is not read.
        BodiesTooMany: Other bodies leave no room for it.
        ConnectionError: The client went away.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"The body may have at most {max_bytes:,} bytes.", max_bytes=max_bytes)
        if share is not None:
            share.take(len(chunk))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
