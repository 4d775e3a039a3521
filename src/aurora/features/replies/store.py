"""The only Python that runs the replies room's SQL."""

from __future__ import annotations

from aurora.db.queries import execute, fetch_one, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.replies.model import Reply

QUERIES = load_queries(__package__)


async def delete_expired(conn: Connection, caller: str, key_digest: bytes, keep_s: float) -> None:
    """Forget an answer of this key that is older than it is kept."""
    await execute(
        conn,
        QUERIES["delete_reply_expired"],
        caller=caller,
        key_digest=key_digest,
        keep_s=keep_s,
    )


async def insert(conn: Connection, caller: str, key_digest: bytes, request_digest: bytes) -> bool:
    """Claim a key; return whether nobody had it."""
    return bool(
        await fetch_value(
            conn,
            QUERIES["insert_reply"],
            caller=caller,
            key_digest=key_digest,
            request_digest=request_digest,
        )
    )


async def get(conn: Connection, caller: str, key_digest: bytes) -> Reply:
    """Return what is known of a call."""
    return await fetch_one(conn, QUERIES["get_reply"], Reply, caller=caller, key_digest=key_digest)


async def update_sealed(
    conn: Connection, caller: str, key_digest: bytes, request_digest: bytes, sealed: bytes
) -> None:
    """Keep an answer."""
    await execute(
        conn,
        QUERIES["update_reply_sealed"],
        caller=caller,
        key_digest=key_digest,
        request_digest=request_digest,
        sealed=sealed,
    )


async def delete(conn: Connection, caller: str, key_digest: bytes, request_digest: bytes) -> None:
    """Give a key back."""
    await execute(
        conn,
        QUERIES["delete_reply"],
        caller=caller,
        key_digest=key_digest,
        request_digest=request_digest,
    )


async def delete_all_expired(conn: Connection, keep_s: float, limit: int) -> int:
    """Forget a bounded number of old answers; return how many."""
    gone: int = await fetch_value(
        conn, QUERIES["delete_replies_expired"], keep_s=keep_s, limit=limit
    )
    return gone
