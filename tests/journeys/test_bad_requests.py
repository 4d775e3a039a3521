"""Requests that are wrong before anybody looks at their body: identity, method, headers, fuzz."""

from __future__ import annotations

import json
import string
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.builders import an_event
from tests.journeys.conftest import Aurora, Customer, problem_of, sign_up

from aurora.core.secrets import generate_api_key

ADDRESSES = ("/v1/organizations", "/v1/usage/events", "/v1/keys/verify", "/healthz", "/")
RESPONSE_TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
async def customer(server: Aurora) -> Customer:
    return await sign_up(server)


@pytest.fixture(scope="module")
async def operator(server: Aurora) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_wrong_method_is_a_405_that_names_the_right_ones(
    method: str, address: str, operator: httpx.AsyncClient
) -> None:
    response = await operator.request(method, address)
    assert problem_of(response)["code"] == "method_not_allowed"
    assert response.status_code == 405
    assert response.headers["allow"]
    assert method not in response.headers["allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer x"},
        {"authorization": "Basic eDp5"},
        {"authorization": b"Bearer \xff\xfe"},
        {"authorization": "Bearer " + "x" * 10_000},
        {"authorization": "Bearer " + generate_api_key("production").key},
        {"x-api-key": generate_api_key("test").key},
        {"x-api-key": "tro_live_" + "a" * 32},
        {"x-api-key": "'; select 1; --"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/usage/events", "/v1/organizations"])
async def test_wrong_credentials_are_a_401(path: str, headers: Any, server: Aurora) -> None:
    async with server.client("") as nobody:
        response = await nobody.post(path, json=[an_event()], headers=headers)
    problem_of(response)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("size", [70_000, 500_000])
@pytest.mark.parametrize("path", ["/v1/usage/events", "/v1/plans", "/healthz"])
async def test_huge_headers_are_a_431(path: str, size: int, operator: httpx.AsyncClient) -> None:
    response = await operator.request(
        "POST" if "events" in path else "GET", path, headers={"x-trace": "x" * size}
    )
    assert problem_of(response)["code"] == "headers_too_large"
    assert response.status_code == 431


async def test_a_request_id_of_ours_answers_one_that_could_break_a_log(
    operator: httpx.AsyncClient,
) -> None:
    wanted = await operator.get("/v1/nothing", headers={"x-request-id": "trace-17"})
    assert problem_of(wanted)["request_id"] == "trace-17"
    for odd in ("a b", "x" * 101, '"}', "\N{LATIN SMALL LETTER O WITH STROKE}"):
        found = await operator.get("/v1/nothing", headers={b"x-request-id": odd.encode("latin-1")})
        assert problem_of(found)["request_id"].startswith("req_")


async def test_a_key_reads_only_its_own_organization(server: Aurora, customer: Customer) -> None:
    other = await sign_up(server)
    async with server.client(other.key) as stranger:
        for path in (
            f"/v1/organizations/{customer.id}",
            f"/v1/organizations/{customer.id}/subscription",
            f"/v1/usage/summary?organization_id={customer.id}",
            f"/v1/invoices?organization_id={customer.id}",
            f"/v1/quota?organization_id={customer.id}",
            f"/v1/organizations/{customer.id}/users",
            f"/v1/organizations/{customer.id}/keys",
        ):
            response = await stranger.get(path)
            assert problem_of(response)["status"] == 404
        for path in (
            f"/v1/notifications?organization_id={customer.id}",
            "/v1/organizations",
        ):
            assert problem_of(await stranger.get(path))["code"] == "operator_only"
        mine = an_event(api_key_id=customer.key_id)
        receipt = (await stranger.post("/v1/usage/events", json=[mine])).json()
        assert receipt["accepted"] == 0
        assert receipt["rejected"][0]["code"] == "api_key_unknown"


async def test_what_needs_a_scope_is_refused_without_it(server: Aurora) -> None:
    reader = await sign_up(server, scopes=["aurora:read"])
    async with server.client(reader.key) as client:
        for path in ("/v1/usage/summary", "/v1/invoices", "/v1/quota"):
            response = await client.get(path)
            assert problem_of(response)["code"] == "scope_missing"


# What the strategies below make is sent as it is: strict JSON, nearly JSON, and anything at all.
TEXTS = st.text(max_size=30) | st.sampled_from(["", "\0", "NaN", "é" * 300, "'; drop table x; --"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*an_event(), "api_key_id", "organization_id", "source", "metadata"])
EVENTS = st.dictionaries(FIELDS, VALUES, max_size=4).map(lambda odd: an_event() | odd)
PIECES = st.sampled_from(
    [
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b",",
        b":",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"1e999",
        b"-",
        b" ",
    ]
)
EVENT_BODIES = (
    st.lists(EVENTS | VALUES, max_size=4).map(lambda batch: json.dumps(batch).encode())
    | st.builds(lambda batch: json.dumps({"events": batch}).encode(), VALUES)
    | st.lists(PIECES | st.binary(max_size=6), max_size=20).map(b"".join)
    | st.binary(max_size=60)
)
VERIFY_FIELDS = st.sampled_from(["key", "origin", "ip", "scope", "endpoint", "other"])
KEY_LIKE = st.text(string.ascii_letters + string.digits, min_size=32, max_size=32).map(
    lambda body: "tro_live_" + body
)
FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(body=EVENT_BODIES)
def test_no_body_of_events_is_a_500_or_a_hang(
    body: bytes, server: Aurora, customer: Customer, connection_of: dict[str, httpx.Client]
) -> None:
    client = connection_of["one"]
    response = client.post("/v1/usage/events", content=body, headers=bearer(customer.key))
    if response.status_code != 200:
        problem_of(response)
        return
    receipt = response.json()
    indices = [each["index"] for each in receipt["rejected"]]
    assert indices == sorted(set(indices))
    assert receipt["accepted"] >= 0


@FUZZ
@given(fields=st.dictionaries(VERIFY_FIELDS, VALUES | KEY_LIKE, max_size=4), is_real=st.booleans())
def test_no_question_to_the_gate_is_a_500_or_a_hang(
    fields: dict[str, Any],
    is_real: bool,
    customer: Customer,
    connection_of: dict[str, httpx.Client],
) -> None:
    asked = fields | ({"key": customer.key} if is_real else {})
    response = connection_of["one"].post("/v1/keys/verify", content=json.dumps(asked))
    if response.status_code != 200:
        problem_of(response)
        return
    verdict = response.json()
    assert verdict["valid"] is (verdict["code"] == "VALID")
    assert verdict["valid"] is False or is_real


@pytest.fixture(scope="module")
def connection_of(server: Aurora) -> Any:
    """One connection for all examples of a fuzz: what one of them breaks, the next one meets."""
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(base_url=server.address, timeout=RESPONSE_TIMEOUT_S, limits=limits) as client:
        yield {"one": client}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
