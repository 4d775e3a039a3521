"""Calls with an Idempotency-Key over HTTP: one effect, one answer, and no secret in the table."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import psycopg
import pytest
from tests.builders import a_slug
from tests.journeys.conftest import Aurora, problem_of, sign_up

from aurora.features.replies.model import KEEP_S, MAX_CALL_S

PATH = "/v1/organizations"


def a_hotel() -> dict[str, Any]:
    return {"name": "Once AS", "slug": a_slug(), "email": "post@once.example"}


def keyed(key: str | None = None) -> dict[str, str]:
    return {"idempotency-key": key or uuid.uuid4().hex}


async def execute(aurora: Aurora, statement: str, *values: Any) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(aurora.owner_dsn) as owner:
        done = await owner.execute(statement, values)
        return await done.fetchall() if done.description else []


async def test_the_same_call_has_one_effect_and_the_same_answer(server: Aurora) -> None:
    hotel, header = a_hotel(), keyed()
    async with server.client() as operator:
        first = await operator.post(PATH, json=hotel, headers=header)
        again = await operator.post(PATH, json=hotel, headers=header)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["cache-control"] == "no-store"
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        # Without the key it is another call, and finds the slug taken.
        assert problem_of(await operator.post(PATH, json=hotel))["code"] == "slug_taken"


async def test_a_refusal_is_the_same_again_too(server: Aurora) -> None:
    hotel, header = a_hotel() | {"country": "Norway"}, keyed()
    async with server.client() as operator:
        first = await operator.post(PATH, json=hotel, headers=header)
        again = await operator.post(PATH, json=hotel, headers=header)
    assert problem_of(first)["status"] == 422
    assert again.content == first.content


async def test_another_request_under_the_same_key_is_refused(server: Aurora) -> None:
    header = keyed()
    async with server.client() as operator:
        assert (await operator.post(PATH, json=a_hotel(), headers=header)).status_code == 201
        other = problem_of(await operator.post(PATH, json=a_hotel(), headers=header))
    assert (other["status"], other["code"]) == (422, "idempotency_key_reused")


async def test_callers_do_not_meet_in_a_key(server: Aurora) -> None:
    header = keyed()
    token = server.json("token", "create", "--name", "other", "--scope", "operator")["token"]
    async with server.client() as one, server.client(token) as other:
        made = await one.post(PATH, json=a_hotel(), headers=header)
        assert (await other.post(PATH, json=a_hotel(), headers=header)).status_code == 201
        assert made.status_code == 201


async def test_at_the_same_time_it_is_made_once(server: Aurora) -> None:
    hotel, header = a_hotel(), keyed()
    async with server.client() as operator:

        async def once() -> httpx.Response:
            return await operator.post(PATH, json=hotel, headers=header)

        answers = await asyncio.gather(*[once() for _ in range(12)])
    codes = {answer.status_code for answer in answers}
    assert codes <= {201, 409}
    assert len({a.content for a in answers if a.status_code == 201}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency_in_flight"
            assert answer.headers["retry-after"] == "1"


async def test_a_made_key_is_told_again_and_stands_in_no_row(server: Aurora) -> None:
    customer = await sign_up(server)
    header = keyed("order-1")
    path = f"{PATH}/{customer.id}/keys"
    async with server.client() as operator:
        first = await operator.post(path, json={"name": "Web"}, headers=header)
        again = await operator.post(path, json={"name": "Web"}, headers=header)
        assert again.json()["key"] == first.json()["key"]
        assert len((await operator.get(path)).json()["items"]) == 2
    rows = await execute(server, "select caller, sealed from replies where sealed is not null")
    stored = b"".join(bytes(sealed) for _, sealed in rows)
    assert rows
    for secret in (first.json()["key"], server.token, "order-1", first.json()["key"][9:30]):
        assert secret.encode() not in stored


async def test_a_call_whose_end_is_lost_is_not_made_again(server: Aurora) -> None:
    hotel, header = a_hotel(), keyed()
    async with server.client() as operator:
        await operator.post(PATH, json=hotel, headers=header)
        # As a process leaves it that was killed between the effect and the answer.
        unsealed = "update replies set sealed = null, begun_at = begun_at - %s * interval '1 s'"
        await execute(server, unsealed, 0)
        under_way = problem_of(await operator.post(PATH, json=hotel, headers=header))
        assert under_way["code"] == "idempotency_in_flight"
        await execute(server, unsealed, MAX_CALL_S + 1)
        lost = problem_of(await operator.post(PATH, json=hotel, headers=header))
        assert (lost["status"], lost["code"]) == (409, "idempotency_outcome_unknown")


async def test_a_key_is_free_again_after_a_day(server: Aurora) -> None:
    header = keyed()
    async with server.client() as operator:
        await operator.post(PATH, json=a_hotel(), headers=header)
        old = "update replies set begun_at = begun_at - %s * interval '1 s'"
        await execute(server, old, KEEP_S + 1)
        assert (await operator.post(PATH, json=a_hotel(), headers=header)).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
async def test_what_is_no_key_is_refused(server: Aurora, key: str) -> None:
    async with server.client() as operator:
        refused = await operator.post(
            PATH, json=a_hotel(), headers={b"idempotency-key": key.encode()}
        )
    assert problem_of(refused)["code"] == "idempotency_key_invalid"
