"""The examples as a reader runs them, over a socket, and an application that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
from tests.journeys.behind_the_gate import Network, until, waiting_in
from tests.journeys.conftest import Aurora, Customer, free_port, sign_up

from aurora.client import AsyncAurora, AuroraWSGIMiddleware, Remote

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0


@pytest.fixture
async def customer(server: Aurora) -> Customer:
    return await sign_up(server)


async def requests_of(server: Aurora, customer: Customer) -> int:
    async with AsyncAurora(server.address, server.token) as aurora:
        return (await aurora.usage.summary(customer.id)).totals.requests


@contextmanager
def example(url: str, token: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The example under uvicorn, in a process of its own."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AURORA_URL": url,
        "AURORA_TOKEN": token,
        "AURORA_SPOOL": str(folder / "spool.db"),
    }
    command = [sys.executable, "-m", "uvicorn", "examples.forecast.app:app", "--port", str(port)]
    with (folder / "app.log").open("ab") as log:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while running.poll() is None and time.monotonic() < deadline:
            try:
                httpx.get(f"{address}/healthz", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address, running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGINT)
            running.wait(START_TIMEOUT_S)


async def test_the_example_does_what_its_readme_says(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    with example(server.address, server.token, tmp_path) as (address, running):
        async with httpx.AsyncClient(base_url=address) as reader:
            good = await reader.get("/forecast/tromso", headers={"x-api-key": customer.key})
            assert good.json()["for_organization"] == customer.id
            bad = await reader.get("/forecast/tromso")
            assert (bad.status_code, bad.json()["code"]) == (401, "key_missing")
            wrong = await reader.get("/reports", headers={"x-api-key": customer.key})
            assert wrong.status_code == 404
    assert running.returncode == 0
    async with AsyncAurora(server.address, server.token) as aurora:
        totals = (await aurora.usage.summary(customer.id)).totals
    assert (totals.requests, totals.billable_impressions) == (2, 1)
    assert waiting_in(tmp_path) == 0


FLAT = """
import signal, sys, threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server
from examples.forecast.flat import app

class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True

server = make_server("127.0.0.1", 0, app, server_class=Threads)
signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
print(server.server_port, flush=True)
server.serve_forever()
app.close()
"""


async def test_the_example_for_wsgi_verifies_and_meters(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "AURORA_URL": server.address,
        "AURORA_TOKEN": server.token,
        "AURORA_SPOOL": str(tmp_path / "spool.db"),
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FLAT), cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    try:
        address = f"http://127.0.0.1:{int(await running.stdout.readline())}"
        async with httpx.AsyncClient(base_url=address, timeout=30) as reader:
            good = await reader.get("/tromso", headers={"x-api-key": customer.key})
            assert good.json() == {"place": "/tromso", "for_organization": customer.id}
            assert "ratelimit" in good.headers
            missing = await reader.get("/tromso")
            assert (missing.status_code, missing.json()["code"]) == (401, "key_missing")
    finally:
        running.send_signal(signal.SIGINT)
        async with asyncio.timeout(START_TIMEOUT_S):
            assert await running.wait() == 0
    async with AsyncAurora(server.address, server.token) as aurora:
        totals = (await aurora.usage.summary(customer.id)).totals
    assert (totals.requests, totals.billable_impressions) == (1, 1)
    assert waiting_in(tmp_path) == 0


async def test_a_killed_application_loses_nothing_it_answered(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async with Network(server.address) as network:
        answered = 0
        context = example(network.url, server.token, tmp_path)
        address, running = await asyncio.to_thread(context.__enter__)
        async with httpx.AsyncClient(base_url=address) as reader:

            async def ask() -> int:
                headers = {"x-api-key": customer.key}
                return (await reader.get("/forecast/tromso", headers=headers)).status_code

            assert await ask() == 200
            answered += 1
            network.mode = "down"
            for _ in range(20):
                assert await ask() == 200
                answered += 1
            # The moment after the last answer: nothing is given time to be written.
            running.kill()
        running.wait()
        await asyncio.to_thread(context.__exit__, None, None, None)
        assert waiting_in(tmp_path) >= 20
        network.mode = "passes"
        with_again = example(network.url, server.token, tmp_path)
        address, _ = await asyncio.to_thread(with_again.__enter__)
        # Nobody asks it anything: its start is enough.
        await until(lambda: waiting_in(tmp_path) == 0)
        await asyncio.to_thread(with_again.__exit__, None, None, None)
    assert await requests_of(server, customer) == answered


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def threads(app: Any) -> Iterator[str]:
    """A WSGI server of threads, from the standard library."""
    server = make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def streams(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """A WSGI application that fails where it is asked to."""
    if environ["PATH_INFO"] == "/raises":
        raise ZeroDivisionError
    start_response("200 OK", [("content-type", "text/plain")])
    yield b"one"
    yield str(environ["aurora"].verdict.organization_id).encode()


@pytest.mark.parametrize("durability", ["after_response", "before_response"])
async def test_wsgi_does_the_same(
    server: Aurora, customer: Customer, tmp_path: Path, durability: Any
) -> None:
    app = AuroraWSGIMiddleware(
        streams,
        backend=Remote(server.address, server.token),
        spool=tmp_path / "spool.db",
        durability=durability,
        exempt=["/healthz"],
    )
    with threads(app) as address:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            good = {"authorization": f"Bearer {customer.key}"}
            answers = await asyncio.gather(*[client.get("/x", headers=good) for _ in range(8)])
            assert {answer.text for answer in answers} == {f"one{customer.id}"}
            if durability == "before_response":
                assert await requests_of(server, customer) + waiting_in(tmp_path) >= 8
            missing = await client.get("/x")
            assert (missing.status_code, missing.json()["code"]) == (401, "key_missing")
            assert missing.headers["content-type"] == "application/problem+json"
            assert (await client.get("/raises", headers=good)).status_code == 500
        await asyncio.to_thread(app.close)
    async with AsyncAurora(server.address, server.token) as aurora:
        totals = (await aurora.usage.summary(customer.id)).totals
    assert (totals.requests, totals.failed) == (9, 1)
