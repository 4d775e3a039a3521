"""Builds the HTTP application from the rooms' doors, with its problems and OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from aurora import __version__
from aurora.apps import house
from aurora.apps.api.at_once import InternalError
from aurora.apps.api.identity import Doorkeeper
from aurora.apps.api.pages import page_routes
from aurora.apps.api.server import MethodNotAllowed, Server
from aurora.core import clock
from aurora.core.errors import AuroraError, Invalid, Malformed, NotFound
from aurora.db.migrator import check_schema
from aurora.db.pool import open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate.model import LEASE_MS, MAX_RECORDS
from aurora.features.gate.service import Gate
from aurora.features.limits.taking import Limits
from aurora.features.sign_in.browser import Site
from aurora.integrations.access_tokens import AccessTokens
from aurora.integrations.http import problem
from aurora.integrations.proxies import Proxies

MAX_FIELD_ERRORS = 20
DEFAULT_URL = "http://127.0.0.1:8000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
DESCRIPTION = """\
Keys, limits, usage, and invoices of one organization after another.

Send an organization's API key or an operator's service token as `Authorization: Bearer …`; people
sign in and have a cookie. Every 4xx and 5xx is a problem document (RFC 9457) with a stable `code`.
Times are ISO 8601 in UTC, amounts are decimal strings in major units.
"""


def build(
    *,
    dsn: str,
    service_token: str,
    pool_size: int = 8,
    demo_key_prefix: str | None = None,
    public_url: str = DEFAULT_URL,
    access_tokens: AccessTokens | None = None,
    key_lease_ms: int = LEASE_MS,
    key_cache_records: int = MAX_RECORDS,
    trusted_proxies: Sequence[str] = (),
) -> Server:
    """Return the ASGI application; its lifespan opens and closes the pool.

    Args:
        dsn: The application's login.
        service_token: What operators send as Bearer.
        pool_size: Connections at the most.
        demo_key_prefix: Shown on the start page where the demo organization is there.
        public_url: Where people reach it; cookies and links follow from this, not from requests.
        access_tokens: Verifies Supabase's, where they are accepted.
        key_lease_ms: How old the gate's proof may be that no key has changed, in milliseconds.
        key_cache_records: How many keys the gate remembers.
        trusted_proxies: Addresses and networks whose word about a caller's address counts.

    Raises:
        PublicUrlInvalid: Cookies would travel in the clear.
    """
    site = Site(public_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await open_pool(dsn, max_size=pool_size, name="aurora-api")
        app.state.pool, app.state.dsn = pool, dsn
        limits = Limits(pool)
        gate = Gate(pool, limiter=limits, lease_ms=key_lease_ms, max_records=key_cache_records)
        app.state.gate, app.state.usage_committed = gate, limits.recorded
        gate.start(dsn)
        try:
            async with AsyncExitStack() as stack:
                for room in house.rooms():
                    of_the_room = room.offered("api", "lifespan")
                    if of_the_room is not None:
                        await stack.enter_async_context(of_the_room(app.state))
                yield
        finally:
            await gate.stop()
            await limits.close()
            await pool.close()

    app = FastAPI(
        title="Aurora",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # A path with one slash too many is another path: a redirect would lose the POST's body.
        redirect_slashes=False,
        routes=page_routes(now=clock.now, demo_key_prefix=demo_key_prefix),
    )
    app.state.site, app.state.usage_committed = site, _nobody_listens
    app.state.proxies, app.state.stopping = Proxies(trusted_proxies), asyncio.Event()
    _add_rooms(app)
    _add_probes(app)
    _add_problems(app)
    _add_hot_operations(app)

    doorkeeper = Doorkeeper(service_token, site, access_tokens)
    return Server(app, hot=house.hot_routes(), doorkeeper=doorkeeper, state=app.state)


def _nobody_listens(_organization_ids: Iterable[UUID]) -> None:
    """Stand in for the quotas until the lifespan has opened what they ask."""


def _add_rooms(app: FastAPI) -> None:
    for room in house.rooms():
        router = room.offered("api", "router")
        if router is not None:
            app.include_router(router)


def _add_probes(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Say that this process runs."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["operations"])
    async def readyz(request: Request) -> dict[str, str]:
        """Say that the database answers and has this release's schema; 503 otherwise."""
        async with transaction(request.app.state.pool, PLATFORM, read_only=True) as conn:
            await check_schema(conn)
        return {"status": "ready"}


def _add_problems(app: FastAPI) -> None:
    def answer(request: Request, error: AuroraError) -> Response:
        return problem(
            error, instance=request.url.path, request_id=request.scope["aurora.request_id"]
        )

    @app.exception_handler(AuroraError)
    async def refused(request: Request, error: AuroraError) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, _from_validation(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == NotFound.status:
            return answer(request, NotFound(f"There is nothing at {request.url.path}."))
        if error.status_code == MethodNotAllowed.status:
            return answer(request, MethodNotAllowed(allow=_methods_at(request)))
        return answer(request, Malformed(str(error.detail)))

    @app.exception_handler(Exception)
    async def failed(request: Request, _error: Exception) -> Response:
        # The framework raises it again after this answer, and the server logs it.
        return answer(request, InternalError())


def _methods_at(request: Request) -> str:
    """Return what a path takes: one path may stand in several routes, one a method."""
    return ", ".join(
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    )


def _from_validation(error: RequestValidationError) -> Invalid:
    """Name every field that is wrong, without echoing what was sent."""
    fields = [
        {
            "field": ".".join(str(part) for part in found["loc"]),
            "code": str(found["type"]),
            "detail": str(found["msg"]),
        }
        for found in error.errors()[:MAX_FIELD_ERRORS]
    ]
    named = "; ".join(f"{field['field']}: {field['detail']}" for field in fields[:3])
    return Invalid(f"{named}.", errors=fields)


def _add_hot_operations(app: FastAPI) -> None:
    """Put the hot routes, which FastAPI does not serve, into its OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    hot = house.hot_routes()
    models = [model for route in hot for model in route.models]
    _, found = msgspec.json.schema_components(models, ref_template="#/components/schemas/{name}")
    schemas.update(found)
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "Service token, API key, or access token.",
        },
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": app.state.site.session_cookie,
            "description": "A person's; unsafe methods need X-CSRF-Token beside it.",
        },
    }
    document["security"] = [{"bearer": []}, {"api_key": []}, {"session": []}]
    for route in hot:
        document["paths"][route.path] = {route.methods[0].lower(): dict(route.operation)}
    refused = {
        "description": "Refused; `code` says why.",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = dict(operation["responses"])
            responses.pop("422", None)
            operation["responses"] = {**responses, "4XX": refused, "5XX": refused}
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return document


PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
