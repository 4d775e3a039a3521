"""The only Python that runs the keys room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import fetch_all, fetch_one, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.keys.model import ApiKey, KeyOwner, KeyRecord

QUERIES = load_queries(__package__)

MAX_KEYS_LISTED = 1000


async def insert_api_key(
    conn: Connection,
    *,
    scopes: Sequence[str],
    allowed_origins: Sequence[str],
    ip_whitelist: Sequence[str] | None,
    metadata: dict[str, object],
    **fields: object,
) -> ApiKey:
    """Insert a key by its hash; the other fields are those of the query."""
    return await fetch_one(
        conn,
        QUERIES["insert_api_key"],
        ApiKey,
        scopes=Jsonb(list(scopes)),
        allowed_origins=Jsonb(list(allowed_origins)),
        ip_whitelist=None if ip_whitelist is None else Jsonb(list(ip_whitelist)),
        metadata=Jsonb(metadata),
        **fields,
    )


async def find_api_key(conn: Connection, organization_id: UUID, key_id: UUID) -> ApiKey | None:
    """Return one key of one organization."""
    return await fetch_optional(
        conn,
        QUERIES["find_api_key"],
        ApiKey,
        organization_id=organization_id,
        key_id=key_id,
    )


async def find_api_key_by_hash(conn: Connection, key_hash: str) -> KeyRecord | None:
    """Return what the gate decides on, by the key's SHA-256 in hex."""
    return await fetch_optional(conn, QUERIES["find_api_key_by_hash"], KeyRecord, key_hash=key_hash)


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
