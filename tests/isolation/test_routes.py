"""No HTTP route gives or changes anything of an organization whose key did not ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.isolation.catalogue import relations
from tests.isolation.conftest import LOGIN
from tests.isolation.expectations import rule_of
from tests.isolation.identities import ORGANIZATIONS, thing_of
from tests.isolation.routes import LIMITED, ROUTES, Unnamed, attempts

from aurora.apps.api.app import build
from aurora.core.secrets import generate_api_key, generate_service_token

# Every text of B in world.sql holds one of these.
MARKS = ("secret b", "secret-b", "hotel-b")
SCOPES = '["aurora:read", "analytics:read", "billing:read", "widgets:embed"]'


def contents(admin: psycopg.Connection[Any], organization: str) -> list[tuple[str, str | None]]:
    """Return a digest of every row that an organization has."""
    admin.rollback()
    found = []
    for relation in relations(admin):
        rule = rule_of(relation.name)
        if rule and rule.whose and relation.kind in ("r", "p"):
            digest = admin.execute(
                f"select md5(string_agg(t::text, '|' order by t::text)) from {relation.sql_name} t"
                f" where {rule.whose} = '{ORGANIZATIONS[organization]}'".encode()
            ).fetchone()
            found.append((relation.name, digest[0] if digest else None))
    return found


class Client:
    """The application in this process, asked as nobody or with the key of A."""

    def __init__(self, http: httpx.AsyncClient, document: dict[str, Any], key: str) -> None:
        self.http, self.document, self.key = http, document, key

    async def ask(self, attempt: Any, *, signed: bool) -> httpx.Response:
        """Make a request."""
        headers = {"authorization": f"Bearer {self.key}"} if signed else {}
        body = {} if attempt.body is None else {"json": attempt.body}
        return await self.http.request(
            attempt.method, attempt.url, params=attempt.query, headers=headers, **body
        )


@pytest.fixture
async def client(world: str) -> AsyncIterator[Client]:
    secret = generate_api_key("production")
    with psycopg.connect(world) as admin:
        admin.execute(
            "update api_keys set key = %s, scopes = %s where id = %s",
            (secret.key, SCOPES, thing_of("A", 10)),
        )
    server = build(dsn=make_conninfo(world, user=LOGIN), service_token=generate_service_token())
    app: Any = server.app
    transport = httpx.ASGITransport(server)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://aurora.example") as http,
    ):
        yield Client(http, app.openapi(), secret.key)


async def test_every_route_keeps_organizations_apart(world: str, client: Client) -> None:
    wrong = []
    with psycopg.connect(world) as admin:
        before = contents(admin, "B")
        assert all(digest for name, digest in before if name.startswith("public."))
        for attempt in attempts(client.document):
            for signed in (True, False):
                access = ROUTES[attempt.route]
                right = attempt.right if signed else {access.nobody}
                if attempt.route in LIMITED:
                    right = {*right, 429}
                answer = await client.ask(attempt, signed=signed)
                told = f"{attempt} {'with the key of A' if signed else 'as nobody'}"
                if answer.status_code not in right:
                    wrong.append(f"{told}: {answer.status_code} {answer.text[:200]}")
                if any(mark in answer.text.lower() for mark in MARKS):
                    wrong.append(f"{told}: tells of B")
                if contents(admin, "B") != before:
                    wrong.append(f"{told}: changed B")
    assert not wrong, "\n".join(wrong)


async def test_a_foreign_thing_is_refused_like_a_missing_one(client: Client) -> None:
    key = {"authorization": f"Bearer {client.key}"}
    told = []
    for invoice in (thing_of("B", 30), thing_of("C", 30)):
        answer = await client.http.get(f"/v1/invoices/{invoice}", headers=key)
        body = answer.json()
        told.append((answer.status_code, body["code"], body["detail"], body["title"]))
    assert told[0] == told[1]


async def test_a_route_that_no_rule_names_fails(client: Client) -> None:
    paths = {**client.document["paths"], "/v1/forgotten": {"get": {}}}
    with pytest.raises(Unnamed, match="GET /v1/forgotten"):
        list(attempts({**client.document, "paths": paths}))
