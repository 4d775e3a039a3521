"""Live usage over a real connection: it comes as it is stored, and holds no shutdown up."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack

import httpx
from tests.builders import an_event
from tests.journeys.conftest import Aurora, problem_of, served, sign_up

# Far below what a server waits for answers that have begun, and below a stream's own end.
SOON_S = 15.0
FIRST_LOOK_S = 3.0


async def test_events_come_as_they_are_stored_and_the_stream_ends_with_the_server(
    aurora: Aurora,
) -> None:
    seen: list[str] = []

    async def read(stream: httpx.Response) -> None:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                seen.append(event["endpoint"])

    with ExitStack() as stack:
        server = stack.enter_context(served(aurora))
        customer, other = await sign_up(server), await sign_up(server)
        async with (
            server.client(customer.key) as mine,
            server.client(other.key) as theirs,
            mine.stream("GET", "/v1/usage/live") as stream,
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-store"
            reading = asyncio.create_task(read(stream))
            refused = await mine.get("/v1/usage/live", headers={"last-event-id": "x"})
            assert problem_of(refused)["code"] == "event_id_invalid"
            refused = await mine.get("/v1/usage/live", params={"organization_id": other.id})
            assert problem_of(refused)["status"] == 404
            # What the first look finds is not new.
            await asyncio.sleep(FIRST_LOOK_S)
            for client, endpoint in ((theirs, "/theirs"), (mine, "/mine")):
                sent = await client.post("/v1/usage/events", json=[an_event(endpoint=endpoint)])
                assert sent.json()["accepted"] == 1
            for _ in range(100):
                if seen:
                    break
                await asyncio.sleep(0.1)
            assert seen == ["/mine"]
            began_s = time.monotonic()
            # It must leave with 0 at SIGTERM, with the stream open.
            await asyncio.to_thread(stack.close)
            assert time.monotonic() - began_s < SOON_S
            await asyncio.wait_for(reading, SOON_S)
