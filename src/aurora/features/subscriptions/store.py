"""The only Python that runs the subscriptions room's SQL."""

from __future__ import annotations

from uuid import UUID

from aurora.db.queries import fetch_optional, load_queries
from aurora.db.transaction import Connection
from aurora.features.subscriptions.model import Subscription

QUERIES = load_queries(__package__)


async def insert_subscription(conn: Connection, **fields: object) -> Subscription | None:
    """Subscribe to a plan with its terms of this moment; None where one runs already."""
    return await fetch_optional(conn, QUERIES["insert_subscription"], Subscription, **fields)


async def find_subscription(conn: Connection, organization_id: UUID) -> Subscription | None:
    """Return the organization's subscription, if it has one."""
    return await fetch_optional(
        conn,
        QUERIES["find_subscription_by_organization"],
        Subscription,
        organization_id=organization_id,
    )


async def set_cancel_at_period_end(
    conn: Connection, organization_id: UUID, *, cancel: bool
) -> Subscription | None:
    """Cancel at period end or take it back; None without a running subscription."""
    return await fetch_optional(
        conn,
        QUERIES["update_subscription_cancel_at_period_end"],
        Subscription,
        organization_id=organization_id,
        cancel=cancel,
    )
