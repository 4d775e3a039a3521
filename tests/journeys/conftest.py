"""Aurora as it is run: the server, the worker, and the command line as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.builders import a_slug
from tests.conftest import LOGIN_ROLE, Postgres

from aurora.core.secrets import generate_service_token

PROGRAM = str(Path(sys.executable).with_name("aurora"))
COMMAND_TIMEOUT_S = 60
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 40
SHOWN_LOG_CHARACTERS = 8_000

_LOGS: list[Path] = []


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON and nothing else, after an exit code of 0."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line with which it refused: exit code 1, nothing printed, no traceback."""
        assert self.code == 1, (self.code, self.out, self.err)
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("aurora: ")
        return lines[0]


@dataclass(frozen=True)
class Aurora:
    """A database of one's own, and what runs on it."""

    environment: Mapping[str, str]
    folder: Path
    owner_dsn: str
    token: str
    address: str = ""

    def cli(self, *arguments: str, **environment: str) -> Ran:
        """Run `aurora …` and wait for its end."""
        return run_aurora(*arguments, environment={**self.environment, **environment})

    def json(self, *arguments: str) -> Any:
        """Run `aurora … --json` and return what it says."""
        return self.cli(*arguments, "--json").json

    def client(self, token: str | None = None, **options: Any) -> httpx.AsyncClient:
        """A client of the server; an operator's unless another token or none ("") is given."""
        credential = self.token if token is None else token
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        return httpx.AsyncClient(
            **{"base_url": self.address, "headers": headers, "timeout": 30.0, **options}
        )


def run_aurora(*arguments: str, environment: Mapping[str, str], asked: str = "") -> Ran:
    """Run `aurora …` with this environment alone, and with this on its standard input."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
        input=asked,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def bare_environment(home: Path) -> dict[str, str]:
    """What a command gets of our environment: nothing of Aurora's own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AURORA_HOME": str(home),
    }


def free_port() -> int:
    """A port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    *arguments: str, environment: Mapping[str, str], log: Path, stop: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `aurora …` beside the test; at the end a signal must make it leave with 0."""
    _LOGS.append(log)
    with log.open("ab") as file:
        running = subprocess.Popen(
            [PROGRAM, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield running
        running.send_signal(stop)
        assert running.wait(STOP_TIMEOUT_S) == 0, tail(log)
        assert "Traceback" not in log.read_text("utf-8", "replace"), tail(log)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait(STOP_TIMEOUT_S)


def wait_until_ready(address: str, running: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait for /readyz; False when the process ended first."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while running.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, tail(log)
        time.sleep(0.05)
    return False


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text("utf-8", "replace")[-SHOWN_LOG_CHARACTERS:]


@contextmanager
def served(aurora: Aurora, *, with_worker: bool = False) -> Iterator[Aurora]:
    """Run the server, and the worker where one is wanted, until the block ends."""
    log = aurora.folder / "serve.log"
    if with_worker:
        worker_log = aurora.folder / "worker.log"
        with (
            process("worker", environment=aurora.environment, log=worker_log),
            served(aurora) as running,
        ):
            yield running
        return
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    with process("serve", "--port", port, environment=aurora.environment, log=log) as server:
        assert wait_until_ready(address, server, log), tail(log)
        yield Aurora(aurora.environment, aurora.folder, aurora.owner_dsn, aurora.token, address)


async def installed(postgres: Postgres, template: str, folder: Path) -> Aurora:
    """A fresh database with schema and queue, and the settings with which commands reach it."""
    name = f"journey_{uuid.uuid4().hex[:12]}"
    await postgres.clone(template, name)
    token = generate_service_token()
    owner = postgres.dsn(name)
    environment = bare_environment(folder / "home") | {
        "AURORA_DATABASE_URL": make_conninfo(owner, user=LOGIN_ROLE),
        "AURORA_MIGRATION_DATABASE_URL": owner,
        "AURORA_SERVICE_TOKEN": token,
    }
    aurora = Aurora(environment, folder, owner, token)
    assert (await asyncio.to_thread(aurora.json, "migrate")) == {"applied": []}
    return aurora


@pytest.fixture(scope="module")
async def aurora(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aurora]:
    """A database of this file's own, without a server."""
    found = await installed(postgres, template, tmp_path_factory.mktemp("aurora"))
    yield found
    await postgres.drop(str(conninfo_to_dict(found.owner_dsn)["dbname"]))


@pytest.fixture(scope="module")
async def server(aurora: Aurora) -> AsyncIterator[Aurora]:
    """The server on that database; it must leave with 0 at SIGTERM."""
    with served(aurora) as running:
        yield running


@dataclass(frozen=True)
class Customer:
    """An organization that signed up over HTTP, with its key."""

    id: str
    key_id: str
    key: str


async def sign_up(server: Aurora, **key: Any) -> Customer:
    """Make an organization and a key of it, as an operator does for a customer."""
    hotel = {
        "name": "Lyngen Fjordhotell AS",
        "slug": a_slug(),
        "email": "post@lyngenfjord.example",
        "org_number": "987654325",
        "address": "Fjordveien 4",
        "postal_code": "9060",
        "city": "Lyngseidet",
    }
    fields = {"name": "Website", "scopes": ["aurora:read", "analytics:read", "billing:read"]}
    async with server.client() as operator:
        organization = (await operator.post("/v1/organizations", json=hotel)).json()
        path = f"/v1/organizations/{organization['id']}/keys"
        made = (await operator.post(path, json=fields | key)).json()
    return Customer(organization["id"], made["id"], made["key"])


async def slug_of(server: Aurora, customer: Customer) -> str:
    """How commands name the organization."""
    async with server.client() as operator:
        slug: str = (await operator.get(f"/v1/organizations/{customer.id}")).json()["slug"]
    return slug


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """The problem document of a refusal, which must be a 4xx and whole (RFC 9457)."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem: dict[str, Any] = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"].endswith(problem["code"])
    assert problem["title"].strip()
    assert problem["detail"].strip()
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Show the ends of the processes' logs with a failure."""
    report: Any = yield
    if report.failed:
        report.sections.extend((str(log), tail(log)) for log in _LOGS if log.exists())
    return report
