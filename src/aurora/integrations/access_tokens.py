"""Access tokens of another sign-in service (JWT, RFC 7519), checked as RFC 8725 asks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import jwt
import msgspec
import structlog

from aurora.core.errors import AuroraError, Unauthorized, Unavailable

AUDIENCE: Final = "authenticated"
ROLE: Final = "authenticated"
REQUIRED: Final = ("exp", "sub", "aud")
LEEWAY_S: Final = 10
MAX_TOKEN_BYTES: Final = 8 * 1024

HMAC_ALGORITHM: Final = "HS256"
SIGNATURE_ALGORITHMS: Final = frozenset({"ES256", "RS256", "EdDSA"})
MIN_SECRET_BYTES: Final = 32
"""As long as the hash (RFC 7518, section 3.2)."""

MAX_KEY_SET_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 20
KEY_SET_FRESH_S: Final = 600.0
"""After this long the keys are asked for again, so that a withdrawn one goes."""
KEY_SET_RETRY_S: Final = 30.0
"""At most one request to the service in this time, however many unknown key ids are sent."""
KEY_SET_USABLE_S: Final = 3600.0
"""While the service cannot be reached the old keys are believed this long."""
FETCH_TIMEOUT_S: Final = 5.0

Fetch = Callable[[str], Awaitable[bytes]]
log = structlog.get_logger(__name__)


class AccessTokenRefused(Unauthorized):
    """The access token is not accepted; the detail says why, and never what was in it."""

    code, title = "access_token_refused", "The access token is not accepted"


class AccessTokenKeysUnavailable(Unavailable):
    """The service that signs the tokens does not say its keys right now."""

    code, title = "access_token_keys_unavailable", "The sign-in service cannot be reached right now"


class AccessTokenSettingsInvalid(AuroraError):
    """The secret or the address cannot be used."""

    code, title = "access_token_settings_invalid", "The settings for access tokens cannot be used"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token that was accepted says."""

    subject: UUID
    email: str | None


def looks_like_jwt(text: str) -> bool:
    """Say whether a text has the shape of a signed token: three parts, the first a JSON object."""
    return text.startswith("ey") and text.count(".") == 2  # noqa: PLR2004 - header.claims.signature


class AccessTokens:
    """Verifies tokens with a shared secret, with published keys, or with both.

    Which of the two is asked follows from the token's `alg`, and each knows its own algorithms
    only: a public key is never taken for a shared secret, and `none` is nobody's algorithm.

    Args:
        secret: For HS256; None where only published keys count.
        url: The service, such as `https://….supabase.co`; its keys are published under it.
        fetch: Gets the key set's bytes; another one in tests.
    """

    def __init__(
        self, *, secret: str | None = None, url: str | None = None, fetch: Fetch | None = None
    ) -> None:
        if secret is not None and len(secret.encode()) < MIN_SECRET_BYTES:
            raise AccessTokenSettingsInvalid(
                f"AURORA_SUPABASE_JWT_SECRET has at least {MIN_SECRET_BYTES} bytes."
            )
        if url is not None and not _is_safe(url):
            raise AccessTokenSettingsInvalid(
                "AURORA_SUPABASE_URL is https://host, or http:// on this machine only."
            )
        if secret is None and url is None:
            raise AccessTokenSettingsInvalid("Neither a secret nor an address was given.")
        self._secret = secret
        self._issuer = None if url is None else f"{url.rstrip('/')}/auth/v1"
        self._fetch = fetch or fetch_key_set
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = -KEY_SET_USABLE_S
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> AccessToken:
        """Return who the token is about.

        Raises:
            AccessTokenRefused: Signature, algorithm, audience, issuer, or time is wrong.
            AccessTokenKeysUnavailable: The keys are not known and cannot be had now.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            key = await self._key_for(algorithm, header.get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[str(algorithm)],
                audience=AUDIENCE,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
            return _read(claims)
        except jwt.ExpiredSignatureError:
            raise AccessTokenRefused("The access token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise AccessTokenRefused("The access token is not valid yet.") from None
        except jwt.InvalidAudienceError:
            raise AccessTokenRefused("The access token is for another audience.") from None
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            # What the library says may quote the token.
            raise AccessTokenRefused from None

    async def _key_for(self, algorithm: object, key_id: object) -> str | jwt.PyJWK:
        if algorithm == HMAC_ALGORITHM and self._secret is not None:
            return self._secret
        if algorithm in SIGNATURE_ALGORITHMS and self._issuer is not None:
            key = await self._published_key(str(key_id))
            # The key says what it is for; the token may only agree.
            if key is not None and key.algorithm_name == algorithm:
                return key
        raise AccessTokenRefused("The access token is signed in a way that is not accepted here.")

    async def _published_key(self, key_id: str) -> jwt.PyJWK | None:
        age_s = time.monotonic() - self._fetched_at
        if key_id not in self._keys or age_s > KEY_SET_FRESH_S:
            async with self._lock:
                await self._refresh(key_id)
        if not self._keys:
            raise AccessTokenKeysUnavailable(retry_after_s=int(KEY_SET_RETRY_S))
        return self._keys.get(key_id)

    async def _refresh(self, key_id: str) -> None:
        began = time.monotonic()
        is_known = key_id in self._keys and began - self._fetched_at <= KEY_SET_FRESH_S
        if is_known or began - self._asked_at < KEY_SET_RETRY_S:
            return
        self._asked_at = began
        try:
            self._keys = _read_key_set(await self._fetch(f"{self._issuer}/.well-known/jwks.json"))
            self._fetched_at = began
        except (OSError, ValueError, TypeError, msgspec.MsgspecError, jwt.PyJWTError) as error:
            log.warning("access_token_keys_unavailable", reason=type(error).__name__)
            if began - self._fetched_at > KEY_SET_USABLE_S:
                self._keys = {}


def _read(claims: dict[str, Any]) -> AccessToken:
    if claims.get("role", ROLE) != ROLE:
        raise AccessTokenRefused("The access token is not a person's.")
    email = claims.get("email")
    return AccessToken(UUID(str(claims["sub"])), email if isinstance(email, str) else None)


def _read_key_set(document: bytes) -> dict[str, jwt.PyJWK]:
    """Return the usable keys of a JWK set (RFC 7517) by id; unknown kinds are left out."""
    listed = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    if not isinstance(listed, list):
        raise TypeError("the document holds no keys")
    found = {}
    for entry in listed[:MAX_KEYS]:
        if isinstance(entry, dict) and entry.get("alg") in SIGNATURE_ALGORITHMS:
            # One key that this release cannot read must not take the others with it.
            with contextlib.suppress(jwt.PyJWTError):
                key = jwt.PyJWK(entry)
                if key.key_id is not None:
                    found[key.key_id] = key
    return found


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
    return bool(parts.hostname) and (local or parts.scheme == "https")


async def fetch_key_set(url: str) -> bytes:
    """Return the bytes behind an address of the settings: no redirects, bounded size and time.

    Raises:
        OSError: It cannot be had.
        ValueError: It is too large.
    """
    return await asyncio.to_thread(_fetch, url)


def _fetch(url: str) -> bytes:
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirects)
    with opener.open(url, timeout=FETCH_TIMEOUT_S) as response:
        document: bytes = response.read(MAX_KEY_SET_BYTES + 1)
    if len(document) > MAX_KEY_SET_BYTES:
        raise ValueError("the key set is too large")
    return document
