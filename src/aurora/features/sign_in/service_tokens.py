"""Tokens of the operators' programs: made, listed, revoked, and recognised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aurora.core.clock import now
from aurora.core.secrets import VISIBLE_LENGTH, generate_service_token, hash_key, is_service_token
from aurora.db.transaction import Connection
from aurora.features.sign_in import store
from aurora.features.sign_in.model import (
    NewServiceToken,
    ServiceToken,
    ServiceTokenNotFound,
    ServiceTokenScopesInvalid,
    ServiceTokenUse,
)

__all__ = ["create_service_token", "find_service_token", "list_service_tokens"]


async def create_service_token(
    conn: Connection, *, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> NewServiceToken:
    """Make a token; the answer carries the secret, and nothing else ever does.

    Args:
        conn: An open transaction.
        name: For people: "Nightly billing".
        scopes: What it may do: operator (everything), read, usage:write, billing:run.
        expires_at: From this moment on it is refused; None means never.

    Raises:
        ServiceTokenNameInvalid, ServiceTokenScopesInvalid: From the database.
    """
    if expires_at is not None and expires_at <= now():
        raise ServiceTokenScopesInvalid("The token would have expired already.")
    token = generate_service_token()
    record = await store.insert_service_token(
        conn,
        name=name.strip(),
        token_hash=hash_key(token),
        token_prefix=token[: VISIBLE_LENGTH - 1],
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    return NewServiceToken(record=record, token=token)


async def find_service_token(conn: Connection, token: str) -> ServiceTokenUse | None:
    """Return which living token this is; a typo is refused without a look-up."""
    return await store.use_service_token(conn, hash_key(token)) if is_service_token(token) else None


async def list_service_tokens(conn: Connection) -> list[ServiceToken]:
    """Return the tokens, newest first, revoked ones too."""
    return await store.list_service_tokens(conn)


async def revoke_service_token(conn: Connection, token_id: UUID) -> ServiceToken:
    """Revoke a token for good, from the next request on.

    Raises:
        ServiceTokenNotFound: There is none with this id.
    """
    revoked = await store.revoke_service_token(conn, token_id)
    if revoked is None:
        raise ServiceTokenNotFound
    return revoked
