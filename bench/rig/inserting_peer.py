"""What a user would write to record usage: FastAPI, SQLAlchemy, and one INSERT a request.

The table is the founding document's, with its indexes and its foreign keys. The body is checked by
Pydantic, the session is the library's own with the pool that it has by default, and a commit is
durable. It looks no key up and counts nothing once: it does less than Aurora does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import BigInteger, DateTime
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aurora.apps.serving import BACKLOG, DRAIN_TIMEOUT_S, KEEP_ALIVE_S

ORGANIZATION: Final = UUID("00000000-0000-4000-8000-000000000001")
KEY: Final = UUID("00000000-0000-4000-9000-000000000001")
TABLE: Final = f"""
create table organizations (id uuid primary key);
create table api_keys (
  id uuid primary key, organization_id uuid not null references organizations(id) on delete cascade
);
create table usage_analytics (
  id bigserial primary key,
  timestamp timestamptz not null default now(),
  organization_id uuid not null references organizations(id) on delete cascade,
  api_key_id uuid not null references api_keys(id) on delete cascade,
  endpoint text not null, method text not null default 'GET', status_code integer not null,
  response_time_ms integer, cached boolean default false,
  widget_type text, widget_impression boolean default false,
  origin text, user_agent text, ip_address inet, country_code text,
  metadata jsonb default '{{}}', date date not null default current_date
);
create index on usage_analytics (organization_id, date desc);
create index on usage_analytics (api_key_id, date desc);
create index on usage_analytics (timestamp desc);
create index on usage_analytics (endpoint);
create index on usage_analytics (widget_type) where widget_type is not null;
insert into organizations values ('{ORGANIZATION}');
insert into api_keys values ('{KEY}', '{ORGANIZATION}')
"""


class Base(DeclarativeBase):
    """Of the table."""


class Usage(Base):
    """A row."""

    __tablename__ = "usage_analytics"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    organization_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    endpoint: Mapped[str]
    method: Mapped[str]
    status_code: Mapped[int]
    response_time_ms: Mapped[int | None]
    cached: Mapped[bool]
    widget_type: Mapped[str | None]
    widget_impression: Mapped[bool]
    origin: Mapped[str | None]
    user_agent: Mapped[str | None]
    ip_address: Mapped[str | None] = mapped_column(INET)
    country_code: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)


class Event(BaseModel):
    """A body: an event as Aurora takes it."""

    id: str
    timestamp: datetime
    endpoint: str
    status_code: int
    method: str = "GET"
    response_time_ms: int | None = None
    cached: bool = False
    widget_type: str | None = None
    widget_impression: bool = False
    origin: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None
    country_code: str | None = None
    metadata: dict[str, Any] = {}


def build(dsn: str) -> FastAPI:
    """Return the application."""
    engine = create_async_engine(dsn)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        """Say that it serves."""
        return {"ready": True}

    @app.post("/usage")
    async def record(event: Event) -> dict[str, str]:
        """Store an event."""
        fields = event.model_dump(exclude={"id", "metadata"})
        async with sessions() as session:
            session.add(
                Usage(
                    organization_id=ORGANIZATION, api_key_id=KEY, details=event.metadata, **fields
                )
            )
            await session.commit()
        return {"status": "stored"}

    return app


def main() -> None:
    """Serve as planned."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    uvicorn.run(
        build(plan["dsn"]),
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
