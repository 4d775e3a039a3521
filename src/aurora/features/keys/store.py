"""The only Python that runs the keys room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import fetch_all, fetch_one, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.keys.model import ApiKey, KeyOwner

QUERIES = load_queries(__package__)

MAX_KEYS_LISTED = 1000
_JSON = frozenset({"scopes", "allowed_origins", "ip_whitelist", "metadata"})


async def insert_api_key(conn: Connection, *, as_member: bool, **fields: Any) -> ApiKey:
    """Insert a key by its hash.

    Args:
        conn: An open transaction.
        as_member: Whether a person acts, who does not choose limits or the creator.
        fields: Those of the query `insert_api_key`.
    """
    query = QUERIES["insert_api_key_as_member" if as_member else "insert_api_key"]
    known = {name: fields[name] for name in query.parameters}
    return await fetch_one(conn, query, ApiKey, **_as_json(known))


async def find_api_key(
    conn: Connection, organization_id: UUID, key_id: UUID, *, to_change: bool = False
) -> ApiKey | None:
    """Return one key of one organization, locked where it is going to be changed."""
    return await fetch_optional(
        conn,
        QUERIES["find_api_key_to_change" if to_change else "find_api_key"],
        ApiKey,
        organization_id=organization_id,
        key_id=key_id,
    )


async def update_api_key(conn: Connection, key: ApiKey) -> ApiKey:
    """Write what a member may change."""
    query = QUERIES["update_api_key_fields"]
    fields: dict[str, Any] = {
        name: getattr(key, name) for name in query.parameters if name != "key_id"
    }
    return await fetch_one(conn, query, ApiKey, key_id=key.id, **_as_json(fields))


async def update_api_key_limits(conn: Connection, key: ApiKey) -> ApiKey:
    """Write the limits."""
    return await fetch_one(
        conn,
        QUERIES["update_api_key_limits"],
        ApiKey,
        organization_id=key.organization_id,
        key_id=key.id,
        rate_limit_tier=key.rate_limit_tier,
        rate_limit_per_hour=key.rate_limit_per_hour,
        burst_per_second=key.burst_per_second,
    )


async def end_api_key(
    conn: Connection, organization_id: UUID, key_id: UUID, ends_at: datetime
) -> ApiKey:
    """Let a key end at a moment, or earlier where it would have anyway."""
    return await fetch_one(
        conn,
        QUERIES["update_api_key_ending"],
        ApiKey,
        organization_id=organization_id,
        key_id=key_id,
        ends_at=ends_at,
    )


async def touch_api_keys(
    conn: Connection, key_hashes: Sequence[str], used_at: Sequence[datetime]
) -> int:
    """Write down when keys were last used; return how many rows were written."""
    count: int = await fetch_value(
        conn, QUERIES["update_api_keys_used"], key_hashes=list(key_hashes), used_at=list(used_at)
    )
    return count


async def list_key_owners(conn: Connection, key_ids: Sequence[UUID]) -> list[KeyOwner]:
    """Return whose these keys are; ids that are no keys are left out."""
    return await fetch_all(
        conn, QUERIES["list_api_key_owners_by_id"], KeyOwner, key_ids=list(key_ids)
    )


async def list_api_keys(conn: Connection, organization_id: UUID) -> list[ApiKey]:
    """Return an organization's keys, newest first, at most `MAX_KEYS_LISTED`."""
    return await fetch_all(
        conn,
        QUERIES["list_api_keys_by_organization"],
        ApiKey,
        organization_id=organization_id,
        limit=MAX_KEYS_LISTED,
    )


async def revoke_api_key(conn: Connection, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    """Revoke a key; None when the organization has no such key."""
    return await fetch_optional(
        conn,
        QUERIES["update_api_key_revoked"],
        ApiKey,
        organization_id=organization_id,
        key_id=key_id,
    )


async def expire_api_keys(conn: Connection) -> int:
    """Write down which keys have expired; return how many."""
    count: int = await fetch_value(conn, QUERIES["update_api_keys_expired"])
    return count


def _as_json(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: Jsonb(value) if name in _JSON and value is not None else value
        for name, value in fields.items()
    }
