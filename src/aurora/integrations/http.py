"""What every HTTP door shares: who calls, how a refusal looks, and how much body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aurora.core.errors import AuroraError, Forbidden, NotFound, TooLarge, Unauthorized
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, person, tenant

PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE = "urn:aurora:problem:"
NO_STORE = {"cache-control": "no-store"}

Receive = Callable[[], Awaitable[Any]]


class ScopeMissing(Forbidden):
    """The key does not carry the scope that this call needs."""

    code, title = "scope_missing", "The API key does not have the scope that this call needs"


class OperatorOnly(Forbidden):
    """Only the platform's operators may do this."""

    code, title = "operator_only", "Only an operator's service token may do this"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: an operator, an organization with its key, or a signed-in person."""

    kind: Literal["operator", "key", "person"]
    organization_id: UUID | None = None
    key_id: UUID | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    person_id: UUID | None = None

    @property
    def name(self) -> str:
        """Who this is to the audit."""
        return "operator" if self.kind == "operator" else f"key:{self.key_id}"

    def actor(self, organization_id: UUID) -> Actor:
        """Return who acts in the database on this organization's data."""
        if self.kind == "person" and self.person_id is not None:
            return person(self.person_id)
        if self.kind == "operator":
            return replace(PLATFORM, name=self.name)
        return tenant(organization_id, name=self.name)

    def organization(self, asked: UUID | None, *, scope: str) -> UUID:
        """Return the organization this call is about, having checked that the caller may ask.

        Raises:
            ScopeMissing: A key without the scope.
            NotFound: A key that asks about another organization; the same as a missing one.
            OperatorOnly: An operator who names no organization is told to.
        """
        if self.kind == "operator":
            if asked is None:
                raise OrganizationMissing
            return asked
        if scope not in self.scopes:
            raise ScopeMissing(f"This call needs the scope {scope}.", scope=scope)
        if self.organization_id is None or asked not in (None, self.organization_id):
            raise NotFound
        return self.organization_id

    def must_be_operator(self) -> None:
        """Refuse everybody but operators.

        Raises:
            OperatorOnly: The caller is an organization's key.
        """
        if self.kind != "operator":
            raise OperatorOnly


class OrganizationMissing(AuroraError):
    """An operator must say which organization is meant."""

    status, code = 422, "organization_id_missing"
    title = "An operator's call must name organization_id"


def caller_of(request: Request) -> Caller:
    """Return who makes this request (a FastAPI dependency).

    Raises:
        Unauthorized: Nobody: no credentials came with it.
    """
    found = request.scope.get("aurora.caller")
    if not isinstance(found, Caller):
        raise Unauthorized(
            "Send an API key or a service token as 'Authorization: Bearer …' or 'X-API-Key: …'."
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
    headers = dict(NO_STORE)
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


async def read_body(receive: Receive, *, max_bytes: int) -> bytes:
    """Read a request's body, and stop reading where it passes the limit.

    Args:
        receive: The ASGI channel.
        max_bytes: The named limit of the door.

    Raises:
        TooLarge: The body is larger; its rest is not read.
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
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@dataclass(frozen=True, slots=True)
class HotRequest:
    """What a hot route gets: no framework stands between the socket and the handler."""

    body: bytes
    headers: Mapping[bytes, bytes]
    caller: Caller | None
    pool: Pool


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A route that is too hot for a framework, with its part of the OpenAPI document.

    Attributes:
        path: Exact path, no parameters.
        handler: Answers the JSON body of a 200.
        max_body_bytes: A larger body is refused with 413.
        operation: The OpenAPI operation object of its POST.
        models: The structs that the operation refers to as components.
        public: True where no credentials are needed.
    """

    path: str
    handler: Callable[[HotRequest], Awaitable[bytes]]
    max_body_bytes: int
    operation: Mapping[str, Any]
    models: tuple[type, ...]
    public: bool = False
