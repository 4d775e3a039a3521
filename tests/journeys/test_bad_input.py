"""Whatever a client sends, it gets a 4xx that says what is wrong, and good events are kept."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from tests.builders import a_slug, an_event, events, moment
from tests.journeys.conftest import Aurora, Customer, problem_of, sign_up

from aurora.core import clock
from aurora.core.paging import encode_cursor

JSON = {"content-type": "application/json"}
TWENTY_MEGABYTES = 20 * 1024 * 1024
SOCKET_TIMEOUT_S = 15


@pytest.fixture(scope="module")
async def customer(server: Aurora) -> Customer:
    return await sign_up(server)


@pytest.fixture(scope="module")
async def operator(server: Aurora) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client


@pytest.fixture(scope="module")
async def sender(server: Aurora, customer: Customer) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(customer.key) as client:
        yield client


def with_raw(event: dict[str, Any], **raw: str) -> str:
    """An event as JSON text in which some members are written exactly so."""
    members = [json.dumps(name) + ":" + json.dumps(value) for name, value in event.items()]
    members += [f'"{name}":{text}' for name, text in raw.items()]
    return "{" + ",".join(members) + "}"


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in an_event().items() if name not in names}


def nested(levels: int, inside: str = "1") -> str:
    return '{"a":' + "[" * (levels - 1) + inside + "]" * (levels - 1) + "}"


BAD_EVENTS: dict[str, str] = {
    "NaN": with_raw(an_event(), metadata='{"a":NaN}'),
    "infinity": with_raw(an_event(), metadata='{"a":-Infinity}'),
    "a number that overflows": with_raw(an_event(), metadata='{"a":1e999}'),
    "U+0000 in a text": with_raw(without("endpoint"), endpoint='"/a\\u0000b"'),
    "U+0000 in the id": with_raw(without("id"), id='"a\\u0000b"'),
    "U+0000 as a member's name": with_raw(an_event(), metadata='{"\\u0000":1}'),
    "half a surrogate pair": with_raw(an_event(), origin='"\\ud800"'),
    "the other half": with_raw(without("id"), id='"\\udfff"'),
    "a number of 5,000 digits": with_raw(without("status_code"), status_code="9" * 5000),
    "such a number in metadata": with_raw(an_event(), metadata='{"a":' + "9" * 5000 + "}"),
    "metadata 33 levels deep": with_raw(an_event(), metadata=nested(33)),
    "metadata 700 levels deep": with_raw(an_event(), metadata=nested(700)),
    "U+0000 500 levels down": with_raw(an_event(), metadata=nested(500, '"\\u0000"')),
    "metadata of 20 KB": json.dumps(an_event(metadata={"a": "x" * 20_000})),
    "metadata that is a list": json.dumps(an_event(metadata=[])),
    "a text for a number": json.dumps(an_event(status_code="200")),
    "a number for a text": json.dumps(an_event(endpoint=7)),
    "a fraction of a status": json.dumps(an_event(status_code=200.5)),
    "status 99": json.dumps(an_event(status_code=99)),
    "a negative duration": json.dumps(an_event(response_time_ms=-1)),
    "no id": json.dumps(without("id")),
    "an empty id": json.dumps(an_event(id="")),
    "an id of 201 characters": json.dumps(an_event(id="x" * 201)),
    "an unknown member": json.dumps(an_event(price=1)),
    "an unknown widget": json.dumps(an_event(widget_type="clock")),
    "a method in small letters": json.dumps(an_event(method="get")),
    "a method with a newline": json.dumps(an_event(method="GET\n")),
    "a country of three letters": json.dumps(an_event(country_code="NOR")),
    "an address that is none": json.dumps(an_event(ip_address="300.1.1.1")),
    "an address with a zone": json.dumps(an_event(ip_address="fe80::1%eth0")),
    "a key that is no UUID": json.dumps(an_event(api_key_id="x")),
    "a key nobody has": json.dumps(an_event(api_key_id=str(uuid4()))),
    "another organization": json.dumps(an_event(organization_id=str(uuid4()))),
    "a moment without a zone": json.dumps(an_event(timestamp="2026-01-01T00:00:00")),
    "a day for a moment": json.dumps(an_event(timestamp="2026-01-01")),
    "the 30th of February": json.dumps(an_event(timestamp="2026-02-30T00:00:00Z")),
    "a moment as a number": json.dumps(an_event(timestamp=1)),
    "three years ago": json.dumps(an_event(timestamp=moment(clock.now() - timedelta(days=1_100)))),
    "in two months": json.dumps(an_event(timestamp=moment(clock.now() + timedelta(days=61)))),
    "before the calendar": json.dumps(an_event(timestamp="0001-01-01T00:00:00+14:00")),
    "after the calendar": json.dumps(an_event(timestamp="9999-12-31T23:59:59-14:00")),
    "null": "null",
    "a number": "7",
    "a list": "[]",
}


@pytest.mark.parametrize("name", BAD_EVENTS)
async def test_a_bad_event_is_named_and_the_good_ones_beside_it_are_kept(
    name: str, sender: httpx.AsyncClient
) -> None:
    before, after = events(2)
    good = [json.dumps(before), json.dumps(after)]
    body = f"[{good[0]},{BAD_EVENTS[name]},{good[1]}]"
    response = await sender.post("/v1/usage/events", content=body.encode(), headers=JSON)
    assert response.status_code == 200, response.text
    receipt = response.json()
    assert (receipt["accepted"], receipt["duplicates"], receipt["conflicts"]) == (2, 0, [])
    (rejection,) = receipt["rejected"]
    assert rejection["index"] == 1
    assert rejection["code"]
    assert rejection["detail"].endswith(".")
    again = await sender.post("/v1/usage/events", json=[before, after])
    assert again.json()["duplicates"] == 2, "the good events were not stored"


@pytest.mark.parametrize("late_by", [timedelta(days=36), timedelta(hours=-2)])
async def test_an_event_out_of_time_is_set_aside_and_the_good_ones_beside_it_are_kept(
    late_by: timedelta, sender: httpx.AsyncClient
) -> None:
    before, after = events(2)
    late = an_event(timestamp=moment(clock.now() - late_by))
    receipt = (await sender.post("/v1/usage/events", json=[before, late, after])).json()
    assert (receipt["accepted"], receipt["rejected"]) == (2, [])
    (aside,) = receipt["quarantined"]
    assert (aside["index"], aside["code"]) == (1, "timestamp_out_of_range")


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "white space": (b" \r\n", 400),
    "half a document": (b'[{"id":"a"', 400),
    "two documents": (b"[] []", 400),
    "plain text": (b"hello", 400),
    "null": (b"null", 400),
    "a text": (b'"x"', 400),
    "an object without events": (b"{}", 400),
    "an object with more": (b'{"events":[],"more":1}', 400),
    "bad UTF-8 around the events": (b'\xff[{"id":"a"}]', 400),
    "100,000 levels": (b"[" * 100_000, 400),
    "100,000 levels of objects": (b'{"events":' * 100_000, 400),
    "100,000 levels inside an event": (b'[{"metadata":' + b"[" * 100_000, 400),
    "10,001 events": (b"[" + b"{}," * 10_000 + b"{}]", 413),
    "20 MB": (b"[" + b" " * TWENTY_MEGABYTES + b"]", 413),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_is_no_batch_is_refused_whole(
    name: str, sender: httpx.AsyncClient
) -> None:
    body, status = BAD_BODIES[name]
    response = await sender.post("/v1/usage/events", content=body, headers=JSON)
    problem = problem_of(response)
    assert response.status_code == status
    assert problem["code"] in {"events_malformed", "too_many_events", "too_large"}


async def test_bad_utf8_in_one_event_costs_only_that_event(sender: httpx.AsyncClient) -> None:
    body = b"[" + json.dumps(an_event()).encode() + b',{"id":"\xff"}]'
    receipt = (await sender.post("/v1/usage/events", content=body)).json()
    assert receipt["accepted"] == 1
    assert [each["code"] for each in receipt["rejected"]] == ["event_malformed"]


def test_a_large_body_is_refused_before_all_of_it_was_sent(
    server: Aurora, customer: Customer
) -> None:
    where = urlsplit(server.address)
    assert where.hostname
    assert where.port
    head = (
        f"POST /v1/usage/events HTTP/1.1\r\nhost: {where.netloc}\r\n"
        f"authorization: Bearer {customer.key}\r\ncontent-length: {10 * TWENTY_MEGABYTES}\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port), SOCKET_TIMEOUT_S) as connection:
        connection.sendall(head.encode() + b"[" + b" " * TWENTY_MEGABYTES)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
@pytest.mark.parametrize("path", ["/v1/keys/verify", "/v1/organizations"])
async def test_a_compressed_body_is_a_415(
    coding: str, path: str, operator: httpx.AsyncClient
) -> None:
    response = await operator.post(
        path, content=gzip.compress(b"[]"), headers={"content-encoding": coding}
    )
    assert problem_of(response)["code"] == "encoding_unsupported"
    assert response.status_code == 415


ORGANIZATION = {"name": "Hotel", "email": "post@hotel.example"}

BAD_ORGANIZATIONS: dict[str, tuple[str, str]] = {
    "nothing": ("", "invalid"),
    "an array": ("[]", "invalid"),
    "NaN": ('{"name":NaN}', "malformed"),
    "U+0000": ('{"name":"a\\u0000"}', "malformed"),
    "half a surrogate pair": ('{"name":"\\ud800"}', "malformed"),
    "5,000 digits": ('{"settings":{"a":' + "9" * 5000 + "}}", "malformed"),
    "100,000 levels": ("[" * 100_000, "malformed"),
    "settings of 300 levels": ('{"settings":' + nested(300) + "}", "malformed"),
    "metadata of 950 levels": ('{"metadata":' + nested(950) + "}", "malformed"),
    "U+0000 400 levels down": ('{"settings":' + nested(400, '"\\u0000"') + "}", "malformed"),
    "1.5 MB": ('{"name":"' + "x" * 1_500_000 + '"}', "too_large"),
    "an unknown member": (json.dumps({**ORGANIZATION, "slug": "a", "x": 1}), "invalid"),
    "a number for a name": (json.dumps({**ORGANIZATION, "slug": "a", "name": 1}), "invalid"),
    "a blank name": (json.dumps({**ORGANIZATION, "slug": "a", "name": " "}), "name_invalid"),
    "no address": (json.dumps({**ORGANIZATION, "slug": "a", "email": "x"}), "email_invalid"),
    "a slug with a blank": (json.dumps({**ORGANIZATION, "slug": "a b"}), "slug_invalid"),
    "a country in words": (
        json.dumps({**ORGANIZATION, "slug": "a", "country": "Norge"}),
        "invalid",
    ),
    "a wrong check digit": (
        json.dumps({**ORGANIZATION, "slug": "a", "org_number": "987654321"}),
        "org_number_invalid",
    ),
}


@pytest.mark.parametrize("name", BAD_ORGANIZATIONS)
async def test_a_bad_organization_is_refused(name: str, operator: httpx.AsyncClient) -> None:
    body, code = BAD_ORGANIZATIONS[name]
    response = await operator.post("/v1/organizations", content=body.encode(), headers=JSON)
    assert problem_of(response)["code"] == code


async def test_metadata_is_free_64_levels_deep_and_settings_are_not(
    operator: httpx.AsyncClient,
) -> None:
    deep: dict[str, Any] = json.loads(nested(63))
    made = await operator.post(
        "/v1/organizations", json={**ORGANIZATION, "slug": a_slug(), "metadata": deep}
    )
    assert made.status_code == 201, made.text
    refused = await operator.post(
        "/v1/organizations", json={**ORGANIZATION, "slug": a_slug(), "settings": deep}
    )
    assert problem_of(refused)["errors"][0]["code"] == "extra_forbidden"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_a_wrong_content_type_is_refused(kind: str, operator: httpx.AsyncClient) -> None:
    body = json.dumps({**ORGANIZATION, "slug": a_slug()})
    response = await operator.post(
        "/v1/organizations", content=body, headers={"content-type": kind}
    )
    problem_of(response)


BAD_KEYS: dict[str, dict[str, Any]] = {
    "expiry_invalid": {"expires_at": "0001-01-01T00:00:00+14:00"},
    "expiry_invalid ": {"expires_at": "9999-12-31T23:59:59-14:00"},
    "scope_unknown": {"scopes": ["everything"]},
    "origin_invalid": {"allowed_origins": ["www.hotel.example"]},
    "ip_rule_invalid": {"ip_whitelist": ["10.0.0.0/99"]},
    "tier_unknown": {"rate_limit_tier": "gold"},
    "publishable_key_invalid": {"kind": "publishable"},
    "name_invalid": {"name": " "},
    "invalid": {"environment": "staging"},
    "invalid ": {"rate_limit_per_hour": 2**31},
    "invalid  ": {"expires_at": "2026-01-01T00:00:00"},
}


@pytest.mark.parametrize("code", BAD_KEYS)
async def test_a_bad_key_is_refused(
    code: str, operator: httpx.AsyncClient, customer: Customer
) -> None:
    path = f"/v1/organizations/{customer.id}/keys"
    response = await operator.post(path, json={"name": "Website"} | BAD_KEYS[code])
    assert problem_of(response)["code"] == code.strip()


BAD_SUBSCRIPTIONS: dict[str, dict[str, Any]] = {
    "plan_not_found": {"plan": "gold"},
    "start_out_of_range": {"plan": "basic", "at": "0001-01-01"},
    "start_out_of_range ": {"plan": "basic", "at": "9999-12-31"},
    "price_by_agreement": {"plan": "enterprise"},
    "invalid": {"plan": "basic", "at": "2026-02-30"},
    "invalid ": {"plan": "basic", "price_monthly": "NaN"},
    "invalid  ": {"plan": "basic", "price_monthly": "1e400"},
    "invalid   ": {"plan": "basic", "price_monthly": "1.001"},
    "invalid    ": {"plan": "basic", "included_impressions": 2**63},
}


@pytest.mark.parametrize("code", BAD_SUBSCRIPTIONS)
async def test_a_bad_subscription_is_refused(
    code: str, operator: httpx.AsyncClient, customer: Customer
) -> None:
    path = f"/v1/organizations/{customer.id}/subscription"
    response = await operator.post(path, json=BAD_SUBSCRIPTIONS[code])
    assert problem_of(response)["code"] == code.strip()


NOBODY = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
A_DAY = datetime(2026, 1, 1, tzinfo=UTC)
BAD_ADDRESSES: dict[str, int] = {
    "/v1/nothing": 404,
    "/%ff%fe": 404,
    "/v1/organizations/": 404,
    "/v1/organizations/%00": 400,
    "/v1/invoices/%00/pdf": 400,
    "/static/x/%00": 400,
    "/static/x/..%2f..%2fetc%2fpasswd": 404,
    "/v1/organizations/x": 422,
    "/v1/invoices/x": 422,
    f"/v1/invoices/{NOBODY}": 404,
    f"/v1/invoices/{NOBODY}/pdf": 404,
    f"/v1/invoices/{NOBODY}/ehf": 404,
    f"/v1/invoices/{NOBODY}/pdf?language=fr": 422,
    f"/v1/organizations/{NOBODY}": 404,
    f"/v1/organizations/{NOBODY}/users": 404,
    f"/v1/organizations/{NOBODY}/keys": 404,
    f"/v1/organizations/{NOBODY}/subscription": 404,
    f"/v1/notifications?organization_id={NOBODY}": 404,
    f"/v1/invoices?organization_id={NOBODY}": 404,
    f"/v1/quota?organization_id={NOBODY}": 404,
    f"/v1/usage/summary?organization_id={NOBODY}": 404,
    "/v1/usage/summary": 422,
    "/v1/usage/summary?organization_id=x": 422,
    "/v1/usage/summary?organization_id={own}&group_by=planet": 422,
    "/v1/usage/summary?organization_id={own}&from=2026-02-30": 422,
    "/v1/usage/summary?organization_id={own}&from=2026-02-02&to=2026-02-01": 422,
    "/v1/usage/summary?organization_id={own}&from=0001-01-01": 422,
    "/v1/usage/summary?organization_id={own}&to=99999-01-01": 422,
    "/v1/usage/summary?organization_id={own}&to=%00": 400,
    "/v1/invoices?limit=0": 422,
    "/v1/invoices?limit=201": 422,
    "/v1/invoices?limit=1e3": 422,
    "/v1/invoices?limit=" + "9" * 5000: 422,
    "/v1/invoices?cursor=%00": 400,
    "/v1/invoices?cursor=%ff": 422,
    "/v1/invoices?cursor=x": 422,
    "/v1/invoices?cursor=" + "x" * 601: 422,
    "/v1/invoices?cursor=" + encode_cursor("a", 1): 422,
    "/v1/invoices?cursor=" + encode_cursor(A_DAY, UUID(NOBODY))[:-3] + "AAA": 422,
    "/v1/organizations?cursor=" + encode_cursor(A_DAY, 1): 422,
}


@pytest.mark.parametrize("address", BAD_ADDRESSES)
async def test_a_bad_address_is_refused(
    address: str, operator: httpx.AsyncClient, customer: Customer
) -> None:
    response = await operator.get(address.replace("{own}", customer.id))
    problem_of(response)
    assert response.status_code == BAD_ADDRESSES[address]
    assert "Location" not in response.headers


async def test_the_first_day_of_the_calendar_is_a_day(
    operator: httpx.AsyncClient, customer: Customer
) -> None:
    address = f"/v1/usage/summary?organization_id={customer.id}&to=0001-01-02"
    assert (await operator.get(address)).json()["items"] == []
