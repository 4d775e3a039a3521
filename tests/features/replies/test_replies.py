"""Answers of repeated calls: sealed for their caller, claimed by one, forgotten after a day."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora.core.secrets import generate_service_token
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.replies import service
from aurora.features.replies.jobs import forget_replies
from aurora.features.replies.model import (
    KEEP_S,
    MAX_CALL_S,
    Answer,
    IdempotencyInFlight,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    Once,
    OutcomeUnknown,
)

ANSWER = Answer(201, [(b"content-type", b"application/json")], b'{"key":"tro_test_SECRET"}')


def a_call(key: bytes = b"order-1", body: bytes = b"{}", credential: bytes = b"") -> Once:
    return service.once(
        caller="operator",
        credential=credential or generate_service_token().encode(),
        key=key,
        method="POST",
        path="/v1/x",
        query=b"",
        body=body,
    )


async def age(conn: Connection, seconds: float) -> None:
    # As the platform has no right to change the moment, the row is made anew.
    await conn.execute(
        "with old as (delete from replies returning *) insert into replies"
        " select caller, key_digest, request_digest, begun_at - make_interval(secs => %s), sealed"
        " from old",
        (seconds,),
    )


async def test_the_first_claims_and_the_next_hears_the_answer(pool: Pool) -> None:
    call = a_call()
    async with transaction(pool, PLATFORM) as conn:
        assert await service.begin(conn, call) is None
        with pytest.raises(IdempotencyInFlight):
            await service.begin(conn, call)
        await service.keep(conn, call, ANSWER)
        assert await service.begin(conn, call) == ANSWER


async def test_the_table_holds_nothing_that_opens_an_answer(pool: Pool) -> None:
    call = a_call()
    async with transaction(pool, PLATFORM) as conn:
        await service.begin(conn, call)
        await service.keep(conn, call, ANSWER)
        row = await (await conn.execute("select * from replies")).fetchone()
    assert row is not None
    stored = b"".join(bytes(each) for each in row if isinstance(each, bytes | memoryview))
    for secret in (b"SECRET", call.key, call.credential):
        assert secret not in stored
    # The wrong version, sealed with the Idempotency-Key alone, opens for whoever guesses that.
    assert service._open(call, service._seal(call, ANSWER)) == ANSWER
    thief = replace(call, credential=b"guessed")
    with pytest.raises(OutcomeUnknown):
        service._open(thief, service._seal(call, ANSWER))
    guessable = replace(call, credential=b"")
    assert service._open(guessable, service._seal(replace(guessable), ANSWER)) == ANSWER


async def test_a_sealed_answer_fits_no_other_request(pool: Pool) -> None:
    call = a_call()
    other = replace(call, request_digest=a_call(body=b"[]").request_digest)
    with pytest.raises(OutcomeUnknown):
        service._open(other, service._seal(call, ANSWER))


async def test_another_request_under_the_key_is_a_mistake(pool: Pool) -> None:
    call = a_call()
    async with transaction(pool, PLATFORM) as conn:
        await service.begin(conn, call)
        other = replace(call, request_digest=a_call(body=b"[]").request_digest)
        with pytest.raises(IdempotencyKeyReused):
            await service.begin(conn, other)


async def test_what_had_no_effect_is_given_back_and_an_answer_never_is(pool: Pool) -> None:
    call = a_call()
    async with transaction(pool, PLATFORM) as conn:
        await service.begin(conn, call)
        await service.give_back(conn, call)
        assert await service.begin(conn, call) is None
        await service.keep(conn, call, ANSWER)
        await service.give_back(conn, call)
        assert await service.begin(conn, call) == ANSWER


async def test_a_claim_without_an_end_is_never_taken_over(pool: Pool) -> None:
    call = a_call()
    async with transaction(pool, PLATFORM) as conn:
        await service.begin(conn, call)
        await age(conn, MAX_CALL_S + 1)
        with pytest.raises(OutcomeUnknown):
            await service.begin(conn, call)
        await age(conn, KEEP_S)
        assert await service.begin(conn, call) is None


async def test_the_worker_forgets_after_a_day(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        await service.begin(conn, a_call(b"old"))
        await age(conn, KEEP_S + 1)
        await service.begin(conn, a_call(b"young"))
    assert await forget_replies(pool) == 1
    assert await forget_replies(pool) == 0


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, b"\xe9", b"a\n"])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        a_call(key)


def test_no_secret_is_in_a_repr() -> None:
    assert "order-1" not in repr(a_call())
    assert "aur_svc" not in repr(a_call())
