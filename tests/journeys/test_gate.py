"""The gate as it is run: two servers, one of them cut off from PostgreSQL, and a real nginx."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.journeys.conftest import (
    Aurora,
    Customer,
    free_port,
    problem_of,
    process,
    served,
    sign_up,
    tail,
    wait_until_ready,
)

from aurora.core.secrets import generate_api_key

LEASE_S = 1.0
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


class Link:
    """A TCP proxy before PostgreSQL that can swallow everything, as a partition does."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def cut(self) -> None:
        """Hand nothing on any more, and tell nobody."""
        self._open.clear()

    def heal(self) -> None:
        """Hand on again, what was held back too."""
        self._open.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Link]:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.heal()
            server.close()
            for writer in self._writers:
                writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_unix_connection(self._socket_path)
        self._writers |= {writer, behind_writer}
        await asyncio.gather(
            self._hand_on(reader, behind_writer), self._hand_on(behind_reader, writer)
        )

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
            writer.close()


@contextmanager
def another_server(aurora: Aurora, dsn: str) -> Iterator[str]:
    """A second server on the same database, reached by another way; gives its address."""
    port, log = str(free_port()), aurora.folder / "second.log"
    environment = {**aurora.environment, "AURORA_DATABASE_URL": dsn}
    with process("serve", "--port", port, environment=environment, log=log) as running:
        address = f"http://127.0.0.1:{port}"
        assert wait_until_ready(address, running, log), tail(log)
        yield address


async def code_of(client: httpx.AsyncClient, key: str, **fields: Any) -> str:
    answer = await client.post("/v1/keys/verify", json={"key": key, **fields})
    assert answer.status_code == 200, answer.text
    code: str = answer.json()["code"]
    return code


async def revoke(server: Aurora, customer: Customer) -> None:
    path = f"/v1/organizations/{customer.id}/keys/{customer.key_id}/revoke"
    async with server.client() as operator:
        assert (await operator.post(path)).status_code == 200


async def test_a_revocation_reaches_the_other_server_even_when_it_is_cut_off(
    aurora: Aurora,
) -> None:
    dsn = conninfo_to_dict(aurora.environment["AURORA_DATABASE_URL"])
    link = Link(f"{dsn['host']}/.s.PGSQL.{dsn['port']}")
    async with link.listening():
        through = make_conninfo(
            aurora.environment["AURORA_DATABASE_URL"],
            host="127.0.0.1",
            port=link.port,
            gssencmode="disable",
        )
        with served(aurora) as server:
            first, second, third = [await sign_up(server) for _ in range(3)]
            async with asyncio_server(aurora, through) as address:
                await _both_ways(server, address, link, (first, second, third))


@asynccontextmanager
async def asyncio_server(aurora: Aurora, dsn: str) -> AsyncIterator[str]:
    """`another_server`, started and stopped beside the event loop that carries its link."""
    manager = another_server(aurora, dsn)
    address = await asyncio.to_thread(manager.__enter__)
    try:
        yield address
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def _both_ways(
    server: Aurora, address: str, link: Link, customers: tuple[Customer, ...]
) -> None:
    connected, cut_off, unseen = customers
    async with (
        server.client("") as here,
        httpx.AsyncClient(base_url=address, timeout=30) as there,
    ):
        for each in customers:
            assert await code_of(there, each.key) == "VALID"
            assert await code_of(here, each.key) == "VALID"
        await revoke(server, connected)
        assert await code_of(here, connected.key) == "REVOKED"
        await asyncio.sleep(LEASE_S)
        assert await code_of(there, connected.key) == "REVOKED"
        assert await code_of(there, cut_off.key) == "VALID"

        link.cut()
        await revoke(server, cut_off)
        await asyncio.sleep(LEASE_S)
        # Whoever asks from here on must never hear VALID, not even for a key that is alive.
        assert await code_of(there, cut_off.key) == "UNAVAILABLE"
        assert await code_of(there, unseen.key) == "UNAVAILABLE"
        held = await there.get("/v1/forward-auth", headers={"x-api-key": cut_off.key})
        assert (held.status_code, held.headers["x-aurora-code"]) == (503, "UNAVAILABLE")
        refused = await there.get("/v1/plans", headers={"x-api-key": unseen.key})
        assert refused.json()["code"] == "gate_unavailable"

        link.heal()
        deadline = time.monotonic() + 30
        while (code := await code_of(there, unseen.key)) != "VALID":
            assert time.monotonic() < deadline, code
            await asyncio.sleep(0.1)
        assert await code_of(there, cut_off.key) == "REVOKED"


async def test_questions_in_one_call_are_answered_in_their_order(server: Aurora) -> None:
    customer = await sign_up(server)
    unknown = generate_api_key("production").key
    asked = [
        {"key": unknown},
        {"key": customer.key},
        {"key": "x"},
        {"key": customer.key, "scope": "widgets:embed"},
    ]
    codes = ["NOT_FOUND", "VALID", "MALFORMED", "SCOPE_MISSING"]
    async with server.client("") as client:
        listed = (await client.post("/v1/keys/verify", json=asked)).json()
        wrapped = (await client.post("/v1/keys/verify", json={"requests": asked})).json()
        assert [each["code"] for each in listed] == codes
        assert [each["code"] for each in wrapped["results"]] == codes
        assert (await client.post("/v1/keys/verify", json=[])).json() == []
        for body in ([{"key": "x"}] * 101, {"requests": [{"key": "x"}] * 101}, [{"no": "key"}], 7):
            refused = await client.post("/v1/keys/verify", json=body)
            assert problem_of(refused)["status"] == 422


async def test_an_address_that_sends_many_unknown_keys_is_not_looked_up_for(
    server: Aurora,
) -> None:
    customer = await sign_up(server)
    address = "198.51.100.7"
    async with server.client("") as client:
        asked = [{"key": generate_api_key("test").key, "ip": address} for _ in range(80)]
        answers = (await client.post("/v1/keys/verify", json=asked)).json()
        assert {each["code"] for each in answers} == {"NOT_FOUND"}
        stranger = {"key": generate_api_key("test").key, "ip": address}
        refused = (await client.post("/v1/keys/verify", json=stranger)).json()
        assert (refused["code"], refused["detail"]) == ("RATE_LIMITED", "too_many_unknown_keys")
        assert refused["limits"]["retry_after_s"] >= 1
        other = await code_of(client, stranger["key"], ip="198.51.100.8")
        assert other == "NOT_FOUND"
        assert await code_of(client, customer.key) == "VALID"
        # What is remembered passes from the same address.
        assert await code_of(client, customer.key, ip=address) == "VALID"


CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /api/ {{
      auth_request /_aurora;
      auth_request_set $organization $upstream_http_x_aurora_organization_id;
      auth_request_set $aurora_status $upstream_status;
      error_page 500 = @refused;
      add_header X-Organization $organization always;
      try_files /none @api;
    }}
    location @api {{ add_header X-Organization $organization always; return 200 "passed"; }}
    location @refused {{ if ($aurora_status = 429) {{ return 429; }} return 503; }}
    location = /_aurora {{
      internal;
      proxy_pass {aurora}/v1/forward-auth?scope=aurora:read;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Original-URI $request_uri;
    }}
  }}
}}
"""


@contextmanager
def nginx_before(aurora: Aurora, folder: Path) -> Iterator[str]:
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, aurora=aurora.address))
    with (folder / "out.log").open("wb") as out:
        running = subprocess.Popen([NGINX, "-c", str(file), "-p", str(folder)], stderr=out)
    try:
        deadline = time.monotonic() + 10
        while True:
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/none")
                break
            assert time.monotonic() < deadline, (folder / "out.log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed")
async def test_nginx_lets_pass_what_the_gate_lets_pass(aurora: Aurora, tmp_path: Path) -> None:
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
        with nginx_before(server, tmp_path) as address:
            # From another address than the proxy's, which is believed about others.
            elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
            async with httpx.AsyncClient(base_url=address, transport=elsewhere) as client:

                async def status(key: str, **headers: str) -> int:
                    bearer = {"authorization": f"Bearer {key}"}
                    answer = await client.post("/api/x", json={"a": 1}, headers=bearer | headers)
                    return answer.status_code

                passed = await client.get("/api/x", headers={"x-api-key": anywhere.key})
                assert (passed.status_code, passed.text) == (200, "passed")
                assert passed.headers["x-organization"] == anywhere.id
                assert (await client.get("/api/x")).status_code == 401
                assert await status(anywhere.key) == 200
                assert await status(generate_api_key("test").key) == 401
                assert await status(narrow.key) == 403
                assert await status(local.key) == 200
                assert await status(far.key) == 403
                # A caller who says of himself where he comes from is not believed.
                forged = {"x-forwarded-for": "203.0.113.9"}
                assert await status(far.key, **forged) == 403
                assert await status(anywhere.key, origin="https://www.hotel.example") == 403
                await revoke(server, anywhere)
                assert await status(anywhere.key) == 401


async def test_a_header_of_an_untrusted_peer_says_nothing(server: Aurora) -> None:
    far = await sign_up(server, ip_whitelist=["203.0.113.0/24"])
    async with server.client("") as client:
        for name in ("x-forwarded-for", "x-real-ip"):
            headers = {"x-api-key": far.key, name: "203.0.113.9"}
            answer = await client.get("/v1/forward-auth", headers=headers)
            assert (answer.status_code, answer.headers["x-aurora-code"]) == (403, "IP_DENIED")
            assert problem_of(answer)["reason"] == "IP_DENIED"
