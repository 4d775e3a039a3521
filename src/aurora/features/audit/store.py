"""The only Python that runs the audit room's SQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final
from uuid import UUID

from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from aurora.db.queries import execute, fetch_all, fetch_optional, load_queries
from aurora.db.transaction import Connection
from aurora.features.audit.model import AuditEvent, ChainedEvent, Head

QUERIES = load_queries(__package__)
EVENTS_PER_FETCH: Final = 2_000
"""Rows of a chain in memory at once."""


async def list_events(
    conn: Connection,
    *,
    organization_id: UUID | None,
    platform_only: bool,
    action: str | None,
    subject_id: str | None,
    after_id: int | None,
    limit: int,
) -> list[AuditEvent]:
    """Return up to `limit` events, newest first, after the given place."""
    return await fetch_all(
        conn,
        QUERIES["list_audit_events_by_id"],
        AuditEvent,
        organization_id=organization_id,
        platform_only=platform_only,
        action=action,
        subject_id=subject_id,
        after_id=after_id,
        limit=limit,
    )


async def stream_chain(
    conn: Connection, organization_id: UUID | None
) -> AsyncGenerator[ChainedEvent, None]:
    """Yield a chain in its order, `EVENTS_PER_FETCH` rows at a time, all of one moment."""
    name = "by_organization" if organization_id else "of_platform"
    query = QUERIES[f"list_chained_events_{name}"]
    parameters = {"organization_id": organization_id} if organization_id else None
    async with conn.cursor("audit_chain", row_factory=kwargs_row(ChainedEvent)) as cursor:
        cursor.itersize = EVENTS_PER_FETCH
        await cursor.execute(query.text.encode(), parameters)
        async for event in cursor:
            yield event


async def list_heads(conn: Connection, organization_id: UUID | None) -> list[Head]:
    """Return the heads of all chains, or of one organization's."""
    return await fetch_all(
        conn,
        QUERIES["list_audit_heads_by_organization"],
        Head,
        organization_id=organization_id,
    )


async def list_headless(conn: Connection, organization_id: UUID | None) -> list[UUID | None]:
    """Return the organizations whose chain has no head; None among them is the platform."""
    query = QUERIES["list_headless_chains_by_organization"]
    cursor = await conn.execute(query.text.encode(), {"organization_id": organization_id})
    return [found for (found,) in await cursor.fetchall()]


async def find_head(conn: Connection, organization_id: UUID | None) -> Head | None:
    """Return the head of one chain as it is now."""
    return await fetch_optional(
        conn, QUERIES["find_audit_head"], Head, organization_id=organization_id
    )


async def insert_event(
    conn: Connection,
    *,
    organization_id: UUID | None,
    action: str,
    subject_type: str,
    subject_id: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """Note an event; the commit puts it into its chain."""
    await execute(
        conn,
        QUERIES["insert_audit_event"],
        organization_id=organization_id,
        action=action,
        subject_type=subject_type,
        subject_id=subject_id,
        before=None if before is None else Jsonb(before),
        after=None if after is None else Jsonb(after),
    )
