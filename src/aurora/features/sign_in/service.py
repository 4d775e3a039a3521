"""How people sign in, stay signed in, and leave.

What compares or makes a hash takes the pool and not a connection: it spans two short transactions,
because a connection held for the time of a hash would let a few attempts stop everybody else.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aurora.core.secrets import hash_key
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, person, transaction
from aurora.features.sign_in import limits, store
from aurora.features.sign_in.limits import take
from aurora.features.sign_in.model import (
    MAX_EMAIL_CHARACTERS,
    Credentials,
    LinkInvalid,
    LinkPurpose,
    Membership,
    Method,
    PasswordWrong,
    Session,
    SessionNotFound,
    SessionUse,
    SignedIn,
    SignInFailed,
)
from aurora.features.sign_in.passwords import check_password, hash_password, verify_password

TOKEN_BYTES: Final = 32
"""256 random bits in a session's cookie and in a link."""
NOBODY: Final = ""
"""No address is empty, so this one finds nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Where an attempt comes from.

    Attributes:
        place: What limits count as one place (`browser.place_of`).
        user_agent_family: Kept with the session.
    """

    place: str
    user_agent_family: str = "other"


async def sign_in_with_password(
    pool: Pool, *, email: str, password: str, visitor: Visitor
) -> SignedIn:
    """Begin a session for who knows the password; strangers cost as much work as members.

    Raises:
        SignInFailed: Address and password do not belong together.
        TooManyAttempts: From this place, or for this address.
        SignInElsewhere: Supabase signs people in.
    """
    address = comparable_address(email)
    async with transaction(pool, PLATFORM) as conn:
        await take(
            conn,
            (limits.PASSWORD_BY_IP, visitor.place),
            (limits.PASSWORD_BY_ADDRESS, address.lower()),
        )
        known = await store.find_credentials(conn, address)
    verdict = await verify_password(password, None if known is None else known.password_hash)
    if known is None or not verdict.matches:
        raise SignInFailed
    renewed = None
    if verdict.needs_rehash:
        renewed = await hash_password(check_password(password, email=NOBODY))
    async with transaction(pool, PLATFORM) as conn:
        # The same comparison twice: a password that was changed meanwhile opens nothing any more.
        if not await store.set_password(
            conn,
            known.auth_id,
            renewed or str(known.password_hash),
            expected=known.password_hash,
        ):
            raise SignInFailed
        return await _begin_session(conn, known.auth_id, "password", visitor)


async def sign_in_with_link(pool: Pool, *, token: str, visitor: Visitor) -> SignedIn:
    """Begin a session for who holds the mailbox; the link opens nothing a second time.

    Raises:
        LinkInvalid: It is unknown, used, expired, or for something else.
        TooManyAttempts: From this place.
    """
    async with transaction(pool, PLATFORM) as conn:
        await take(conn, (limits.TOKEN_BY_IP, visitor.place))
    async with transaction(pool, PLATFORM) as conn:
        auth_id = await _use_link(conn, token, "sign_in")
        return await _begin_session(conn, auth_id, "link", visitor)


async def reset_password(
    pool: Pool, *, token: str, new_password: str, visitor: Visitor
) -> SignedIn:
    """Set a new password for who holds the mailbox, and end every session there was.

    An unsuitable password does not use the link up: one tries again with another.

    Raises:
        LinkInvalid: It is unknown, used, expired, or for something else.
        PasswordUnsuitable: The new password breaks a rule.
        TooManyAttempts: From this place.
    """
    check_password(new_password, email=NOBODY)
    async with transaction(pool, PLATFORM) as conn:
        await take(conn, (limits.TOKEN_BY_IP, visitor.place))
    password_hash = await hash_password(check_password(new_password, email=NOBODY))
    async with transaction(pool, PLATFORM) as conn:
        auth_id = await _use_link(conn, token, "password_reset")
        known = await _credentials(conn, auth_id)
        check_password(new_password, email=known.email)
        if not await store.set_password(conn, auth_id, password_hash, expected=known.password_hash):
            raise LinkInvalid
        await store.revoke_sessions(conn, auth_id, kept=None)
        return await _begin_session(conn, auth_id, "link", visitor)


async def change_password(
    pool: Pool, *, who: SessionUse, current_password: str | None, new_password: str
) -> None:
    """Set another password, and end the person's other sessions.

    Args:
        pool: Of the application.
        who: The session in which it is asked.
        current_password: Asked for where there is one: a session left open must not be enough.
        new_password: Checked, normalised, and hashed.

    Raises:
        PasswordWrong: The present one is not that.
        PasswordUnsuitable: The new one breaks a rule.
        TooManyAttempts: By this person.
    """
    async with transaction(pool, PLATFORM) as conn:
        await take(conn, (limits.PASSWORD_BY_PERSON, str(who.auth_id)))
        known = await _credentials(conn, who.auth_id)
    checked = check_password(new_password, email=known.email)
    if known.password_hash is not None:
        verdict = await verify_password(current_password or "", known.password_hash)
        if not verdict.matches:
            raise PasswordWrong
    password_hash = await hash_password(checked)
    async with transaction(pool, PLATFORM) as conn:
        if not await store.set_password(
            conn, who.auth_id, password_hash, expected=known.password_hash
        ):
            raise PasswordWrong("The password was changed a moment ago from somewhere else.")
        await store.revoke_sessions(conn, who.auth_id, kept=who.id)


async def admit_link_request(conn: Connection, *, email: str, visitor: Visitor) -> str:
    """Count a request for a link; return the address as it is compared, known here or not.

    Raises:
        TooManyAttempts: From this place, or for this address.
        SignInElsewhere: Supabase signs people in.
    """
    await store.must_keep_passwords(conn)
    address = comparable_address(email)
    await take(
        conn,
        (limits.LINK_BY_IP, visitor.place),
        (limits.LINK_BY_ADDRESS, address.lower()),
    )
    return address


async def make_link(
    conn: Connection, *, address: str, purpose: LinkPurpose
) -> tuple[str, str] | None:
    """Make a one-time link's token.

    Returns:
        The stored address to send it to and the token, or None for strangers.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    to = await store.make_sign_in_link(conn, address, purpose, hash_key(token))
    return None if to is None else (to, token)


async def find_session(conn: Connection, token: str) -> SessionUse | None:
    """Return whose living session a cookie is, or None."""
    return await store.use_session(conn, hash_key(token))


async def list_sessions(conn: Connection, auth_id: UUID) -> list[Session]:
    """Return a person's living sessions, newest first."""
    return await store.list_sessions(conn, auth_id)


async def end_session(conn: Connection, auth_id: UUID, session_id: UUID) -> None:
    """End one session of a person; the next request with its cookie is a stranger's.

    Raises:
        SessionNotFound: It is none of this person's, or has ended already.
    """
    if not await store.revoke_session(conn, auth_id, session_id):
        raise SessionNotFound


async def end_all_sessions(conn: Connection, auth_id: UUID, *, kept: UUID | None = None) -> int:
    """End every session of a person, or all but one; return how many that were."""
    return await store.revoke_sessions(conn, auth_id, kept=kept)


async def list_memberships(pool: Pool, auth_id: UUID) -> list[Membership]:
    """Return where a person belongs, as row level security shows it to that person."""
    async with transaction(pool, person(auth_id), read_only=True) as conn:
        return await store.list_memberships(conn, auth_id)


async def is_operator(pool: Pool, auth_id: UUID) -> bool:
    """Say whether a person runs the platform, as `app.is_operator()` says it."""
    async with transaction(pool, person(auth_id), read_only=True) as conn:
        return await store.is_operator(conn)


def comparable_address(email: str) -> str:
    """Return the address to look for, or one that finds nobody where it cannot be an address.

    Only a text that is its own NFKC form is looked for: a Kelvin sign that a comparison takes for
    the letter k must not find somebody else's account.
    """
    address = email.strip()
    is_plain = (
        len(address) <= MAX_EMAIL_CHARACTERS
        and address.isprintable()
        and unicodedata.normalize("NFKC", address) == address
    )
    return address if is_plain else NOBODY


async def _use_link(conn: Connection, token: str, purpose: LinkPurpose) -> UUID:
    auth_id = await store.use_sign_in_link(conn, hash_key(token), purpose)
    if auth_id is None:
        raise LinkInvalid
    return auth_id


async def _credentials(conn: Connection, auth_id: UUID) -> Credentials:
    known = await store.find_person_credentials(conn, auth_id)
    if known is None:
        raise SignInFailed
    return known


async def _begin_session(
    conn: Connection, auth_id: UUID, method: Method, visitor: Visitor
) -> SignedIn:
    """Insert a session under a name that nobody can have known before (no fixation)."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await store.note_sign_in(conn, auth_id, address_is_proven=method == "link")
    session = await store.insert_session(
        conn, auth_id, hash_key(token), method, visitor.user_agent_family
    )
    return SignedIn(session=session, token=token)
