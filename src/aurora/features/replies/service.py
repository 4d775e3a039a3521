"""Making a call once: claiming its key, keeping its answer sealed, and giving that again."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aurora.core.digests import digest
from aurora.db.transaction import Connection
from aurora.features.replies import store
from aurora.features.replies.model import (
    KEEP_S,
    KEY,
    MAX_CALL_S,
    Answer,
    IdempotencyInFlight,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    Once,
    OutcomeUnknown,
)

FORGET_BATCH: Final = 10_000
MAX_FORGET_ROUNDS: Final = 1_000
IN_FLIGHT_RETRY_S: Final = 1
_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"aurora reply 1\0"


def once(
    *, caller: str, credential: bytes, key: bytes, method: str, path: str, query: bytes, body: bytes
) -> Once:
    """Return a call that is to be made once.

    Raises:
        IdempotencyKeyInvalid: The key is none.
    """
    if not KEY.fullmatch(key.decode("latin-1")):
        raise IdempotencyKeyInvalid
    asked = digest((method, path, query, body))
    return Once(caller=caller, credential=credential, key=key, request_digest=asked)


async def begin(conn: Connection, call: Once) -> Answer | None:
    """Claim a call's key and return None, or return what the call was answered before.

    The claim is committed before the call begins, and stays where the call does not come back: a
    call is refused rather than made twice.

    Raises:
        IdempotencyKeyReused: The key belongs to another request.
        IdempotencyInFlight: The first call is under way.
        OutcomeUnknown: The first call's answer was lost, or cannot be opened by this caller.
    """
    name = _name(call)
    await store.delete_expired(conn, call.caller, name, KEEP_S)
    if await store.insert(conn, call.caller, name, call.request_digest):
        return None
    known = await store.get(conn, call.caller, name)
    if known.request_digest != call.request_digest:
        raise IdempotencyKeyReused
    if known.sealed is not None:
        return _open(call, known.sealed)
    if known.age_s < MAX_CALL_S:
        raise IdempotencyInFlight(retry_after_s=IN_FLIGHT_RETRY_S)
    raise OutcomeUnknown


async def keep(conn: Connection, call: Once, answer: Answer) -> None:
    """Keep what the call was answered."""
    sealed = _seal(call, answer)
    await store.update_sealed(conn, call.caller, _name(call), call.request_digest, sealed)


async def give_back(conn: Connection, call: Once) -> None:
    """Forget a call that had no effect, so that it may be made again."""
    await store.delete(conn, call.caller, _name(call), call.request_digest)


async def forget(conn: Connection) -> int:
    """Forget a bounded number of answers that are older than a day; return how many."""
    return await store.delete_all_expired(conn, KEEP_S, FORGET_BATCH)


def _name(call: Once) -> bytes:
    return hashlib.sha256(call.key).digest()


def _cipher(call: Once) -> AESGCM:
    # The credential has 154 random bits and stands in no table, so that the answer of a call with
    # a key as plain as "order-1" cannot be opened by whoever reads the table either.
    return AESGCM(hmac.digest(call.credential, _PURPOSE + call.key, "sha256"))


def _seal(call: Once, answer: Answer) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    plain = msgspec.msgpack.encode(answer)
    return nonce + _cipher(call).encrypt(nonce, plain, call.request_digest)


def _open(call: Once, sealed: bytes) -> Answer:
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        plain = _cipher(call).decrypt(nonce, rest, call.request_digest)
    except InvalidTag:
        # The same caller with another credential: a new session, a new access token.
        raise OutcomeUnknown from None
    return msgspec.msgpack.decode(plain, type=Answer)
