"""The only Python that runs the notifications room's SQL."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aurora.db.queries import fetch_all, load_queries
from aurora.db.transaction import Connection
from aurora.features.notifications.model import Notification

QUERIES = load_queries(__package__)


async def list_notifications(
    conn: Connection, organization_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> list[Notification]:
    """Return up to `limit` notifications, newest first, after the given place."""
    created_at, notification_id = after or (None, None)
    return await fetch_all(
        conn,
        QUERIES["list_notifications_by_organization"],
        Notification,
        organization_id=organization_id,
        after_created_at=created_at,
        after_id=notification_id,
        limit=limit,
    )
