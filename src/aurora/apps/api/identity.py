"""Who makes a request: an operator's token, an organization's key, a person, or nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aurora.core.errors import Forbidden, Unauthorized
from aurora.core.secrets import equal, is_service_token
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate.model import Verdict, VerifyRequest
from aurora.features.gate.refusals import refusal_of
from aurora.features.gate.service import Gate
from aurora.features.limits.headers import limit_headers
from aurora.features.sign_in.browser import CSRF_HEADER, Site, check_csrf, cookie
from aurora.features.sign_in.model import MAX_TOKEN_CHARACTERS
from aurora.features.sign_in.service import find_session, is_operator
from aurora.features.sign_in.service_tokens import find_service_token
from aurora.integrations.access_tokens import MAX_TOKEN_BYTES, AccessTokens, looks_like_jwt
from aurora.integrations.http import Caller

MAX_CREDENTIAL_BYTES: Final = 500
MAX_CALLERS: Final = 10_000
OPERATOR: Final = Caller("operator")
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Signing in must work whatever old cookie the browser still has, so none is asked for there; what
# is asked there is the page's origin.
SIGN_IN_PATHS: Final = "/v1/sign-in/"
STATIC_PATHS: Final = "/static/"
# Reporting usage takes nothing: a customer at its limit would lose the record of what it used. What
# bounds it is the size of a body and the queue in front of the commit.
UNLIMITED_PATHS: Final = frozenset({"/v1/usage/events"})


class SecretKeyNeeded(Forbidden):
    """A key that stands in web pages does not open the platform's own interface."""

    code, title = "secret_key_needed", "A publishable key opens widgets only; send a secret key"


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Knows every kind of credentials.

    Attributes:
        service_token: The operators' token from the settings; it may do everything.
        site: Where people reach this platform, and so what their cookies are called.
        access_tokens: Supabase's, where configured.
    """

    service_token: str
    site: Site
    access_tokens: AccessTokens | None = None

    async def identify(
        self,
        method: str,
        path: str,
        headers: Mapping[bytes, bytes],
        gate: Gate,
        ip: str | None = None,
    ) -> Caller | None:
        """Return who sends this; None when no credentials came, or an old cookie.

        Raises:
            Unauthorized: Credentials came and are not accepted.
            KeyRefused: The same for a key, with the reason.
            CsrfRefused: A living session's cookie came without proof that the person meant it.
        """
        pool = gate.pool
        credential = _credential(headers)
        if credential is None:
            return await self._from_cookie(method, path, headers, pool)
        if credential.startswith("tro_"):
            return await self._from_key(credential, path, headers, gate, ip)
        if equal(credential, self.service_token):
            return OPERATOR
        if is_service_token(credential):
            return await _from_service_token(credential, method, pool)
        if self.access_tokens is not None and looks_like_jwt(credential):
            found = await self.access_tokens.verify(credential)
            return Caller(
                "person",
                person_id=found.subject,
                email=found.email,
                is_operator=await is_operator(pool, found.subject),
            )
        raise Unauthorized("The credentials are neither an API key nor a token that is known here.")

    def identify_at_once(
        self, path: str, headers: Mapping[bytes, bytes], gate: Gate, ip: str | None
    ) -> Caller | None:
        """Return whose key a request has; None where there is none, or it takes more to say."""
        try:
            credential = _credential(headers)
        except Unauthorized:
            return None
        if credential is None or not credential.startswith("tro_") or path not in UNLIMITED_PATHS:
            return None
        asked = VerifyRequest(key=credential, origin=self._foreign_origin(headers), ip=ip)
        verdict = gate.verify_at_once(asked, takes=False)
        if verdict is None or not verdict.valid or verdict.kind == "publishable":
            return None
        return _caller_of(verdict)

    def credential(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return what the caller of a request proved who they are with."""
        found = _credential(headers) or cookie(headers, self.site.session_cookie) or ""
        return found.encode("latin-1")

    async def _from_cookie(
        self, method: str, path: str, headers: Mapping[bytes, bytes], pool: Pool
    ) -> Caller | None:
        token = cookie(headers, self.site.session_cookie)
        if token is None or len(token) > MAX_TOKEN_CHARACTERS:
            return None
        if path.startswith((SIGN_IN_PATHS, STATIC_PATHS)):
            return None
        async with transaction(pool, PLATFORM) as conn:
            found = await find_session(conn, token)
        if found is None:
            return None
        if method not in SAFE_METHODS:
            self.site.check_origin(_text(headers, b"origin"))
            check_csrf(token, _text(headers, CSRF_HEADER.encode()))
        return Caller(
            "person",
            person_id=found.auth_id,
            email=found.email,
            session_id=found.id,
            is_operator=found.is_operator,
        )

    async def _from_key(
        self,
        credential: str,
        path: str,
        headers: Mapping[bytes, bytes],
        gate: Gate,
        ip: str | None,
    ) -> Caller:
        asked = VerifyRequest(key=credential, origin=self._foreign_origin(headers), ip=ip)
        verdict = await gate.verify(asked, takes=path not in UNLIMITED_PATHS)
        if not verdict.valid:
            raise refusal_of(verdict)
        if verdict.kind == "publishable":
            raise SecretKeyNeeded
        return _caller_of(verdict)

    def _foreign_origin(self, headers: Mapping[bytes, bytes]) -> str | None:
        origin = _text(headers, b"origin")
        # Whoever tries a key out on this platform's own pages has not published it there.
        return None if self.site.is_own(origin) else origin


# By the number of the key, with the scopes that they were made of: a record that was read anew has
# others. Making one takes as long as the verdict itself.
_callers: dict[int, tuple[Sequence[str], Caller]] = {}


def _caller_of(verdict: Verdict) -> Caller:
    taken, key_id = verdict.limits, verdict.key_id
    if taken is not None or key_id is None:
        headers = () if taken is None else tuple(limit_headers(taken))
        scopes = frozenset(verdict.scopes)
        return Caller("key", verdict.organization_id, key_id, scopes, answer_headers=headers)
    known = _callers.get(key_id.int)
    if (
        known is not None
        and known[0] is verdict.scopes
        and known[1].organization_id is verdict.organization_id
    ):
        return known[1]
    made = Caller("key", verdict.organization_id, key_id, frozenset(verdict.scopes))
    if len(_callers) >= MAX_CALLERS:
        _callers.clear()
    _callers[key_id.int] = verdict.scopes, made
    return made


async def _from_service_token(credential: str, method: str, pool: Pool) -> Caller:
    async with transaction(pool, PLATFORM) as conn:
        found = await find_service_token(conn, credential)
    if found is None:
        raise Unauthorized("The service token is unknown, expired, or revoked.")
    scopes = frozenset(found.scopes)
    # What reads asks for no scope of its own: read is the right to every GET.
    whole = "operator" in scopes or ("read" in scopes and method in SAFE_METHODS)
    return Caller("operator" if whole else "service", scopes=scopes, token_id=found.id)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _credential(headers: Mapping[bytes, bytes]) -> str | None:
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("Only the scheme Bearer is known: 'Authorization: Bearer …'.")
        found = value.strip()
    else:
        found = headers.get(b"x-api-key", b"").strip()
        if not found:
            return None
    text = found[: MAX_TOKEN_BYTES + 1].decode("latin-1")
    if len(text) > (MAX_TOKEN_BYTES if looks_like_jwt(text) else MAX_CREDENTIAL_BYTES):
        raise Unauthorized
    return text
