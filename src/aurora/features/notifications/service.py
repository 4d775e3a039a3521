"""Reading notifications."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aurora.core.paging import Page, decode_cursor, page_of
from aurora.db.transaction import Connection
from aurora.features.notifications import store
from aurora.features.notifications.model import Notification


async def list_notifications(
    conn: Connection, organization_id: UUID, *, cursor: str | None, limit: int
) -> Page[Notification]:
    """Return a page of what the people of an organization were told, newest first."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_notifications(conn, organization_id, after=after, limit=limit + 1)
    return page_of(found, limit, lambda row: (row.created_at, row.id))
