"""The only Python that runs the limits room's SQL."""

from __future__ import annotations

from uuid import UUID

from aurora.db.queries import fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.limits.model import Quota

QUERIES = load_queries(__package__)


async def find_quota(conn: Connection, organization_id: UUID) -> Quota | None:
    """Return the running month's quota, if a subscription is running."""
    return await fetch_optional(conn, QUERIES["find_quota"], Quota, organization_id=organization_id)


async def warn_of_quotas(conn: Connection) -> int:
    """Warn of passed thresholds; return how many people were told."""
    told: int = await fetch_value(conn, QUERIES["insert_quota_warnings"])
    return told
