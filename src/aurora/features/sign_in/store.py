"""The only Python that runs the sign-in room's SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from aurora.db.queries import (
    execute,
    fetch_all,
    fetch_one,
    fetch_optional,
    fetch_value,
    load_queries,
)
from aurora.db.transaction import Connection
from aurora.features.sign_in.model import (
    IDLE_TIMEOUT,
    KEPT_AFTER_END,
    LINK_LIFETIME,
    MAX_MEMBERSHIPS_LISTED,
    MAX_SESSIONS,
    MAX_TOKENS_LISTED,
    SESSION_LIFETIME,
    TOUCH_EVERY,
    Credentials,
    LinkPurpose,
    Membership,
    Method,
    ServiceToken,
    ServiceTokenUse,
    Session,
    SessionUse,
)

QUERIES = load_queries(__package__)
MAX_PRUNED_AT_ONCE = 10_000


async def must_keep_passwords(conn: Connection) -> None:
    """Refuse where Supabase signs people in."""
    await fetch_value(conn, QUERIES["must_keep_passwords"])


async def find_credentials(conn: Connection, email: str) -> Credentials | None:
    """Return the person with this address."""
    return await fetch_optional(conn, QUERIES["find_credentials"], Credentials, email=email)


async def find_person_credentials(conn: Connection, auth_id: UUID) -> Credentials | None:
    """Return the same for a person who is known already."""
    return await fetch_optional(
        conn, QUERIES["find_person_credentials"], Credentials, auth_id=auth_id
    )


async def set_password(
    conn: Connection, auth_id: UUID, password_hash: str, *, expected: str | None
) -> bool:
    """Write a hash where the present one is `expected`; return whether it was."""
    return bool(
        await fetch_value(
            conn,
            QUERIES["set_password"],
            auth_id=auth_id,
            password_hash=password_hash,
            expected=expected,
        )
    )


async def take_sign_in_attempt(
    conn: Connection, kind: str, bucket: int, limit: int, window: timedelta
) -> int:
    """Take one attempt; return the seconds to wait, 0 where it was taken."""
    return int(
        await fetch_value(
            conn,
            QUERIES["take_sign_in_attempt"],
            kind=kind,
            bucket=bucket,
            limit=limit,
            window=window,
        )
    )


async def make_sign_in_link(
    conn: Connection, email: str, purpose: LinkPurpose, token_hash: str
) -> str | None:
    """Keep a link; return the address to send it to, None for strangers."""
    found: str | None = await fetch_value(
        conn,
        QUERIES["make_sign_in_link"],
        email=email,
        purpose=purpose,
        token_hash=token_hash,
        lifetime=LINK_LIFETIME,
    )
    return found


async def use_sign_in_link(conn: Connection, token_hash: str, purpose: LinkPurpose) -> UUID | None:
    """Use a link up; return whose it was."""
    found: UUID | None = await fetch_value(
        conn, QUERIES["use_sign_in_link"], token_hash=token_hash, purpose=purpose
    )
    return found


async def note_sign_in(conn: Connection, auth_id: UUID, *, address_is_proven: bool) -> None:
    """Write down that a person came."""
    await fetch_value(
        conn, QUERIES["note_sign_in"], auth_id=auth_id, address_is_proven=address_is_proven
    )


async def insert_session(
    conn: Connection, auth_id: UUID, token_hash: str, method: Method, family: str
) -> Session:
    """Insert a session, and end the oldest past `MAX_SESSIONS`."""
    session = await fetch_one(
        conn,
        QUERIES["insert_session"],
        Session,
        auth_id=auth_id,
        token_hash=token_hash,
        method=method,
        user_agent_family=family,
        lifetime=SESSION_LIFETIME,
    )
    await execute(
        conn, QUERIES["update_surplus_sessions_revoked_at"], auth_id=auth_id, kept=MAX_SESSIONS
    )
    return session


async def use_session(conn: Connection, token_hash: str) -> SessionUse | None:
    """Return whose living session this is."""
    return await fetch_optional(
        conn,
        QUERIES["use_session"],
        SessionUse,
        token_hash=token_hash,
        idle_timeout=IDLE_TIMEOUT,
        touch_every=TOUCH_EVERY,
    )


async def list_sessions(conn: Connection, auth_id: UUID) -> list[Session]:
    """Return a person's living sessions, newest first."""
    return await fetch_all(
        conn,
        QUERIES["list_sessions_by_person"],
        Session,
        auth_id=auth_id,
        idle_timeout=IDLE_TIMEOUT,
        limit=MAX_SESSIONS,
    )


async def revoke_session(conn: Connection, auth_id: UUID, session_id: UUID) -> int:
    """End one session of a person; return how many that were (0 or 1)."""
    return await execute(
        conn, QUERIES["update_session_revoked_at"], auth_id=auth_id, session_id=session_id
    )


async def revoke_sessions(conn: Connection, auth_id: UUID, *, kept: UUID | None) -> int:
    """End every session of a person but one; return how many that were."""
    return await execute(conn, QUERIES["update_sessions_revoked_at"], auth_id=auth_id, kept=kept)


async def list_memberships(conn: Connection, auth_id: UUID) -> list[Membership]:
    """Return where the person on whose behalf the transaction runs belongs."""
    return await fetch_all(
        conn,
        QUERIES["list_memberships_by_person"],
        Membership,
        auth_id=auth_id,
        limit=MAX_MEMBERSHIPS_LISTED,
    )


async def is_operator(conn: Connection) -> bool:
    """Say whether the person on whose behalf the transaction runs is an operator."""
    return bool(await fetch_value(conn, QUERIES["find_is_operator"]))


async def prune(conn: Connection) -> int:
    """Delete what no longer says anything; return how many rows that were."""
    kept = {"kept": KEPT_AFTER_END, "limit": MAX_PRUNED_AT_ONCE}
    return (
        await execute(conn, QUERIES["delete_old_sessions"], **kept)
        + await execute(conn, QUERIES["delete_old_links"], **kept)
        + await execute(conn, QUERIES["delete_idle_limits"], limit=MAX_PRUNED_AT_ONCE)
    )


async def insert_service_token(
    conn: Connection,
    *,
    name: str,
    token_hash: str,
    token_prefix: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> ServiceToken:
    """Insert a token."""
    return await fetch_one(
        conn,
        QUERIES["insert_service_token"],
        ServiceToken,
        name=name,
        token_hash=token_hash,
        token_prefix=token_prefix,
        scopes=list(scopes),
        expires_at=expires_at,
    )


async def use_service_token(conn: Connection, token_hash: str) -> ServiceTokenUse | None:
    """Return which living token this is."""
    return await fetch_optional(
        conn,
        QUERIES["use_service_token"],
        ServiceTokenUse,
        token_hash=token_hash,
        touch_every=TOUCH_EVERY,
    )


async def list_service_tokens(conn: Connection) -> list[ServiceToken]:
    """Return the tokens, newest first."""
    return await fetch_all(
        conn,
        QUERIES["list_service_tokens_by_created_at"],
        ServiceToken,
        limit=MAX_TOKENS_LISTED,
    )


async def revoke_service_token(conn: Connection, token_id: UUID) -> ServiceToken | None:
    """Revoke a token."""
    return await fetch_optional(
        conn, QUERIES["update_service_token_revoked_at"], ServiceToken, token_id=token_id
    )
