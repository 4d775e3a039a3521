"""Events over HTTP in every form and coding, and what comes of forms that are broken."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import psycopg
import pytest
import zstandard
from tests.builders import an_event, events
from tests.journeys.conftest import Aurora, Customer, problem_of, served, sign_up

PATH = "/v1/usage/events"
GIGABYTE = 1024 * 1024 * 1024
MOST_CALLS = 2_000
CLOUD = "application/cloudevents+json"


@pytest.fixture(scope="module")
async def customer(server: Aurora) -> Customer:
    return await sign_up(server)


@pytest.fixture(scope="module")
async def sender(server: Aurora, customer: Customer) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(customer.key) as client:
        yield client


def a_cloudevent(**changes: Any) -> dict[str, Any]:
    event = an_event()
    cloud = {
        "specversion": "1.0",
        "id": event.pop("id"),
        "source": "/hotels/tromso",
        "type": "ai.tromso.usage",
        "time": event.pop("timestamp"),
        "data": event,
    }
    return cloud | changes


def lines(*members: Any) -> bytes:
    return b"\n".join(
        each if isinstance(each, bytes) else json.dumps(each).encode() for each in members
    )


async def sent(client: httpx.AsyncClient, body: bytes, kind: str, **headers: str) -> dict[str, Any]:
    response = await client.post(PATH, content=body, headers={"content-type": kind, **headers})
    assert response.status_code == 200, response.text
    receipt: dict[str, Any] = response.json()
    return receipt


async def test_one_event_alone_and_a_wrapped_array(sender: httpx.AsyncClient) -> None:
    one, wrapped = an_event(), {"events": events(2)}
    assert (await sent(sender, json.dumps(one).encode(), "application/json"))["accepted"] == 1
    assert (await sent(sender, json.dumps([one]).encode(), "application/json"))["duplicates"] == 1
    assert (await sent(sender, json.dumps(wrapped).encode(), "application/json"))["accepted"] == 2
    bad = json.dumps(an_event(status_code=99999)).encode()
    assert [each["index"] for each in (await sent(sender, bad, ""))["rejected"]] == [0]


async def test_a_broken_line_of_ndjson_is_named_and_the_rest_is_kept(
    sender: httpx.AsyncClient,
) -> None:
    first, second, third = events(3)
    body = lines(first, b"", b'{"id": "half', second, b"\xff", b"NaN", third, b"")
    receipt = await sent(sender, body, "application/x-ndjson")
    assert receipt["accepted"] == 3
    assert [(each["index"], each["code"]) for each in receipt["rejected"]] == [
        (1, "event_malformed"),
        (3, "event_malformed"),
        (4, "event_malformed"),
    ]
    whole = lines(first, b"", second, b"\r", third)
    assert (await sent(sender, whole, "application/jsonl; charset=UTF-8"))["duplicates"] == 3


async def test_cloudevents_come_structured_in_batches_and_in_headers(
    sender: httpx.AsyncClient,
) -> None:
    one, two = a_cloudevent(), a_cloudevent()
    assert (await sent(sender, json.dumps(one).encode(), CLOUD))["accepted"] == 1
    wrong = a_cloudevent(specversion="0.3")
    batch = await sent(
        sender,
        json.dumps([one, wrong, two]).encode(),
        "application/cloudevents-batch+json; charset=utf-8",
    )
    assert (batch["accepted"], batch["duplicates"]) == (1, 1)
    assert [(each["index"], each["code"]) for each in batch["rejected"]] == [
        (1, "cloudevent_invalid")
    ]
    attributes = {f"ce-{name}": str(two[name]) for name in ("specversion", "id", "source", "type")}
    binary = await sent(
        sender,
        json.dumps(two["data"]).encode(),
        "application/json",
        **attributes,
        **{"ce-time": two["time"]},
    )
    assert binary["duplicates"] == 1, "the same event in another mode is the same event"


async def test_a_cloudevent_in_a_form_that_is_not_read_is_a_415(sender: httpx.AsyncClient) -> None:
    for kind in ("application/cloudevents+avro", "application/json; charset=utf-16"):
        response = await sender.post(PATH, content=b"[]", headers={"content-type": kind})
        assert problem_of(response)["code"] == "media_type_unsupported"
        assert response.status_code == 415


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_compressed_batch_is_the_same_batch(coding: str, sender: httpx.AsyncClient) -> None:
    plain = json.dumps(events(100)).encode()
    body = gzip.compress(plain) if coding == "gzip" else zstandard.ZstdCompressor().compress(plain)
    headers = {"content-encoding": coding}
    assert (await sent(sender, body, "application/json", **headers))["accepted"] == 100
    half = await sender.post(PATH, content=body[: len(body) // 2], headers=headers)
    assert problem_of(half)["code"] == "compression_broken"
    assert half.status_code == 400
    assert (await sent(sender, plain, "application/json"))["duplicates"] == 100


@pytest.mark.parametrize("coding", ["deflate", "br", "gzip, zstd"])
async def test_another_coding_is_a_415(coding: str, sender: httpx.AsyncClient) -> None:
    response = await sender.post(PATH, content=b"[]", headers={"content-encoding": coding})
    assert problem_of(response)["code"] == "encoding_unsupported"
    assert response.status_code == 415


async def test_a_bomb_is_a_413(sender: httpx.AsyncClient) -> None:
    bombs = {
        "gzip": gzip.compress(bytes(GIGABYTE // 64)) * 64,
        "zstd": zstandard.ZstdCompressor().compress(bytes(GIGABYTE)),
    }
    for coding, bomb in bombs.items():
        response = await sender.post(PATH, content=bomb, headers={"content-encoding": coding})
        assert response.status_code == 413, response.text
        assert problem_of(response)["code"] == "too_large"


async def test_brackets_by_the_million_are_a_413(sender: httpx.AsyncClient) -> None:
    for member in (b"1,", b"[],", b"[[[[[[[[[[]]]]]]]]]],"):
        body = b"[" + member * (6 * 1024 * 1024 // len(member)) + b"1]"
        response = await sender.post(PATH, content=body)
        assert response.status_code == 413, response.text


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_the_10_001st_event_is_a_413(kind: str, sender: httpx.AsyncClient) -> None:
    batch = [an_event(id=f"{kind}-{number}") for number in range(10_001)]

    def body(count: int) -> bytes:
        if kind == "application/json":
            return json.dumps(batch[:count]).encode()
        return lines(*batch[:count])

    response = await sender.post(PATH, content=body(10_001), headers={"content-type": kind})
    assert problem_of(response)["code"] == "too_many_events"
    assert (await sent(sender, body(10_000), kind))["accepted"] == 10_000


async def test_what_cannot_be_an_event_says_why(sender: httpx.AsyncClient) -> None:
    same = an_event()
    batch: list[dict[str, Any]] = [
        same,
        same,
        {**same, "endpoint": "/other"},
        an_event(timestamp="2026-01-01T00:00:00"),
        an_event(timestamp="0000-01-01T00:00:00Z"),
        an_event(timestamp="0001-01-01T00:00:00Z"),
        an_event(timestamp="9999-12-31T23:59:59Z"),
        an_event(response_time_ms=-1),
        an_event(status_code=99999),
        an_event(metadata={"a": "x" * 1024 * 1024}),
        an_event(method="get"),
        an_event(country_code="no"),
    ]
    receipt = await sent(sender, json.dumps(batch).encode(), "application/json")
    assert (receipt["accepted"], receipt["duplicates"]) == (1, 1)
    assert [each["index"] for each in receipt["conflicts"]] == [2]
    codes = [each["code"] for each in receipt["rejected"]]
    assert [each["index"] for each in receipt["rejected"]] == list(range(3, 12))
    assert codes[2] == codes[3] == "timestamp_out_of_range"
    assert codes.count("event_invalid") == 7


async def test_many_calls_of_one_event_are_each_answered_with_their_own(
    sender: httpx.AsyncClient,
) -> None:
    batch = events(100)
    calls = [json.dumps(event).encode() for event in [*batch, *batch]]
    receipts = await asyncio.gather(*(sent(sender, call, "application/json") for call in calls))
    assert all(each["accepted"] + each["duplicates"] == 1 for each in receipts)
    assert sum(each["accepted"] for each in receipts) == 100


async def test_an_operator_brings_old_events_and_the_audit_says_so(
    server: Aurora, customer: Customer, sender: httpx.AsyncClient
) -> None:
    old = an_event(timestamp="2024-02-29T12:00:00Z", api_key_id=customer.key_id)
    path, named = "/v1/usage/backfill", {"organization_id": customer.id}
    async with server.client() as operator:
        for query in (named, named | {"reason": " "}, named | {"reason": "x" * 501},
                      named | {"reason": "a\0"}):  # fmt: skip
            refused = await operator.post(path, json=[old], params=query)
            assert problem_of(refused)["code"] == "reason_missing"
        query = named | {"reason": "the till of 2024"}
        receipt = (await operator.post(path, json=[old, {"id": 1}], params=query)).json()
        assert (receipt["accepted"], [each["index"] for each in receipt["rejected"]]) == (1, [1])
        again = (await operator.post(path, json=[old], params=query)).json()
        assert (again["accepted"], again["duplicates"]) == (0, 1)
        audited = (await operator.get("/v1/audit", params=named)).json()["items"]
        months = await operator.get(
            "/v1/usage/series", params=named | {"from": "2024-02-01", "to": "2024-03-01"}
        )
    brought = [each["after"] for each in audited if each["action"] == "usage.backfilled"]
    assert [each["events"] for each in brought] == [1]
    assert brought[0]["reason"] == "the till of 2024"
    assert brought[0]["first_day"] == "2024-02-29"
    assert [point["requests"] for point in months.json()["items"]] == [1]
    assert problem_of(await sender.post(path, json=[old], params=query))["status"] == 403


async def test_a_server_that_is_told_to_end_stores_what_it_took_and_answers_it(
    aurora: Aurora,
) -> None:
    """Also events whose request had begun when the signal came: none is lost in between."""
    answers: list[httpx.Response] = []
    under_load = asyncio.Event()
    with ExitStack() as stack:
        server = stack.enter_context(served(aurora))
        customer = await sign_up(server)

        async def send(client: httpx.AsyncClient) -> None:
            # Until nobody listens any more.
            with suppress(httpx.TransportError):
                for _ in range(MOST_CALLS):
                    answer = await client.post(PATH, json=events(20))
                    answers.append(answer)
                    if len(answers) >= 50:
                        under_load.set()

        async with server.client(customer.key, limits=httpx.Limits(max_connections=16)) as client:
            sending = [asyncio.create_task(send(client)) for _ in range(16)]
            await asyncio.wait_for(under_load.wait(), 60)
            await asyncio.to_thread(stack.close)
            await asyncio.gather(*sending)
    assert {answer.status_code for answer in answers} <= {200, 503}
    told = sum(answer.json()["accepted"] for answer in answers if answer.status_code == 200)
    with psycopg.connect(aurora.owner_dsn) as owner:
        stored = owner.execute(
            "select count(*) from usage_analytics where organization_id = %s", (customer.id,)
        ).fetchone()
    # One whose answer was cut off may be stored; none that was answered is missing.
    assert stored
    assert told <= stored[0] <= told + 16 * 20
    assert told >= 50 * 20


async def test_a_single_event_is_answered_alike_where_it_is_parsed_and_the_ordinary_way(
    sender: httpx.AsyncClient,
) -> None:
    """A charset in capitals is read alike and is not plain, so it takes the ordinary way."""
    known = an_event()
    await sent(sender, json.dumps(known).encode(), "application/json")
    said: list[list[tuple[Any, ...]]] = []
    for kind in ("application/json", "application/json; charset=UTF-8"):
        answers: list[tuple[Any, ...]] = []
        for event in (
            an_event(),
            known,
            known | {"endpoint": "/other"},
            an_event(timestamp="2001-01-01T00:00:00Z"),
            an_event(country_code="norge"),
            an_event(status_code=99_999),
            an_event(api_key_id="00000000-0000-0000-0000-00000000beef"),
            an_event(reverses="nothing that there is"),
        ):
            body = json.dumps(event).encode()
            response = await sender.post(PATH, content=body, headers={"content-type": kind})
            marks = {*response.headers} - {"x-request-id", "date"}
            answers.append((response.status_code, sorted(marks), response.json()))
        for body in (b"{", b"[]", b""):
            response = await sender.post(PATH, content=body, headers={"content-type": kind})
            answers.append((response.status_code, response.json().get("code")))
        said.append(answers)
    plain, ordinary = said
    for one, other in zip(plain, ordinary, strict=True):
        # Their ids and moments are their own.
        assert str(one)[:120] == str(other)[:120]
    assert [each[2]["accepted"] for each in plain[:3]] == [1, 0, 0]
