"""The middleware with the gate in its own process: the same answers, and nothing but PostgreSQL."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.behind_the_gate import behind, until, waiting_in
from tests.journeys.conftest import Aurora, Customer, sign_up

from aurora.apps.in_process import InProcess
from aurora.client import AsyncAurora, Spool, sending
from aurora.client.backend import Plan
from aurora.client.sending import SenderProcess

LEASE_S = 1.0


@pytest.fixture
async def customer(server: Aurora) -> Customer:
    return await sign_up(server, rate_limit_per_hour=50)


def in_process(server: Aurora) -> dict[str, Any]:
    return {"backend": InProcess(server.environment["AURORA_DATABASE_URL"])}


async def requests_of(server: Aurora, customer: Customer) -> int:
    async with AsyncAurora(server.address, server.token) as aurora:
        return (await aurora.usage.summary(customer.id)).totals.requests


async def test_the_limit_is_one_with_auroras_own(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    key = {"x-api-key": customer.key}
    async with behind("", "", tmp_path, **in_process(server)) as (client, _):
        statuses = [(await client.get("/x", headers=key)).status_code for _ in range(60)]
        refused = await client.get("/x", headers=key)
        async with AsyncAurora(server.address, server.token) as aurora:
            elsewhere = await aurora.keys.verify(customer.key)
    assert statuses == [200] * 50 + [429] * 10
    assert int(refused.headers["retry-after"]) > 0
    assert (refused.json()["code"], elsewhere.code) == ("rate_limited", "RATE_LIMITED")
    assert await requests_of(server, customer) == 50
    assert waiting_in(tmp_path) == 0


async def test_a_revoked_key_is_out_within_the_lease(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    key = {"x-api-key": customer.key}
    async with behind("", "", tmp_path, **in_process(server)) as (client, _):
        assert (await client.get("/x", headers=key)).status_code == 200
        async with AsyncAurora(server.address, server.token) as aurora:
            await aurora.keys.revoke(customer.id, customer.key_id)
        revoked_s = time.monotonic()
        while (await client.get("/x", headers=key)).status_code == 200:
            assert time.monotonic() - revoked_s < 2 * LEASE_S
            await asyncio.sleep(0.02)
        assert (await client.get("/x", headers=key)).json()["code"] == "revoked"


async def test_without_postgresql_nothing_passes(tmp_path: Path) -> None:
    nowhere = InProcess("host=127.0.0.1 port=1 dbname=none connect_timeout=1")
    key = {"x-api-key": "tro_test_DemoKeyForTryingAuroraOut12uJbbW"}
    async with behind("", "", tmp_path, backend=nowhere) as (client, _):
        answer = await client.get("/x", headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_what_cannot_be_stored_is_kept_to_be_read(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scope["aurora"].note(country_code="Norway" if scope["path"] == "/odd" else "NO")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with behind("", "", tmp_path, app, **in_process(server)) as (client, middleware):
        for path in ("/odd", "/good"):
            await client.get(path, headers={"x-api-key": customer.key})
        await until(lambda: len(middleware.meter.spool.dead()) == 1)
    assert await requests_of(server, customer) == 1


def test_no_login_is_in_a_repr() -> None:
    assert "secret" not in repr(InProcess("postgresql://aurora:secret@db.example/aurora"))


KILLED = """
import asyncio, os, signal, sys
from aurora.apps.in_process import InProcess
from aurora.client import AuroraMiddleware

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def main(dsn, spool, key):
    middleware = AuroraMiddleware(
        app, backend=InProcess(dsn), spool=spool, durability="before_response"
    )
    statuses = []

    async def send(message):
        statuses.append(message.get("status"))

    scope = {"type": "http", "method": "GET", "path": "/killed", "client": ("192.0.2.1", 1),
             "headers": [(b"x-api-key", key.encode())]}
    for _ in range(5):
        await middleware(dict(scope), None, send)
    assert statuses.count(200) == 5, statuses
    print(middleware.meter._sender._child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_sender_of_a_killed_application_sends_what_it_left_and_ends(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    arguments = [server.environment["AURORA_DATABASE_URL"], str(tmp_path / "spool.db")]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, *arguments, customer.key, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    assert child.returncode == -9
    sender = int(said)
    await until(lambda: not is_running(sender))
    assert await requests_of(server, customer) == 5
    assert waiting_in(tmp_path) == 0


def is_running(pid: int) -> bool:
    """Whether a process lives that is not ours to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_login_is_in_the_senders_arguments(tmp_path: Path) -> None:
    plan = InProcess("postgresql://aurora:secret@db.example/aurora").plan()
    assert plan is not None
    assert "secret" not in repr(plan)
    spool = Spool(tmp_path / "spool.db")
    sender = SenderProcess(spool, Plan("builtins:dict", {"dsn": "secret"}))
    sender.start()
    assert sender._child is not None
    command = Path(f"/proc/{sender._child.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{sender._child.pid}/environ").read_bytes()
    assert b"secret" not in command + environment
    sender.stop(1.0)
    spool.close()


def test_a_sender_that_ended_is_started_again_and_none_fails_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "RESTART_S", 0.0)
    spool = Spool(tmp_path / "spool.db")
    sender = SenderProcess(spool, Plan("builtins:dict", {}))
    sender.start()
    first = sender._child
    assert first is not None
    sender.wake()
    assert sender._child is first
    first.kill()
    first.wait()
    sender.wake()
    assert sender._child is not None
    assert sender._child is not first
    sender.stop(1.0)
    # Where there is no program to run, events wait, and nothing is raised.
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    sender.start()
    sender.wake()
    sender.stop(1.0)
    spool.close()


async def test_a_forked_worker_begins_a_sender_of_its_own(
    server: Aurora, customer: Customer, tmp_path: Path
) -> None:
    program = KILLED.replace(
        "    print(middleware.meter._sender._child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        "    first = middleware.meter._sender._child.pid\n"
        "    if os.fork() == 0:\n"
        "        middleware.meter.start()\n"
        "        own = middleware.meter._sender._child.pid\n"
        "        middleware.meter.close(5.0)\n"
        "        os._exit(0 if own != first else 7)\n"
        "    _, status = os.wait()\n"
        "    await middleware.close()\n"
        "    print(os.waitstatus_to_exitcode(status), flush=True)\n",
    )
    assert program != KILLED
    arguments = [server.environment["AURORA_DATABASE_URL"], str(tmp_path / "spool.db")]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, customer.key, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    assert (child.returncode, said.strip()) == (0, b"0")
    assert waiting_in(tmp_path) == 0
    assert await requests_of(server, customer) == 5
