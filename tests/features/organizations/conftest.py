"""An application on a fresh database, and callers of every kind before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from aurora.apps.api.app import build
from aurora.core.secrets import generate_service_token
from aurora.db.pool import Pool
from aurora.features.gate.service import Gate
from aurora.integrations import jobs
from aurora.integrations.http import Caller, caller_of

_NUMBERS = count(1)


@dataclass
class House:
    """The HTTP application, and the database behind it."""

    pool: Pool
    owner_dsn: str
    token: str = field(default_factory=generate_service_token)

    def client(self, caller: Caller | None = None) -> httpx.AsyncClient:
        """A client of an operator, or of whoever is given in place of what sign-in would find."""
        server = build(dsn="", service_token=self.token)
        app: Any = server.app
        app.state.pool = self.pool
        app.state.gate = Gate(self.pool)
        headers = {}
        if caller is None:
            headers = {"authorization": f"Bearer {self.token}"}
        else:
            app.dependency_overrides[caller_of] = lambda: caller
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(server), base_url="http://aurora", headers=headers
        )

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement of the schema's owner returns."""
        async with await psycopg.AsyncConnection.connect(self.owner_dsn) as owner:
            cursor = await owner.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def organization(self, **fields: Any) -> dict[str, Any]:
        """An organization on trial."""
        hotel = {"name": "Lyngen", "slug": f"h-{uuid4().hex[:10]}", "email": "post@lyngen.example"}
        async with self.client() as operator:
            made = await operator.post("/v1/organizations", json=hotel | fields)
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()
        return found

    async def member(self, organization_id: str, role: str, **fields: Any) -> tuple[str, Caller]:
        """A member who can sign in: the membership's id, and the caller they are."""
        email = f"m{next(_NUMBERS)}@lyngen.example"
        body = {"email": email, "name": "Kari", "role": role} | fields
        async with self.client() as operator:
            path = f"/v1/organizations/{organization_id}/users"
            made = await operator.post(path, json=body)
        assert made.status_code == 201, made.text
        auth_id = await self.signs_up(made.json()["email"])
        return made.json()["id"], Caller("person", person_id=auth_id)

    async def signs_up(self, email: str, *, is_confirmed: bool = True) -> UUID:
        """Make the person of an address, and tie the memberships with that address to them."""
        confirmed = "now()" if is_confirmed else "null"
        ((auth_id,),) = await self.rows(
            f"insert into auth.users (email, email_confirmed_at) values (%s, {confirmed})"
            " returning id",
            email,
        )
        if is_confirmed:
            await self.rows("update users set auth_id = %s where email = %s", auth_id, email)
        found: UUID = auth_id
        return found


@pytest.fixture
async def house(pool: Pool, database: str) -> House:
    """The application on a fresh database with a job queue."""
    await jobs.install(database)
    return House(pool, database)


@pytest.fixture
def code_of() -> Callable[[httpx.Response], tuple[int, str]]:
    """Status and code of a refusal."""

    def found(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json().get("code", "")

    return found
