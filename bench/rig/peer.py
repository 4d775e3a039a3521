"""What a user would build in an afternoon: FastAPI, SQLAlchemy, and `limits` on Redis.

It asks the same PostgreSQL and the same tables as Aurora does, with the libraries' own defaults and
advice: an async engine with a pool, a session a request. The window in Redis is the fixed one that
lets twice the limit pass in an hour which begins in its middle: it is the cheapest. Of this request
it checks what Aurora's gate checks: status, expiry, organization, origin, scope, and limit.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pydantic import BaseModel
from sqlalchemy import ARRAY, DateTime, ForeignKey, String, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

from aurora.apps.serving import BACKLOG, DRAIN_TIMEOUT_S, KEEP_ALIVE_S
from limits import RateLimitItemPerHour

POOL_SIZE: Final = 8


class Base(DeclarativeBase):
    """Of the tables."""


class Organization(Base):
    """A customer."""

    __tablename__ = "organizations"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str]


class ApiKey(Base):
    """A key."""

    __tablename__ = "api_keys"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    key_hash: Mapped[str]
    status: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    allowed_origins: Mapped[list[str]] = mapped_column(ARRAY(String))
    rate_limit_per_hour: Mapped[int]
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    organization: Mapped[Organization] = relationship()


class Asked(BaseModel):
    """The question."""

    key: str
    origin: str | None = None
    ip: str | None = None
    scope: str | None = None


class Answer(BaseModel):
    """The verdict."""

    valid: bool
    code: str
    organization_id: UUID | None = None
    key_id: UUID | None = None
    remaining: int | None = None


def build(dsn: str, redis_url: str) -> FastAPI:
    """Return the application."""
    engine = create_async_engine(dsn, pool_size=POOL_SIZE, max_overflow=0)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    storage = RedisStorage(redis_url, implementation="redispy")
    limiter = FixedWindowRateLimiter(storage)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        """Say that it serves."""
        return {"ready": True}

    @app.post("/v1/keys/verify")
    async def verify(asked: Asked) -> Answer:
        """Answer whether a request may pass."""
        async with sessions() as session:
            key = await _find(session, asked.key)
        code = _decide(key, asked)
        if key is None or code != "VALID":
            return Answer(valid=False, code=code)
        limit = RateLimitItemPerHour(key.rate_limit_per_hour)
        allowed = await limiter.hit(limit, str(key.id))
        _, remaining = await limiter.get_window_stats(limit, str(key.id))
        return Answer(
            valid=allowed,
            code="VALID" if allowed else "RATE_LIMITED",
            organization_id=key.organization_id,
            key_id=key.id,
            remaining=remaining,
        )

    return app


async def _find(session: AsyncSession, key: str) -> ApiKey | None:
    digest = hashlib.sha256(key.encode()).hexdigest()
    wanted = select(ApiKey).where(ApiKey.key_hash == digest)
    found = await session.execute(wanted.options(joinedload(ApiKey.organization)))
    return found.scalar_one_or_none()


def _decide(key: ApiKey | None, asked: Asked) -> str:  # noqa: PLR0911 - as the gate's own
    if key is None:
        return "NOT_FOUND"
    if key.status != "active":
        return "REVOKED"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return "EXPIRED"
    if key.organization.status in {"suspended", "cancelled"}:
        return "ORGANIZATION_SUSPENDED"
    if asked.origin is not None and not {"*", asked.origin} & set(key.allowed_origins):
        return "ORIGIN_DENIED"
    if asked.scope is not None and asked.scope not in key.scopes:
        return "SCOPE_MISSING"
    return "VALID"


def main() -> None:
    """Serve as planned."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    uvicorn.run(
        build(plan["dsn"], plan["redis"]),
        host="127.0.0.1",
        port=plan["port"],
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_TIMEOUT_S,
    )


if __name__ == "__main__":
    main()
