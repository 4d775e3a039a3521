"""Reading quotas, warning of them, and forgetting what no limit needs any more."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.limits import store
from aurora.features.limits.model import Quota

FORGET_BATCH: Final = 10_000
MAX_FORGET_ROUNDS: Final = 1_000


async def find_quota(conn: Connection, organization_id: UUID) -> Quota | None:
    """Return how much of the running month's quota is used; None without a subscription."""
    return await store.find_quota(conn, organization_id)


async def warn_of_quotas(conn: Connection) -> int:
    """Tell members of quotas that have passed 80 or 100 %; return how many were told."""
    return await store.warn_of_quotas(conn)


async def warn_of_quota(conn: Connection, organization_id: UUID) -> int:
    """Tell one organization's members of thresholds that are passed; return how many were told."""
    return await store.warn_of_quota(conn, organization_id)


async def forget_rate_limits(conn: Connection) -> int:
    """Forget a bounded number of windows of keys that nobody used for a day; return how many."""
    return await store.forget_rate_limits(conn, FORGET_BATCH)
