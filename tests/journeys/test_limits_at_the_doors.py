"""Limits and quotas as a customer meets them, over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import http_sf
import httpx
import psycopg
from tests.builders import a_slug, events
from tests.journeys.conftest import Aurora, Customer, sign_up

PATIENCE_S = 10.0
"""On a busy machine; tests/features/limits asks a played clock that it is less than a second."""


def field(answer: httpx.Response, name: str) -> Any:
    """Return a header field as a parser of structured fields reads it that is not ours."""
    found: Any = http_sf.parse(answer.headers[name].encode(), tltype="list")
    return list(found)


async def verify(server: Aurora, key: str, **more: str) -> dict[str, Any]:
    async with server.client("") as anybody:
        answer = await anybody.post("/v1/keys/verify", json={"key": key, **more})
    found: dict[str, Any] = answer.json()
    return found


async def a_hard_plan(server: Aurora, included: int) -> Customer:
    """Return a customer whose plan stops after so many impressions."""
    customer = await sign_up(server, scopes=["aurora:read", "widgets:embed"])
    async with server.client() as operator:
        path = f"/v1/organizations/{customer.id}"
        started = await operator.post(f"{path}/subscription", json={"plan": "basic"})
        assert started.status_code == 201, started.text
        person = {"email": f"{a_slug()}@hotel.example", "name": "Kari", "role": "owner"}
        assert (await operator.post(f"{path}/users", json=person)).status_code == 201
    with psycopg.connect(server.owner_dsn) as owner:
        owner.execute(
            "update subscriptions set included_impressions = %s, quota_mode = 'hard'"
            " where organization_id = %s",
            (included, customer.id),
        )
    return customer


async def test_every_answer_to_a_key_tells_its_limit_and_the_last_one_when_to_come_again(
    server: Aurora,
) -> None:
    customer = await sign_up(server, rate_limit_per_hour=3)
    async with server.client(customer.key) as client:
        answers = [await client.get("/v1/plans") for _ in range(2)]
        answers.append(await client.get("/v1/nothing-here"))
        refused = await client.get("/v1/plans")
        # What was used is taken down whatever is left.
        recorded = await client.post("/v1/usage/events", json=events(2))
    assert [each.status_code for each in answers] == [200, 200, 404]
    for left, answer in zip((2, 1, 0), answers, strict=True):
        assert field(answer, "ratelimit-policy") == [("hourly", {"q": 3, "w": 3600})]
        ((name, state),) = field(answer, "ratelimit")
        assert (name, state["r"]) == ("hourly", left)
        assert 3_600 <= state["t"] <= 3_617
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 3_600 <= int(refused.headers["retry-after"]) <= 3_617
    assert field(refused, "ratelimit")[0][1]["r"] == 0
    assert recorded.status_code == 200, recorded.text
    verdict = await verify(server, customer.key)
    assert (verdict["valid"], verdict["code"]) == (False, "RATE_LIMITED")
    assert verdict["limits"]["retry_after_s"] >= 3_600


async def test_a_hard_quota_stops_the_interface_and_no_widget(
    server: Aurora,
) -> None:
    customer = await a_hard_plan(server, 20)
    async with server.client(customer.key) as client:
        assert (await client.get("/v1/plans")).status_code == 200
        assert (await client.post("/v1/usage/events", json=events(20))).status_code == 200
        committed_s = time.monotonic()
        refused = await client.get("/v1/plans")
        while refused.status_code == 200:
            assert time.monotonic() - committed_s <= PATIENCE_S
            await asyncio.sleep(0.05)
            refused = await client.get("/v1/plans")
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert (await verify(server, customer.key))["code"] == "QUOTA_EXCEEDED"
    widget = await verify(server, customer.key, scope="widgets:embed")
    assert widget["code"] == "VALID"
    assert (widget["limits"]["quota_used"], widget["limits"]["quota_included"]) == (20, 20)


async def test_people_are_told_of_what_was_recorded(server: Aurora) -> None:
    customer = await a_hard_plan(server, 10)
    async with server.client(customer.key) as client:
        assert (await client.post("/v1/usage/events", json=events(10))).status_code == 200
    committed_s = time.monotonic()
    with psycopg.connect(server.owner_dsn, autocommit=True) as owner:
        told: list[tuple[Any, ...]] = []
        while len(told) < 2:
            assert time.monotonic() - committed_s <= PATIENCE_S
            await asyncio.sleep(0.05)
            told = owner.execute(
                "select title from notifications where organization_id = %s", (customer.id,)
            ).fetchall()
    assert {title.split()[0] for (title,) in told} == {"80", "100"}


async def test_a_burst_is_told_as_a_second_policy(server: Aurora) -> None:
    customer = await sign_up(server, burst_per_second=20, rate_limit_per_hour=1_000)
    key = {"x-api-key": customer.key}
    policies = [("hourly", {"q": 1_000, "w": 3_600}), ("burst", {"q": 20, "w": 1})]
    async with server.client("") as anybody:
        for path in ("/v1/forward-auth", f"/v1/organizations/{customer.id}"):
            assert field(await anybody.get(path, headers=key), "ratelimit-policy") == policies
    limits = (await verify(server, customer.key))["limits"]
    assert (limits["limit"], limits["per_second"]) == (1_000, 20)
