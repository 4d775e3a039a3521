"""The ASGI middleware between a customer's application and a running Aurora."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import http_sf
import pytest
from tests.journeys.behind_the_gate import (
    PATIENCE_S,
    Network,
    all_of,
    behind,
    hello,
    ids_in,
    until,
    waiting_in,
)
from tests.journeys.conftest import Aurora, Customer, sign_up

from aurora.client import AsyncAurora
from aurora.core import clock
from aurora.core.secrets import generate_api_key


@pytest.fixture
async def customer(server: Aurora) -> Customer:
    return await sign_up(server)


def bearing(key: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **headers}


async def usage(server: Aurora, customer: Customer, group_by: str = "endpoint") -> dict[str, int]:
    """What Aurora counted, by group."""
    async with AsyncAurora(server.address, server.token) as aurora:
        found = await aurora.usage.summary(customer.id, group_by=group_by)
    return {str(each.group): each.requests for each in found.items}


async def counted(server: Aurora, customer: Customer, expected: dict[str, int]) -> None:
    """Wait until Aurora counted that; it may take a few calls."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := await usage(server, customer)) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def test_a_request_passes_and_is_counted_once(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async with behind(server.address, server.token, tmp_path) as (client, _):
        answer = await client.get("/rooms", headers=bearing(customer.key))
        assert (answer.status_code, answer.text) == (200, customer.id)
        other = await client.get("/missing", headers={"x-api-key": customer.key})
        assert other.status_code == 404
    assert await usage(server, customer) == {"/rooms": 1, "/missing": 1}
    assert waiting_in(tmp_path) == 0


async def test_what_passes_bears_its_limits(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async with behind(server.address, server.token, tmp_path) as (client, _):
        answer = await client.get("/", headers=bearing(customer.key))
    state_list: Any = http_sf.parse(answer.headers["ratelimit"].encode(), tltype="list")
    policy_list: Any = http_sf.parse(answer.headers["ratelimit-policy"].encode(), tltype="list")
    (name, state), (same, policy) = state_list[0], policy_list[0]
    assert name == same == "hourly"
    assert policy["w"] == 3600
    assert 0 <= state["r"] < policy["q"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "key_missing"),
        ({"authorization": "Basic dTpw"}, 401, "key_missing"),
        ({"x-api-key": "nonsense"}, 401, "malformed"),
        ({"x-api-key": "x" * 5_000}, 401, "malformed"),
        (bearing(generate_api_key("test").key), 401, "not_found"),
    ],
)
async def test_a_refusal_is_a_problem_and_not_counted(
    server: Aurora, tmp_path: Path, headers: dict[str, str], status: int, code: str
) -> None:
    async with behind(server.address, server.token, tmp_path) as (client, middleware):
        answer = await client.get("/rooms", headers=headers)
        assert middleware.meter._writer is None
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["instance"] == "/rooms"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_scope_origin_and_address_are_asked(server: Aurora, tmp_path: Path) -> None:
    customer = await sign_up(server, ip_whitelist=["203.0.113.0/24"])
    settings: dict[str, Any] = {
        "scope": lambda path, _method: "billing:write" if path == "/money" else "aurora:read",
        "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"],
    }
    async with behind(server.address, server.token, tmp_path, **settings) as (client, _):

        async def get(path: str, forwarded: str) -> tuple[int, str]:
            headers = bearing(customer.key, **{"x-forwarded-for": forwarded})
            answer = await client.get(path, headers=headers)
            return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]

        assert await get("/", "203.0.113.9") == (200, "")
        assert await get("/", "203.0.113.9, 10.1.1.1") == (200, "")
        # What stands left of the first stranger is the stranger's own word.
        assert await get("/", "203.0.113.9, 198.51.100.1, 10.1.1.1") == (403, "ip_denied")
        assert await get("/", "198.51.100.1") == (403, "ip_denied")
        assert await get("/money", "203.0.113.9") == (403, "scope_missing")


async def test_without_declared_proxies_no_header_is_an_address(
    server: Aurora, tmp_path: Path
) -> None:
    customer = await sign_up(server, ip_whitelist=["203.0.113.0/24"])
    async with behind(server.address, server.token, tmp_path) as (client, _):
        headers = bearing(customer.key, **{"x-forwarded-for": "203.0.113.9"})
        assert (await client.get("/", headers=headers)).json()["code"] == "ip_denied"


async def test_exempt_paths_ask_nothing(server: Aurora, tmp_path: Path) -> None:
    async with behind(server.address, server.token, tmp_path, exempt=["/healthz"]) as (client, _):
        assert (await client.get("/healthz")).text == "nobody"
        assert (await client.get("/health")).status_code == 401


@pytest.mark.parametrize("durability", ["after_response", "before_response"])
async def test_every_way_to_answer_is_counted_with_its_status(
    server: Aurora, customer: Customer, tmp_path: Path, durability: str
) -> None:
    with_key = bearing(customer.key)
    settings: dict[str, Any] = {"durability": durability}
    async with behind(server.address, server.token, tmp_path, **settings) as (client, _):
        for path in ("/streams", "/sized", "/widget", "/raises"):
            answer = await client.get(path, headers=with_key)
            assert answer.status_code == (500 if path == "/raises" else 200)
        await client.head("/head", headers=with_key)
    assert await usage(server, customer) == {
        "/streams": 1,
        "/sized": 1,
        "/widget": 1,
        "/raises": 1,
        "/head": 1,
    }
    async with AsyncAurora(server.address, server.token) as aurora:
        totals = (await aurora.usage.summary(customer.id)).totals
    assert (totals.failed, totals.widget_impressions, totals.billable_impressions) == (1, 1, 1)


async def test_a_client_that_leaves_is_counted_as_such(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async def leaves(_message: Any) -> None:
        raise OSError("gone")

    async with behind(server.address, server.token, tmp_path) as (_, middleware):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/left",
            "client": ("192.0.2.1", 1),
            "headers": [(b"x-api-key", customer.key.encode())],
        }
        with pytest.raises(OSError, match="gone"):
            await middleware(scope, None, leaves)  # type: ignore[arg-type]
    assert await usage(server, customer) == {"/left": 1}


async def test_websockets_and_lifespan_go_through(tmp_path: Path, server: Aurora) -> None:
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    async with behind(server.address, server.token, tmp_path, app) as (_, middleware):
        for kind in ("websocket", "lifespan"):
            await middleware({"type": kind, "path": "/"}, None, None)  # type: ignore[arg-type]
    assert seen == ["websocket", "lifespan"]


async def test_the_end_of_the_application_sends_what_is_left(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await hello(scope, receive, send)

    told: list[int] = []

    async def tell(_message: Any) -> None:
        told.append(waiting_in(tmp_path))

    async with behind(server.address, server.token, tmp_path, app) as (client, middleware):
        await client.get("/last", headers=bearing(customer.key))
        await middleware({"type": "lifespan"}, None, tell)  # type: ignore[arg-type]
    assert told == [0]
    assert await usage(server, customer) == {"/last": 1}


async def test_concurrent_questions_go_in_few_calls(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async with (
        Network(server.address) as network,
        behind(network.url, server.token, tmp_path) as (client, _),
    ):
        answers = await asyncio.gather(
            *[client.get("/many", headers=bearing(customer.key)) for _ in range(200)]
        )
        asked = network.calls
    assert {answer.status_code for answer in answers} == {200}
    assert asked < 40
    assert await usage(server, customer) == {"/many": 200}


async def test_while_aurora_is_away_nothing_passes_unless_that_was_chosen(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    stranger = await sign_up(server)
    for when_away, expected in (("refuse", 503), ("pass", 200)):
        folder = tmp_path / when_away
        folder.mkdir()
        settings: dict[str, Any] = {"when_away": when_away, "scope": "aurora:read"}
        async with (
            Network(server.address) as network,
            behind(network.url, server.token, folder, **settings) as (client, _),
        ):
            path = f"/{when_away}"
            assert (await client.get(path, headers=bearing(customer.key))).status_code == 200
            network.mode = "down"
            away = await client.get(path, headers=bearing(customer.key))
            assert away.status_code == expected
            # A key never seen to be good is not let in on trust, and its usage would be nobody's.
            unseen = await client.get(path, headers=bearing(stranger.key))
            assert (unseen.status_code, unseen.json()["code"]) == (503, "unavailable")
            assert unseen.headers["retry-after"] == "1"
            network.mode = "passes"
        assert waiting_in(folder) == 0
    assert await usage(server, customer) == {"/refuse": 1, "/pass": 2}
    assert await usage(server, stranger) == {}


async def test_a_revoked_key_stays_out_while_aurora_is_away(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"when_away": "pass"}
    async with (
        Network(server.address) as network,
        behind(network.url, server.token, tmp_path, **settings) as (client, _),
    ):
        with_key = bearing(customer.key)
        assert (await client.get("/", headers=with_key)).status_code == 200
        async with server.client() as operator:
            path = f"/v1/organizations/{customer.id}/keys/{customer.key_id}/revoke"
            assert (await operator.post(path)).status_code == 200
        assert (await client.get("/", headers=with_key)).status_code == 401
        network.mode = "down"
        assert (await client.get("/", headers=with_key)).status_code == 503


@pytest.mark.parametrize("mode", ["down", "loses"])
async def test_usage_waits_for_aurora_and_counts_once(
    server: Aurora, customer: Customer, tmp_path: Path, mode: str
) -> None:
    async with (
        Network(server.address) as network,
        behind(network.url, server.token, tmp_path, when_away="pass") as (client, middleware),
    ):
        assert (await client.get("/a", headers=bearing(customer.key))).status_code == 200
        await counted(server, customer, {"/a": 1})
        await until(lambda: middleware.meter.spool.waiting == 0)
        network.mode = mode
        for _ in range(5):
            await client.get("/a", headers=bearing(customer.key))
        await until(lambda: middleware.meter.spool.waiting == 5)
        ids = ids_in(tmp_path)
        assert len(set(ids)) == 5
        if mode == "loses":
            # Aurora has them all; what it answered, nobody heard.
            await counted(server, customer, {"/a": 6})
            assert ids_in(tmp_path) == ids
        network.mode = "passes"
        await until(lambda: middleware.meter.spool.waiting == 0)
        assert middleware.meter.spool.dead() == []
    assert await usage(server, customer) == {"/a": 6}


async def test_a_proxys_request_id_counts_once_and_only_its_own_keys(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    other = await sign_up(server)
    settings: dict[str, Any] = {"request_id_header": "X-Request-Id"}
    async with behind(server.address, server.token, tmp_path, **settings) as (client, _):
        for key in (customer.key, customer.key, other.key):
            headers = bearing(key, **{"x-request-id": "one"})
            assert (await client.get("/once", headers=headers)).status_code == 200
    assert await usage(server, customer) == {"/once": 1}
    assert await usage(server, other) == {"/once": 1}


async def test_the_moment_is_that_of_the_request(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    yesterday = clock.now() - timedelta(days=1)
    async with behind(server.address, server.token, tmp_path) as (client, _):
        with clock.freeze(yesterday):
            await client.get("/", headers=bearing(customer.key))
    assert await usage(server, customer, "day") == {str(yesterday.date()): 1}


async def test_what_aurora_will_not_take_is_kept_to_be_read(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/odd":
            scope["aurora"].note(country_code="Norway")
        await hello(scope, receive, send)

    async with behind(server.address, server.token, tmp_path, app) as (client, middleware):
        for path in ("/odd", "/new"):
            await client.get(path, headers=bearing(customer.key))
        await counted(server, customer, {"/new": 1})
        await until(lambda: len(middleware.meter.spool.dead()) == 1)
        (dead,) = middleware.meter.spool.dead()
    assert (dead.code, b"/odd" in dead.event) == ("event_invalid", True)


async def test_no_key_is_in_the_spool(server: Aurora, customer: Customer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"when_away": "pass"}
    async with (
        Network(server.address) as network,
        behind(network.url, server.token, tmp_path, close_timeout_s=0.2, **settings) as (client, _),
    ):
        await client.get("/", headers=bearing(customer.key))
        network.mode = "down"
        await client.get("/", headers=bearing(customer.key))
    files = all_of(tmp_path)
    assert customer.key_id.encode() in files
    assert customer.key[9:].encode() not in files
    assert server.token.encode() not in files
