"""Sessions, links, and tokens as the house sees them: never the secret itself but once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from aurora.core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitExceeded,
    NotFound,
    Unauthorized,
)

LinkPurpose = Literal["sign_in", "password_reset"]
Method = Literal["password", "link"]

IDLE_TIMEOUT: Final = timedelta(hours=12)
"""A session that nobody used for this long is over (OWASP ASVS 5.0, 7.3.1)."""
SESSION_LIFETIME: Final = timedelta(days=30)
"""A session is over after this long, however much it is used (OWASP ASVS 5.0, 7.3.2)."""
TOUCH_EVERY: Final = timedelta(minutes=1)
"""last_seen_at and last_used_at are written at most this often."""
LINK_LIFETIME: Final = timedelta(minutes=15)
KEPT_AFTER_END: Final = timedelta(days=30)
"""How long ended sessions and links stay, so that somebody can ask what happened."""

MAX_SESSIONS: Final = 50
"""Living sessions of one person; the oldest ends when one more begins."""
MAX_MEMBERSHIPS_LISTED: Final = 200
MAX_TOKENS_LISTED: Final = 500
MAX_EMAIL_CHARACTERS: Final = 254
MAX_TOKEN_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A person's address and password hash, on the way from the table to the comparison."""

    auth_id: UUID
    email: str
    password_hash: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser, as its owner may see it."""

    id: UUID
    created_at: datetime
    auth_id: UUID
    method: Method
    user_agent_family: str
    last_seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUse:
    """Whose living session a cookie is."""

    id: UUID
    auth_id: UUID
    email: str
    is_operator: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A session just begun; `token` becomes the cookie and is kept nowhere."""

    session: Session
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Where a person belongs, and as what."""

    organization_id: UUID
    name: str
    slug: str
    status: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceToken:
    """A token of an operator's program, without its secret."""

    id: UUID
    created_at: datetime
    name: str
    token_prefix: str
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTokenUse:
    """Which living service token was sent."""

    id: UUID
    name: str
    scopes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewServiceToken:
    """A token just made, with the secret that is shown this once."""

    record: ServiceToken
    token: str = field(repr=False)


class SignInElsewhere(Conflict):
    """The database is Supabase's, and so is signing in."""

    code, title = "sign_in_elsewhere", "People of this platform sign in with Supabase"


class SignInFailed(Unauthorized):
    """Address and password do not belong together; which of them is wrong is not said."""

    code, title = "sign_in_failed", "The e-mail address or the password is wrong"


class LinkInvalid(Unauthorized):
    """The link is unknown, used, expired, or for something else: the four look the same."""

    code, title = "link_invalid", "This link has been used, has expired, or never was; ask again"


class PasswordWrong(Forbidden):
    """The present password, asked for before a new one is taken, is wrong."""

    code, title = "password_wrong", "The present password is wrong"


class PasswordUnsuitable(Invalid):
    """The new password breaks a rule; the detail says which."""

    code, title = "password_unsuitable", "This password cannot be used"


class TooManyAttempts(LimitExceeded):
    """Too many attempts from here or for this address; Retry-After says when the next may be."""

    code, title = "too_many_attempts", "Too many attempts to sign in; wait a little"


class CsrfRefused(Forbidden):
    """A cookie alone is no proof that the person meant it; X-CSRF-Token must come with it."""

    code, title = "csrf_refused", "The request does not come from Aurora's own pages"


class SessionNotFound(NotFound):
    """No such living session of this person."""

    code, title = "session_not_found", "There is no such session"


class ServiceTokenNotFound(NotFound):
    """No such service token."""

    code, title = "service_token_not_found", "There is no such service token"


class ServiceTokenNameInvalid(Invalid):
    """The name of a token is blank or too long."""

    code, title = "service_token_name_invalid", "A token's name has 1 to 200 characters"
    constraints = ("service_tokens_name_check",)


class ServiceTokenScopesInvalid(Invalid):
    """A scope that does not exist, or none at all."""

    code = "service_token_scopes_invalid"
    title = "The scopes of a service token are operator, read, usage:write, and billing:run"
    constraints = ("service_tokens_scopes_check",)
