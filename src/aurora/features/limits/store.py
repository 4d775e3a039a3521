"""The only Python that runs the limits room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aurora.db.queries import execute, fetch_in_turn, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection, Turns
from aurora.features.limits.budget import Asked, Unused
from aurora.features.limits.model import Lease, Quota

QUERIES = load_queries(__package__)


async def find_quota(conn: Connection, organization_id: UUID) -> Quota | None:
    """Return the running month's quota, if a subscription is running."""
    return await fetch_optional(conn, QUERIES["find_quota"], Quota, organization_id=organization_id)


async def warn_of_quotas(conn: Connection) -> int:
    """Warn of passed thresholds; return how many people were told."""
    told: int = await fetch_value(conn, QUERIES["insert_quota_warnings"])
    return told


async def warn_of_quota(conn: Connection, organization_id: UUID) -> int:
    """Warn one organization of passed thresholds; return how many people were told."""
    told: int = await fetch_value(
        conn, QUERIES["insert_quota_warnings_of_one"], organization_id=organization_id
    )
    return told


async def lease(turns: Turns, organization_id: UUID, key_id: UUID, asked: Asked) -> Lease:
    """Grant requests of a key, as many as its window leaves."""
    (granted,) = await fetch_in_turn(
        turns,
        QUERIES["insert_lease"],
        Lease,
        organization_id=organization_id,
        key_id=key_id,
        per_hour=asked.terms.per_hour,
        per_second=asked.terms.per_second,
        waiting=asked.waiting,
        wanted=asked.wanted,
        returned=asked.returned,
        returned_end=asked.returned_end,
        expected=asked.expected,
    )
    return granted


async def give_back(conn: Connection, unused: Sequence[Unused]) -> None:
    """Take back what leases did not use."""
    await execute(
        conn,
        QUERIES["update_leases_returned"],
        organization_ids=[each.organization_id for each in unused],
        key_ids=[each.key_id for each in unused],
        counts=[each.requests for each in unused],
        ends=[each.ends_at for each in unused],
    )


async def forget_rate_limits(conn: Connection, limit: int) -> int:
    """Forget up to `limit` windows that nobody used for a day; return how many."""
    forgotten: int = await fetch_value(conn, QUERIES["delete_rate_limits_forgotten"], limit=limit)
    return forgotten
