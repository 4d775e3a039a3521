"""Who makes a request: a service token, an organization's key, or nobody."""

from __future__ import annotations

from collections.abc import Mapping

from aurora.core.errors import Forbidden, Unauthorized
from aurora.core.secrets import equal
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate.model import VerifyRequest
from aurora.features.gate.service import is_worth_looking_up, verify
from aurora.integrations.http import Caller

MAX_CREDENTIAL_BYTES = 500
OPERATOR = Caller("operator")


class KeyRefused(Unauthorized):
    """The key does not open anything; `reason` says why, as the gate's code."""

    code, title = "key_refused", "The API key is not accepted"


class SecretKeyNeeded(Forbidden):
    """A key that stands in web pages does not open the platform's own interface."""

    code, title = "secret_key_needed", "A publishable key opens widgets only; send a secret key"


async def identify(headers: Mapping[bytes, bytes], pool: Pool, service_token: str) -> Caller | None:
    """Return who sends these headers; None when no credentials came.

    Raises:
        Unauthorized: Credentials came and are not accepted.
        KeyRefused: The same for a key, with the reason.
        SecretKeyNeeded: A publishable key: it is public, so it may neither read nor report here.
    """
    credential = _credential(headers)
    if credential is None:
        return None
    if not credential.startswith("tro_"):
        if equal(credential, service_token):
            return OPERATOR
        raise Unauthorized("The token is neither an API key nor the operators' service token.")
    origin = headers.get(b"origin")
    asked = VerifyRequest(
        key=credential, origin=None if origin is None else origin.decode("latin-1")
    )
    if not is_worth_looking_up(asked):
        raise KeyRefused("This is not an API key: its checksum is wrong.", reason="MALFORMED")
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        verdict = await verify(conn, asked)
    if not verdict.valid:
        raise KeyRefused(f"The API key is not accepted: {verdict.code}.", reason=verdict.code)
    if verdict.kind == "publishable":
        raise SecretKeyNeeded
    return Caller("key", verdict.organization_id, verdict.key_id, frozenset(verdict.scopes))


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
    if len(found) > MAX_CREDENTIAL_BYTES:
        raise Unauthorized
    return found.decode("latin-1")
