"""Access tokens: what is accepted, and every known way of cheating."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aurora.integrations.access_tokens import (
    MAX_KEYS,
    AccessTokenKeysUnavailable,
    AccessTokenRefused,
    AccessTokens,
    AccessTokenSettingsInvalid,
)

SECRET = "a-shared-secret-of-at-least-32-bytes"
URL = "https://project.supabase.example"
ISSUER = f"{URL}/auth/v1"
SUBJECT = UUID("6f1c1f0a-2f55-4b8e-9a53-0d5a3a6c7e11")
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def claims(**changes: Any) -> dict[str, Any]:
    given = {
        "sub": str(SUBJECT),
        "aud": "authenticated",
        "role": "authenticated",
        "iss": ISSUER,
        "email": "kari@hotel.example",
        "exp": datetime.now(UTC) + timedelta(hours=1),
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def jwk(key: Any, kid: str, alg: str) -> dict[str, Any]:
    kind = jwt.algorithms.ECAlgorithm if alg == "ES256" else jwt.algorithms.RSAAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "alg": alg, "use": "sig"}


class KeyServer:
    """What publishes keys: counts how often it is asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys, self.asked, self.is_down = list(keys), 0, False

    async def __call__(self, url: str) -> bytes:
        assert url == f"{ISSUER}/.well-known/jwks.json"
        self.asked += 1
        if self.is_down:
            raise OSError("down")
        return json.dumps({"keys": self.keys}).encode()


@pytest.fixture
def server() -> KeyServer:
    return KeyServer(jwk(EC_KEY, "ec", "ES256"), jwk(RSA_KEY, "rsa", "RS256"))


def signed(key: Any, alg: str, kid: str | None = None, **changes: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**changes), key, algorithm=alg, headers=headers)


async def test_a_token_signed_with_the_shared_secret_is_a_person() -> None:
    found = await AccessTokens(secret=SECRET).verify(signed(SECRET, "HS256", iss=None))
    assert (found.subject, found.email) == (SUBJECT, "kari@hotel.example")


async def test_tokens_signed_with_published_keys_are_persons(server: KeyServer) -> None:
    tokens = AccessTokens(url=URL, fetch=server)
    for _ in range(5):
        assert (await tokens.verify(signed(EC_KEY, "ES256", "ec"))).subject == SUBJECT
        assert (await tokens.verify(signed(RSA_KEY, "RS256", "rsa"))).subject == SUBJECT
    assert server.asked == 1


REFUSED = {
    "expired": {"exp": datetime.now(UTC) - timedelta(minutes=1)},
    "without an end": {"exp": None},
    "not valid yet": {"nbf": datetime.now(UTC) + timedelta(days=1)},
    "another audience": {"aud": "anon"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example/auth/v1"},
    "no issuer": {"iss": None},
    "no subject": {"sub": None},
    "a subject that is no person": {"sub": "service"},
    "the service's role": {"role": "service_role"},
    "nobody's role": {"role": "anon"},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED.keys())
async def test_a_token_that_says_the_wrong_thing_is_refused(
    server: KeyServer, changes: dict[str, Any]
) -> None:
    tokens = AccessTokens(secret=SECRET, url=URL, fetch=server)
    for token in (signed(SECRET, "HS256", **changes), signed(EC_KEY, "ES256", "ec", **changes)):
        with pytest.raises(AccessTokenRefused):
            await tokens.verify(token)


def with_a_public_key_as_secret() -> str:
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return forged({"alg": "HS256", "kid": "rsa"}, pem)


def forged(header: dict[str, Any], secret: bytes) -> str:
    """Sign by hand: the library itself refuses to make such tokens."""
    import hashlib
    import hmac

    body = {**claims(), "exp": int((datetime.now(UTC) + timedelta(hours=1)).timestamp())}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)
    ]
    mac = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    signature = b"" if not secret else base64.urlsafe_b64encode(mac).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


CHEATS = {
    "none": lambda: forged({"alg": "none"}, b""),
    "None": lambda: forged({"alg": "None", "kid": "ec"}, b""),
    "no algorithm": lambda: forged({"typ": "JWT"}, b""),
    "public key as secret": with_a_public_key_as_secret,
    "another secret": lambda: signed(SECRET[::-1], "HS256"),
    "another hash": lambda: signed(SECRET * 2, "HS512"),
    "another private key": lambda: signed(ec.generate_private_key(ec.SECP256R1()), "ES256", "ec"),
    "another key's id": lambda: signed(EC_KEY, "ES256", "rsa"),
    "unknown key id": lambda: signed(EC_KEY, "ES256", "nobody"),
    "no key id": lambda: signed(EC_KEY, "ES256"),
    "another padding": lambda: signed(RSA_KEY, "PS256", "rsa"),
    "its own key": lambda: jwt.encode(
        claims(), EC_KEY, algorithm="ES256", headers={"jwk": jwk(EC_KEY, "x", "ES256")}
    ),
    "a changed claim": lambda: "{}.{}.{}".format(
        (good := signed(SECRET, "HS256").split("."))[0],
        signed(SECRET, "HS256", sub=str(uuid4())).split(".")[1],
        good[2],
    ),
    "not base64": lambda: "ey!.ey!.x",
    "not JSON": lambda: "eyJh.eyJh.eyJh",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS.keys())
async def test_no_cheat_with_the_signature_is_accepted(server: KeyServer, cheat: Any) -> None:
    for tokens in (
        AccessTokens(secret=SECRET, url=URL, fetch=server),
        AccessTokens(url=URL, fetch=server),
    ):
        with pytest.raises(AccessTokenRefused):
            await tokens.verify(cheat())


async def test_a_shared_secret_counts_only_where_it_is_configured(server: KeyServer) -> None:
    with pytest.raises(AccessTokenRefused):
        await AccessTokens(url=URL, fetch=server).verify(signed(SECRET, "HS256"))
    with pytest.raises(AccessTokenRefused):
        await AccessTokens(secret=SECRET).verify(signed(EC_KEY, "ES256", "ec"))


async def test_unknown_key_ids_do_not_make_us_ask_again_and_again(server: KeyServer) -> None:
    tokens = AccessTokens(url=URL, fetch=server)
    for number in range(20):
        with pytest.raises(AccessTokenRefused):
            await tokens.verify(signed(EC_KEY, "ES256", f"unknown-{number}"))
    assert server.asked == 1


async def test_a_new_key_is_found_and_a_withdrawn_one_goes(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = AccessTokens(url=URL, fetch=server)
    await tokens.verify(signed(EC_KEY, "ES256", "ec"))
    server.keys = [jwk(RSA_KEY, "new", "RS256")]
    tokens._asked_at -= 31
    await tokens.verify(signed(RSA_KEY, "RS256", "new"))
    with pytest.raises(AccessTokenRefused):
        await tokens.verify(signed(EC_KEY, "ES256", "ec"))


async def test_while_the_service_is_down_known_keys_are_believed_for_a_while(
    server: KeyServer,
) -> None:
    tokens = AccessTokens(url=URL, fetch=server)
    server.is_down = True
    for _ in range(3):
        with pytest.raises(AccessTokenKeysUnavailable):
            await tokens.verify(signed(EC_KEY, "ES256", "ec"))
    assert server.asked == 1
    server.is_down, tokens._asked_at = False, tokens._asked_at - 31
    await tokens.verify(signed(EC_KEY, "ES256", "ec"))
    server.is_down = True
    tokens._asked_at -= 601
    tokens._fetched_at -= 601
    await tokens.verify(signed(EC_KEY, "ES256", "ec"))
    tokens._asked_at -= 3600
    tokens._fetched_at -= 3600
    with pytest.raises(AccessTokenKeysUnavailable):
        await tokens.verify(signed(EC_KEY, "ES256", "ec"))


async def test_a_key_set_is_read_up_to_a_limit_and_past_what_is_unknown() -> None:
    strange = [{"kty": "oct", "k": "c2VjcmV0", "kid": "ec", "alg": "ES256"}, "x", {"kty": "?"}]
    server = KeyServer(*strange, jwk(EC_KEY, "ec", "ES256"))  # type: ignore[arg-type]
    await AccessTokens(url=URL, fetch=server).verify(signed(EC_KEY, "ES256", "ec"))
    late = KeyServer(*[jwk(RSA_KEY, "x", "RS256")] * MAX_KEYS, jwk(EC_KEY, "ec", "ES256"))
    with pytest.raises(AccessTokenRefused):
        await AccessTokens(url=URL, fetch=late).verify(signed(EC_KEY, "ES256", "ec"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"secret": "too short"},
        {"url": "http://project.supabase.example"},
        {"url": "file:///etc/passwd"},
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AccessTokenSettingsInvalid):
        AccessTokens(**settings)
