"""A database with people in it, and a browser that talks to the real server over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
import uvicorn
from psycopg.conninfo import make_conninfo

from aurora.apps.api.app import build
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations.service import create_organization, create_user
from aurora.features.sign_in import jobs, service
from aurora.features.sign_in.passwords import check_password, hash_password
from aurora.features.sign_in.service import Visitor
from aurora.integrations.jobs import install

EMAIL = "kari@hotel.example"
PASSWORD = "correct horse battery"
SERVICE_TOKEN = "a-service-token-of-the-tests-only"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
VISITOR = Visitor(place="192.0.2.1", user_agent_family="Firefox")


@dataclass
class World:
    """A database, and what a test needs of it."""

    dsn: str
    pool: Pool

    async def admin(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the schema."""
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as conn:
            cursor = await conn.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def organization(self, slug: str = "hotel") -> UUID:
        """Make an organization."""
        async with transaction(self.pool, PLATFORM) as conn:
            made = await create_organization(
                conn, name=slug, slug=slug, email=f"post@{slug}.example"
            )
        return made.id

    async def member(self, organization_id: UUID, email: str = EMAIL) -> None:
        """Make a member who has never signed in."""
        async with transaction(self.pool, PLATFORM) as conn:
            await create_user(
                conn, organization_id=organization_id, email=email, name="Kari", role="admin"
            )

    async def person(self, email: str = EMAIL, password: str | None = PASSWORD) -> UUID:
        """Make a person, with a password hash made as the service makes it."""
        hashed = None
        if password is not None:
            hashed = await hash_password(check_password(password, email=email))
        [(auth_id,)] = await self.admin(
            "insert into auth.users (email, encrypted_password) values (%s, %s) returning id",
            email,
            hashed,
        )
        return UUID(str(auth_id))

    async def link(self, email: str = EMAIL, purpose: Any = "sign_in") -> str:
        """Make a link and return its token."""
        async with transaction(self.pool, PLATFORM) as conn:
            made = await service.make_link(conn, address=email, purpose=purpose)
        assert made is not None
        return made[1]

    async def last_event(self, organization_id: UUID) -> tuple[Any, ...]:
        """Return what was recorded last of an organization, and of whom."""
        [event] = await self.admin(
            "select action, actor from audit_events where organization_id = %s"
            " order by sequence desc limit 1",
            organization_id,
        )
        return event

    async def later(self, interval: str) -> None:
        """Turn the database's clock forward."""
        await self.admin(
            "insert into app.clock (shift) values (%s::interval)"
            " on conflict (only_row) do update set shift = app.clock.shift + excluded.shift",
            interval,
        )

    async def queued(self, job: str) -> list[dict[str, Any]]:
        """Return the payloads of the queue's jobs of one name."""
        rows = await self.admin(
            "select payload from pgqueuer.pgqueuer where entrypoint = %s order by id", job
        )
        return [msgspec.json.decode(row[0]) for row in rows]

    async def send_links(self) -> list[dict[str, Any]]:
        """Do the worker's part for every link that was asked for; return the mails."""
        for payload in await self.queued(jobs.SEND_LINK):
            await jobs.send_link(self.pool, msgspec.json.encode(payload))
        return await self.queued("mail_send")


@pytest.fixture
async def world(database: str, pool: Pool) -> World:
    await install(database)
    return World(database, pool)


Browser = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
async def browser(database: str, pool: Pool) -> Browser:
    """Start a server, and give a client of it that keeps cookies."""

    @asynccontextmanager
    async def opened(
        public_url: str | None = None, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            app = build(
                dsn=make_conninfo(database, user="aurora_app"),
                service_token=SERVICE_TOKEN,
                pool_size=4,
                public_url=public_url or url,
                **settings,
            )
            server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
            try:
                async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                    yield client
            finally:
                server.should_exit = True
                with contextlib.suppress(asyncio.CancelledError):
                    await serving

    return opened
