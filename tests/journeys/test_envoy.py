"""A real Envoy before an application, with the guide's own filter, asking the gate."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.journeys.conftest import Aurora, free_port, served, sign_up
from tests.journeys.test_proxies import ORIGIN, block

START_S = 60.0
FOUND = importlib.util.find_spec("envoy")
ENVOY = None if FOUND is None or FOUND.origin is None else Path(FOUND.origin).parent / "_bin/envoy"
HTTP = "type.googleapis.com/envoy.extensions.filters"


class _Application(BaseHTTPRequestHandler):
    """Says whose request it was handed."""

    def answer(self) -> None:
        """Answer any request."""
        body = f"for {self.headers.get('X-Aurora-Organization-Id')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server asks for

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "connect_timeout": "2s", "load_assignment": assignment}


def _bootstrap(port: int, aurora: int, behind: int) -> dict[str, Any]:
    """The guide's filter as it stands, in the least that Envoy needs around it."""
    guide = json.loads(block("json"))
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{HTTP}.http.router.v3.Router"},
    }
    hosts = [
        {
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}],
        }
    ]
    manager = {
        "@type": f"{HTTP}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "route_config": {"virtual_hosts": hosts},
        **guide,
        "http_filters": [*guide["http_filters"], router],
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "static_resources": {
            "listeners": [{"address": address, "filter_chains": [chain]}],
            "clusters": [_cluster("aurora", aurora), _cluster("application", behind)],
        }
    }


@contextmanager
def envoy_before(aurora_port: int, folder: Path) -> Iterator[str]:
    """An application behind Envoy; gives the address of Envoy."""
    assert ENVOY is not None
    behind = ThreadingHTTPServer(("127.0.0.1", 0), _Application)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    port = free_port()
    file = folder / f"envoy-{port}.json"
    file.write_text(json.dumps(_bootstrap(port, aurora_port, behind.server_address[1])))
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    command = [str(ENVOY), "-c", str(file), *options]
    with (folder / "envoy.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while True:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            assert running.poll() is None, (folder / "envoy.log").read_text()[-2_000:]
            assert time.monotonic() < deadline, (folder / "envoy.log").read_text()[-2_000:]
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(20)
        behind.shutdown()
        behind.server_close()


@pytest.mark.skipif(ENVOY is None or not ENVOY.exists(), reason="envoy is not installed")
async def test_envoy_lets_pass_what_the_gate_lets_pass(aurora: Aurora, tmp_path: Path) -> None:
    trusting = Aurora(
        {**aurora.environment, "AURORA_TRUSTED_PROXIES": "127.0.0.1"},
        aurora.folder,
        aurora.owner_dsn,
        aurora.token,
    )
    with served(trusting) as server:
        anywhere = await sign_up(server)
        local = await sign_up(server, ip_whitelist=["127.0.0.0/8"])
        far = await sign_up(server, ip_whitelist=["203.0.113.0/24"])
        few = await sign_up(server, rate_limit_per_hour=1)
        with envoy_before(int(server.address.rpartition(":")[2]), tmp_path) as address:
            # From another address than Envoy's, which is believed about others.
            elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
            async with httpx.AsyncClient(base_url=address, transport=elsewhere) as client:

                async def status(key: str, **headers: str) -> int:
                    bearer = {"authorization": f"Bearer {key}"}
                    answer = await client.post("/x?a=1", json={"a": 1}, headers=bearer | headers)
                    return answer.status_code

                passed = await client.get("/x", headers={"x-api-key": anywhere.key})
                assert (passed.status_code, passed.text) == (200, f"for {anywhere.id}")
                # Whoever says of himself whose he is is not believed.
                forged = {"x-api-key": anywhere.key, "x-aurora-organization-id": far.id}
                assert (await client.get("/x", headers=forged)).text == f"for {anywhere.id}"
                missing = await client.get("/x")
                assert (missing.status_code, missing.headers["x-aurora-code"]) == (401, "MALFORMED")
                assert await status(local.key) == 200
                assert await status(far.key) == 403
                assert await status(far.key, **{"x-forwarded-for": "203.0.113.9"}) == 403
                assert await status(anywhere.key, origin=ORIGIN) == 403
                assert [await status(few.key), await status(few.key)] == [200, 429]


@pytest.mark.skipif(ENVOY is None or not ENVOY.exists(), reason="envoy is not installed")
def test_without_aurora_envoy_lets_nobody_pass(tmp_path: Path) -> None:
    with envoy_before(free_port(), tmp_path) as address:
        answer = httpx.get(f"{address}/x", headers={"x-api-key": "whatever"}, timeout=30)
    assert answer.status_code == 503
