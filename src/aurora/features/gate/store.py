"""The only Python that runs the gate's SQL."""

from __future__ import annotations

from datetime import timedelta

from aurora.db.queries import fetch_in_turn, fetch_one, fetch_value, load_queries
from aurora.db.transaction import Connection, Turns
from aurora.features.gate.model import MAX_CHANGES, Changes, KeyRow

QUERIES = load_queries(__package__)


async def find_key(turns: Turns, key_hash: str) -> KeyRow | None:
    """Return what the gate decides on, by the key's SHA-256 in hex."""
    rows = await fetch_in_turn(turns, QUERIES["find_key_by_hash"], KeyRow, key_hash=key_hash)
    return rows[0] if rows else None


async def read_changes(conn: Connection, seen: str | None) -> Changes:
    """Return what changed since a snapshot, and the new snapshot; None begins with nothing."""
    if seen is None:
        return await fetch_one(conn, QUERIES["get_snapshot"], Changes)
    return await fetch_one(
        conn, QUERIES["get_changes_since"], Changes, seen=seen, limit=MAX_CHANGES
    )


async def fold_changes(conn: Connection, keep: timedelta) -> int:
    """Delete changes that every process has had so long to read; return how many."""
    folded: int = await fetch_value(conn, QUERIES["delete_folded_changes"], keep=keep)
    return folded


async def tell_of_exposed_key(conn: Connection, key_hash: str, origin: str) -> int:
    """Tell the admins that a secret key came out of a browser; return how many were told."""
    told: int = await fetch_value(
        conn, QUERIES["insert_exposed_key_notifications"], key_hash=key_hash, origin=origin
    )
    return told
