"""A database with two organizations in it, and pools of a single connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.isolation.identities import PLACES, thing_of
from tests.isolation.matrix import furnish
from tests.isolation.routes import Attempt

from aurora.apps.api.app import build
from aurora.core.secrets import generate_api_key, generate_service_token
from aurora.db.pool import Pool, open_pool
from aurora.features.sign_in.browser import CSRF_HEADER, csrf_token
from aurora.integrations import jobs

LOGIN = "aurora_app"
WORLD = ("common.sql", "world.sql", "unfolded.sql", "attempts.sql")
SCOPES = '["aurora:read", "analytics:read", "billing:read", "widgets:embed"]'


@pytest.fixture
async def world(database: str) -> str:
    """The DSN, as administrator, of a fresh database with organizations A and B."""
    await jobs.install(database)
    with psycopg.connect(database) as admin:
        furnish(admin, *WORLD)
    return database


@pytest.fixture
async def alone(world: str) -> AsyncIterator[Pool]:
    """A pool of one connection: what somebody leaves on it, the next one meets."""
    pool = await open_pool(make_conninfo(world, user=LOGIN), max_size=1, name="isolation")
    yield pool
    await pool.close()


class Client:
    """The application in this process, asked by a key or people of A, an operator, or nobody."""

    def __init__(
        self, http: httpx.AsyncClient, document: dict[str, Any], headers: dict[str, dict[str, str]]
    ) -> None:
        self.http, self.document, self.headers = http, document, headers

    async def ask(self, attempt: Attempt, who: str) -> httpx.Response:
        """Make a request."""
        body = {} if attempt.body is None else {"json": attempt.body}
        # What is streamed begins with what was there, and ends because the process is stopping.
        seen = {"last-event-id": "0"} if attempt.route == "GET /v1/usage/live" else {}
        return await self.http.request(
            attempt.method,
            attempt.url,
            params=attempt.query,
            headers=self.headers.get(who, {}) | seen,
            **body,
        )


def sessions(admin: psycopg.Connection[Any], cookie: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Sign every person of A in; yield the place of each, and the headers of their browser."""
    for place, number in PLACES.items():
        token = f"session-of-{place}"
        admin.execute(
            "insert into sessions (auth_id, token_hash, method, user_agent_family, expires_at)"
            " values (%s, encode(sha256(%s), 'hex'), 'link', 'Firefox', now() + interval '1 day')",
            (thing_of("A", number), token.encode()),
        )
        yield place, {"cookie": f"{cookie}={token}", CSRF_HEADER: csrf_token(token)}


@pytest.fixture
async def client(world: str) -> AsyncIterator[Client]:
    secret = generate_api_key("production")
    token = generate_service_token()
    server = build(dsn=make_conninfo(world, user=LOGIN), service_token=token)
    app: Any = server.app
    with psycopg.connect(world) as admin:
        admin.execute(
            "update api_keys set key = %s, scopes = %s where id = %s",
            (secret.key, SCOPES, thing_of("A", 10)),
        )
        headers = dict(sessions(admin, app.state.site.session_cookie))
    headers["key"] = {"authorization": f"Bearer {secret.key}"}
    headers["operator"] = {"authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(server, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://aurora.example") as http,
    ):
        app.state.stopping.set()
        yield Client(http, app.openapi(), headers)
