"""What proxies ask: a real Caddy, and what Traefik and Envoy would ask by the guide's text.

A real Envoy asks in `test_envoy.py`, where there is one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.journeys.conftest import Aurora, Customer, free_port, served, sign_up

CADDY = shutil.which("caddy") or "/usr/bin/caddy"
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "gate.md"
ORIGIN = "https://www.hotel.example"


def block(language: str) -> str:
    """The guide's only block in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    text: str = found
    return text


@contextmanager
def caddy_before(aurora: Aurora, folder: Path) -> Iterator[str]:
    """The guide's Caddyfile as it stands, but for addresses, and an application that says whose."""
    port, behind = free_port(), free_port()
    text = (
        block("caddy")
        .replace("example.com {", f"http://127.0.0.1:{port} {{")
        .replace("127.0.0.1:8000", aurora.address.removeprefix("http://"))
        .replace("127.0.0.1:3000", f"127.0.0.1:{behind}")
    )
    assert str(port) in text
    assert str(behind) in text
    whose = "{http.request.header.X-Aurora-Organization-Id}"
    application = f'http://127.0.0.1:{behind} {{\n\trespond "for {whose}"\n}}\n'
    file = folder / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n}}\n{text}\n{application}")
    with (folder / "caddy.log").open("wb") as log:
        running = subprocess.Popen(
            [CADDY, "run", "--config", str(file), "--adapter", "caddyfile"],
            env={"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            assert time.monotonic() < deadline, (folder / "caddy.log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.skipif(not Path(CADDY).exists(), reason="caddy is not installed")
async def test_caddy_lets_pass_what_the_gate_lets_pass(aurora: Aurora, tmp_path: Path) -> None:
    trusting = Aurora(
        {**aurora.environment, "AURORA_TRUSTED_PROXIES": "127.0.0.1"},
        aurora.folder,
        aurora.owner_dsn,
        aurora.token,
    )
    with served(trusting) as server:
        anywhere = await sign_up(server)
        narrow = await sign_up(server, scopes=["billing:read"])
        local = await sign_up(server, ip_whitelist=["127.0.0.0/8"])
        far = await sign_up(server, ip_whitelist=["203.0.113.0/24"])
        few = await sign_up(server, rate_limit_per_hour=1)
        with caddy_before(server, tmp_path) as address:
            # From another address than the proxy's, which is believed about others.
            elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
            async with httpx.AsyncClient(base_url=address, transport=elsewhere) as client:

                async def status(key: str, **headers: str) -> int:
                    bearer = {"authorization": f"Bearer {key}"}
                    answer = await client.post("/x", json={"a": 1}, headers=bearer | headers)
                    return answer.status_code

                passed = await client.get("/x", headers={"x-api-key": anywhere.key})
                assert (passed.status_code, passed.text) == (200, f"for {anywhere.id}")
                # Whoever says of himself whose he is is not believed.
                forged = {"x-api-key": anywhere.key, "x-aurora-organization-id": far.id}
                assert (await client.get("/x", headers=forged)).text == f"for {anywhere.id}"
                missing = await client.get("/x")
                assert (missing.status_code, missing.json()["reason"]) == (401, "MALFORMED")
                assert await status(narrow.key) == 403
                assert await status(local.key) == 200
                assert await status(far.key) == 403
                assert await status(far.key, **{"x-forwarded-for": "203.0.113.9"}) == 403
                assert await status(anywhere.key, origin=ORIGIN) == 403
                assert [await status(few.key), await status(few.key)] == [200, 429]


def _fields(given: dict[str, Any], known: set[str]) -> None:
    assert given.keys() <= known, given.keys() - known


async def test_the_requests_that_traefik_makes_are_answered(server: Aurora) -> None:
    """Traefik itself is not run: no package of it is at hand. Its file is read, and it is asked so.

    The names are those of Traefik 3's reference of ForwardAuth; it asks with GET and adds the
    X-Forwarded headers.
    """
    given = tomllib.loads(block("toml"))["http"]["middlewares"]["aurora"]["forwardAuth"]
    _fields(given, {"address", "authResponseHeaders", "trustForwardHeader", "authRequestHeaders"})
    customer = await sign_up(server)
    path = given["address"].removeprefix("http://127.0.0.1:8000")
    headers = {
        "x-forwarded-method": "POST",
        "x-forwarded-uri": "/api/x",
        "x-forwarded-for": "192.0.2.1",
    }
    await _asked(server, "GET", path, headers, customer, given["authResponseHeaders"])


async def test_the_requests_that_envoy_makes_are_answered(server: Aurora) -> None:
    """Envoy itself is not run here. Its file is read, and it is asked so.

    The names are those of Envoy's ext_authz v3; it asks with the method of the request it holds,
    at `path_prefix` and the request's own path.
    """
    (filter_,) = json.loads(block("json"))["http_filters"]
    assert filter_["name"] == "envoy.filters.http.ext_authz"
    _fields(filter_["typed_config"], {"@type", "http_service", "status_on_error"})
    service = filter_["typed_config"]["http_service"]
    _fields(
        service, {"server_uri", "path_prefix", "authorization_request", "authorization_response"}
    )
    _fields(service["server_uri"], {"uri", "cluster", "timeout"})
    handed_on = service["authorization_request"]["allowed_headers"]["patterns"]
    assert {each["exact"] for each in handed_on} >= {"x-api-key", "origin", "x-forwarded-for"}
    # Envoy hands Authorization, the method, the path, the host, and the length on by itself.
    customer = await sign_up(server)
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        path = service["path_prefix"] + "/api/x?page=2"
        await _asked(server, method, path, {"content-length": "0"}, customer, ["X-Aurora-Key-Id"])


async def _asked(
    server: Aurora,
    method: str,
    path: str,
    headers: dict[str, str],
    customer: Customer,
    expected: list[str],
) -> None:
    async with server.client("") as proxy:
        bearer = {"authorization": f"Bearer {customer.key}"}
        passed = await proxy.request(method, path, headers=headers | bearer)
        assert (passed.status_code, passed.content) == (200, b"")
        assert set(map(str.lower, expected)) <= passed.headers.keys()
        refused = await proxy.request(method, path, headers=headers)
        assert (refused.status_code, refused.headers["x-aurora-code"]) == (401, "MALFORMED")


async def test_at_once_and_the_ordinary_way_answer_alike(server: Aurora) -> None:
    customer = await sign_up(server, rate_limit_per_hour=1_000)
    body = json.dumps({"key": customer.key, "scope": "aurora:read"}).encode()

    async def pieces() -> Any:
        yield body

    async with server.client("") as client:
        for _ in range(20):
            at_once = await client.post("/v1/keys/verify", content=body)
            # A body in chunks is not plain.
            ordinary = await client.post("/v1/keys/verify", content=pieces())
            assert (at_once.status_code, ordinary.status_code) == (200, 200)
            assert at_once.headers.keys() == ordinary.headers.keys()
            for name in at_once.headers.keys() - {"x-request-id", "date", "content-length"}:
                assert at_once.headers[name] == ordinary.headers[name]
            one, two = at_once.json(), ordinary.json()
            assert one["limits"].pop("remaining") > two["limits"].pop("remaining")
            assert abs(one["limits"].pop("reset_s") - two["limits"].pop("reset_s")) <= 1
            assert one == two
