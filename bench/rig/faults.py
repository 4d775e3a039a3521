"""Sends events without end while PostgreSQL, the server, or the replies are killed, then counts.

The question is one: is what was acknowledged stored once, and in every sum?
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from bench.rig.homes import a_home
from bench.rig.postgres import AURORA, COMMAND_TIMEOUT_S, environment_of
from bench.rig.serving import HOST, free_port

from aurora.core.secrets import generate_service_token
from aurora.db.embedded import EmbeddedServer
from aurora.db.migrator import migrate

SENDERS: Final = 8
BATCH: Final = 25
BETWEEN_KILLS_S: Final = 0.7
BETWEEN_KILLS_EVENTS: Final = 200
"""Acknowledged ones, so that a kill meets work under way on a busy machine too."""
MAX_BETWEEN_KILLS_S: Final = 15.0
READY_TIMEOUT_S: Final = 60.0
REQUEST_TIMEOUT_S: Final = 20.0
MAX_ATTEMPTS: Final = 2_000
DROPPED_REPLIES: Final = 0.3
CHUNK_BYTES: Final = 65_536


@dataclass(slots=True)
class Tally:
    """What was done and what came of it."""

    kills_of_postgres: int = 0
    kills_of_the_server: int = 0
    dropped_replies: int = 0
    acknowledged: set[str] = field(default_factory=set)
    lost: int = 0
    twice: int = 0
    rows: int = 0
    rollup: int = 0
    invoice_basis: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether acknowledged = rows = rollup = invoice basis, and nothing is lost or twice."""
        sums = {len(self.acknowledged), self.rows, self.rollup, self.invoice_basis}
        return len(sums) == 1 and not self.lost and not self.twice


class Proxy:
    """A TCP proxy that drops connections when the answer has come: done, and nobody hears."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self._tally = port, tally
        self._dice = random.Random(1)
        self.is_dropping = True
        self._passing: set[asyncio.Task[None]] = set()

    async def serve(self) -> asyncio.Server:
        """Listen on a free port."""
        return await asyncio.start_server(self._begin, HOST, 0)

    async def close(self) -> None:
        """End what is still passed on."""
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, sink = await asyncio.open_connection(HOST, self._port)
        except OSError:
            writer.transport.abort()
            return
        forth = asyncio.create_task(_pipe(reader, sink))
        try:
            while data := await upstream.read(CHUNK_BYTES):
                if self.is_dropping and self._dice.random() < DROPPED_REPLIES:
                    self._tally.dropped_replies += 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            forth.cancel()
            await asyncio.gather(forth, return_exceptions=True)
            sink.transport.abort()
            writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


class Rig:
    """A PostgreSQL and a server of one's own that can be killed and started again.

    Args:
        home: Of this run.
        settings: Of PostgreSQL; none of them makes it less durable but in a mutant.
        program: What is run with `serve --port …`; a mutant's own in a test.
        claim: What stands in `app.claim_usage_singly()`, and what a mutant puts there.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: dict[str, str] | None = None,
        program: Sequence[str | Path] = (AURORA,),
        claim: tuple[str, str] | None = None,
    ) -> None:
        self.home = home
        self._settings = settings or {}
        self._program = program
        self._token = generate_service_token()
        self.port = free_port()
        self.postgres = EmbeddedServer.start(self.home, settings=self._settings)
        # Not through the home: commands that start its PostgreSQL stop it again.
        asyncio.run(migrate(self.postgres.dsn()))
        self._aurora("migrate")
        organization = self._aurora(
            "org", "create", "--name", "s", "--slug", "sender", "--email", "s@sender.example"
        )
        self.organization_id = str(organization["id"])
        key = self._aurora("key", "create", "--org", "sender", "--name", "k", "--env", "production")
        self.key = str(key["key"])
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as owner:
            if claim is not None:
                _change(owner, *claim)
            # Also a mutant that writes nothing to the disk begins with a customer on it.
            owner.execute("checkpoint")
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def _env(self) -> dict[str, str]:
        return environment_of(self.home) | {
            "AURORA_DATABASE_URL": self.postgres.dsn(user="aurora_app"),
            "AURORA_MIGRATION_DATABASE_URL": self.postgres.dsn(),
            "AURORA_SERVICE_TOKEN": self._token,
        }

    def _aurora(self, *arguments: str) -> Any:
        done = subprocess.run(
            [AURORA, *arguments, "--json"],
            env=self._env,
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_S,
            check=True,
        )
        return json.loads(done.stdout)

    async def start_server(self) -> None:
        """Start `aurora serve` and wait until it is ready."""
        self.server = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            [*self._program, "serve", "--port", str(self.port)],
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        async with asyncio.timeout(READY_TIMEOUT_S), httpx.AsyncClient() as client:
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.get(f"http://{HOST}:{self.port}/readyz")
                    if answer.status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.05)

    def kill_server(self) -> None:
        """End the server as a crash would."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()

    def kill_postgres(self) -> None:
        """End every process of PostgreSQL as a crash would, and start it again."""
        pid = self.postgres.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.postgres = EmbeddedServer.start(self.home, settings=self._settings)

    def stop(self) -> None:
        """End both."""
        self.kill_server()
        self.postgres.stop()


def _change(owner: psycopg.Connection[Any], stands: str, instead: str) -> None:
    row = owner.execute("select pg_get_functiondef('app.claim_usage_singly'::regproc)").fetchone()
    if row is None or stands not in row[0]:
        raise LookupError(f"app.claim_usage_singly() does not hold {stands!r}")
    owner.execute(row[0].replace(stands, instead).encode())


async def run_faults(
    *,
    kills_of_postgres: int,
    kills_of_the_server: int,
    settings: dict[str, str] | None = None,
    program: Sequence[str | Path] = (AURORA,),
    claim: tuple[str, str] | None = None,
) -> Tally:
    """Send, kill, and count."""
    tally = Tally()
    with a_home() as home:
        rig = await asyncio.to_thread(Rig, home, settings=settings, program=program, claim=claim)
        try:
            await rig.start_server()
            await _send_and_kill(rig, tally, kills_of_postgres, kills_of_the_server)
            _count(rig, tally)
        finally:
            await asyncio.to_thread(rig.stop)
    return tally


async def _send_and_kill(rig: Rig, tally: Tally, of_postgres: int, of_the_server: int) -> None:
    proxy = Proxy(rig.port, tally)
    listener = await proxy.serve()
    port = listener.sockets[0].getsockname()[1]
    stop = asyncio.Event()
    async with listener, asyncio.TaskGroup() as group:
        for number in range(SENDERS):
            group.create_task(_send(number, port, rig, tally, stop))
        for number in range(max(of_postgres, of_the_server)):
            await _under_load(tally)
            if number < of_postgres:
                tally.kills_of_postgres += 1
                await asyncio.to_thread(rig.kill_postgres)
            await _under_load(tally)
            if number < of_the_server:
                tally.kills_of_the_server += 1
                rig.kill_server()
                await rig.start_server()
        await asyncio.sleep(BETWEEN_KILLS_S)
        proxy.is_dropping = False
        stop.set()
    await proxy.close()


async def _under_load(tally: Tally) -> None:
    enough = len(tally.acknowledged) + BETWEEN_KILLS_EVENTS
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(BETWEEN_KILLS_S)
    while len(tally.acknowledged) < enough:
        if asyncio.get_running_loop().time() - began > MAX_BETWEEN_KILLS_S:
            return
        await asyncio.sleep(0.02)


async def _send(number: int, port: int, rig: Rig, tally: Tally, stop: asyncio.Event) -> None:
    """Send batches, each until it is acknowledged; every second sender repeats its neighbour's."""
    dice, size = random.Random(number // 2), BATCH if number // 2 % 2 == 0 else 1
    headers = {"authorization": f"Bearer {rig.key}"}
    while not stop.is_set():
        batch = [_an_event(f"{number // 2}-{dice.getrandbits(64):x}") for _ in range(size)]
        # An event alone takes another way than a batch does.
        body = batch if size > 1 else batch[0]
        for _ in range(MAX_ATTEMPTS):
            with suppress(httpx.TransportError):
                async with httpx.AsyncClient(headers=headers, timeout=REQUEST_TIMEOUT_S) as client:
                    answer = await client.post(f"http://{HOST}:{port}/v1/usage/events", json=body)
                if answer.status_code == httpx.codes.OK:
                    _note(answer.json(), batch, tally)
                    break
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise SystemExit(f"answered {answer.status_code}: {answer.text[:300]}")
            await asyncio.sleep(0.05)


def _note(receipt: dict[str, Any], batch: list[dict[str, Any]], tally: Tally) -> None:
    if receipt["accepted"] + receipt["duplicates"] != len(batch):
        raise SystemExit(f"{len(batch)} events were answered with {receipt}")
    tally.acknowledged |= {event["id"] for event in batch}


_MOMENT: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)


def _an_event(event_id: str) -> dict[str, Any]:
    return {
        "id": event_id,
        "timestamp": _MOMENT.isoformat(),
        "endpoint": "/w/forecast",
        "status_code": 200,
        "widget_type": "forecast",
        "widget_impression": True,
    }


def _count(rig: Rig, tally: Tally) -> None:
    of = f"organization_id = '{rig.organization_id}'"
    hour = _MOMENT.replace(minute=0, second=0)
    basis = (
        f"select app.count_billable('{rig.organization_id}', "
        f"'{hour.isoformat()}', '{(hour + timedelta(hours=1)).isoformat()}')"
    )
    with psycopg.connect(rig.postgres.dsn()) as connection:
        found = connection.execute(f"select event_id from usage_analytics where {of}").fetchall()
        stored = [row[0] for row in found]
        rollup = connection.execute(
            f"select coalesce(sum(total_requests), 0)::bigint from daily_usage_summary where {of}"
        ).fetchone()
        billable = connection.execute(basis).fetchone()
    tally.rows = len(stored)
    tally.twice = len(stored) - len(set(stored))
    tally.lost = len(tally.acknowledged - set(stored))
    tally.rollup = int(rollup[0]) if rollup else -1
    tally.invoice_basis = int(billable[0]) if billable else -1


def mutant(code: str) -> tuple[str | Path, ...]:
    """Return a program that changes Aurora before it runs it."""
    return (sys.executable, "-c", f"{code}\nfrom aurora.apps.cli.main import main\nmain()")


ANSWERED_FIRST: Final = """
import asyncio
from aurora.features.usage.group_commit import GroupCommit
from aurora.features.usage.groups import ACCEPTED, Single, Staged
from aurora.features.usage.staging import Outcome

put = GroupCommit._put

def answered_first(self, waiting):
    loop = asyncio.get_running_loop()
    if isinstance(waiting, Staged):
        again = Staged(waiting.staging, loop.create_future())
        waiting.settle(Outcome(waiting.staging.rows))
    else:
        again = Single(waiting.event, waiting.sender, loop.create_future())
        waiting.done.set_result(ACCEPTED)
    loop.call_later(5, put, self, again)

GroupCommit._put = answered_first
"""
"""The wrong version that says so before it is so."""

UNCLAIMED: Final = (
    "    where not exists (",
    "    where false and not exists (",
)
"""An ingest that stores whatever comes, known or not."""
