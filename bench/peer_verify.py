"""Measures POST /v1/keys/verify against what a user would build: FastAPI, SQLAlchemy, Redis.

Run it with `python -m bench.peer_verify`; the last line is JSON. Both answer the same question
about the same key in the same PostgreSQL, under the same server and settings, over 32 connections,
in turn. It needs Debian's redis-server, which it starts by itself on a free port and without a
disk. The value is the ratio of the medians of requests a second.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.rig.load import Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median, print_result
from bench.rig.postgres import Bench, a_bench
from bench.rig.serving import HOST, Serving, aurora_serve, free_port, post, serving
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

GOAL: Final = 1.0
CONNECTIONS: Final = 32
ROUNDS: Final = 5
SECONDS: Final = 3.0
WARM_UP_S: Final = 2.0
START_TIMEOUT_S: Final = 10.0
LIMIT: Final = 2_000_000_000
PATH: Final = "/v1/keys/verify"


class Loaded:
    """One of the two servers under load, with the CPU time of all that serve with it."""

    def __init__(self, server: Serving, bodies: str, **pids: int) -> None:
        self._task = Task(
            port=server.port,
            path=PATH,
            bodies=bodies,
            connections=CONNECTIONS,
            repeat=True,
            seconds=WARM_UP_S,
        )
        self._watch = Stopwatch(server=server.pid, **pids)
        self._requests = 0
        self._p99s: list[float] = []
        send_load(self._task)
        self._task.seconds = SECONDS

    def run(self) -> float:
        """Load it for a round; return requests a second."""
        with self._watch:
            outcome = send_load(self._task)
        self._requests += outcome.requests
        self._p99s.append(outcome.p99_ms)
        return outcome.per_s

    def figures(self) -> dict[str, float]:
        """Return the 99th percentile, and microseconds of CPU a request by process."""
        spent = self._watch.cpu_s.items()
        cpu = {f"{name}_cpu_us": round(1e6 * each / self._requests, 1) for name, each in spent}
        return {"p99_ms": round(median(self._p99s), 2), **cpu}


@contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """Run Debian's redis-server on a free port; give the port and the process.

    Raises:
        SystemExit: It is not installed, or does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not installed; on Debian: apt-get install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port, process.pid
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until_s:
        try:
            with socket.create_connection((HOST, port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("redis-server does not answer")


@contextmanager
def peer(bench: Bench, redis_port: int) -> Iterator[Serving]:
    """Run the peer on the bench's database, as its owner: no row level security slows it."""
    parts = conninfo_to_dict(bench.server.dsn())
    url = URL.create(
        "postgresql+psycopg",
        username=str(parts["user"]),
        database=str(parts["dbname"]),
        query={"host": str(parts["host"]), "port": str(parts.get("port", 5432))},
    )
    plan: dict[str, Any] = {
        "dsn": url.render_as_string(hide_password=False),
        "redis": f"async+redis://{HOST}:{redis_port}",
        "port": free_port(),
    }
    command = [sys.executable, "-m", "bench.rig.peer", json.dumps(plan)]
    with serving(command, plan["port"], "/ready", env=bench.env) as server:
        yield server


def main() -> None:
    """Measure and print."""
    with redis() as (redis_port, redis_pid), a_bench() as bench:
        bench.a_customer("compared")
        options = ("--scope", "aurora:read", "--limit", str(LIMIT), "--env", "production")
        made = bench.aurora("key", "create", "--org", "compared", "--name", "load", *options)
        body = json.dumps({"key": made["key"], "scope": "aurora:read"}).encode()
        bodies = bench.folder / "bodies"
        write_bodies(bodies, [body])
        with aurora_serve(bench) as serve, peer(bench, redis_port) as built:
            for server in (serve, built):
                if json.loads(post(server.port, PATH, body))["code"] != "VALID":
                    raise SystemExit("the key is not accepted")
            postgres = bench.server.pid
            aurora = Loaded(serve, str(bodies), postgres=postgres)
            other = Loaded(built, str(bodies), postgres=postgres, redis=redis_pid)
            rates, other_rates = interleave(ROUNDS, aurora.run, other.run)
    value = median(rates) / median(other_rates)
    print_result(
        "peer_verify",
        value=value,
        unit="times FastAPI + SQLAlchemy + limits on Redis",
        goal=f">= {GOAL}",
        met=value >= GOAL,
        details={
            "connections": CONNECTIONS,
            "rounds": ROUNDS,
            "requests_per_s": median(rates),
            **aurora.figures(),
            "peer_requests_per_s": median(other_rates),
            **{f"peer_{name}": each for name, each in other.figures().items()},
        },
    )


if __name__ == "__main__":
    main()
