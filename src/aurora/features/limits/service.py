"""Reading quotas and warning of them."""

from __future__ import annotations

from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.limits import store
from aurora.features.limits.model import Quota


async def find_quota(conn: Connection, organization_id: UUID) -> Quota | None:
    """Return how much of the running month's quota is used; None without a subscription."""
    return await store.find_quota(conn, organization_id)


async def warn_of_quotas(conn: Connection) -> int:
    """Tell members of quotas that have passed 80 or 100 %; return how many were told."""
    return await store.warn_of_quotas(conn)
