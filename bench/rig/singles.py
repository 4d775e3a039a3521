"""Single events over many connections: to Aurora, to a bare application, to a user's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg
from bench.rig.batches import PATH
from bench.rig.inserting_peer import TABLE
from bench.rig.load import Outcome, Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median
from bench.rig.postgres import Bench, Customer
from bench.rig.serving import Serving, bare_app, free_port, serving
from bench.rig.usage_events import marked, plain
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

from aurora.features.usage.model import UsageEvent

CONNECTIONS: Final = 128
BODIES: Final = 5_000
SECONDS: Final = 5.0
WARM_UP_S: Final = 1.5
PEERS_DATABASE: Final = "peer"


class Singles:
    """One of the servers under a load of single events.

    Args:
        bench: Where it runs.
        server: The server.
        path: Of every request.
        bodies: Where the events lie.
        headers: Of every request.
    """

    def __init__(
        self, bench: Bench, server: Serving, path: str, bodies: str, headers: dict[str, str]
    ) -> None:
        self._task = Task(
            port=server.port,
            path=path,
            bodies=bodies,
            headers=headers,
            connections=CONNECTIONS,
            repeat=True,
            # Beyond the numbers of the batches.
            fresh=20_000_000,
        )
        self._watch = Stopwatch(server=server.pid, postgres=bench.server.pid)
        self._outcomes: list[Outcome] = []
        self.sent = 0

    def warm_up(self) -> None:
        """Send for a while that does not count."""
        self._send(WARM_UP_S)

    def run(self) -> float:
        """Send for a round; return requests a second."""
        with self._watch:
            outcome = self._send(SECONDS)
        self._outcomes.append(outcome)
        return outcome.per_s

    def figures(self) -> dict[str, float]:
        """Return latencies in ms, and microseconds of CPU a request by process."""
        requests = sum(each.requests for each in self._outcomes)
        cpu = {f"{name}_cpu_us": 1e6 * each / requests for name, each in self._watch.cpu_s.items()}
        return {
            "p50_ms": median([each.p50_ms for each in self._outcomes]),
            "p99_ms": median([each.p99_ms for each in self._outcomes]),
            **cpu,
        }

    def _send(self, seconds: float) -> Outcome:
        self._task.seconds = seconds
        outcome = send_load(self._task)
        self._task.fresh += outcome.requests
        self.sent += outcome.requests
        return outcome


@contextmanager
def peer(bench: Bench) -> Iterator[Serving]:
    """Run what a user would write, on a database of its own on the same PostgreSQL."""
    with psycopg.connect(bench.server.dsn("postgres"), autocommit=True) as owner:
        owner.execute(f"create database {PEERS_DATABASE}".encode())
    with psycopg.connect(bench.server.dsn(PEERS_DATABASE), autocommit=True) as owner:
        for statement in TABLE.split(";"):
            owner.execute(statement.encode())
    parts = conninfo_to_dict(bench.server.dsn(PEERS_DATABASE))
    url = URL.create(
        "postgresql+psycopg",
        username=str(parts["user"]),
        database=str(parts["dbname"]),
        query={"host": str(parts["host"]), "port": str(parts.get("port", 5432))},
    )
    plan: dict[str, Any] = {"dsn": url.render_as_string(hide_password=False), "port": free_port()}
    command = [sys.executable, "-m", "bench.rig.inserting_peer", json.dumps(plan)]
    with serving(command, plan["port"], "/ready", env=bench.env) as server:
        yield server


def compare_singles(
    bench: Bench, server: Serving, customer: Customer, events: Sequence[UsageEvent], rounds: int
) -> tuple[int, dict[str, Any]]:
    """Send single events to all three in turn; return how many Aurora took, and the figures.

    Raises:
        SystemExit: What the peer answered is not what it stored.
    """
    bodies = bench.folder / "singles"
    write_bodies(bodies, (msgspec.json.encode(plain(each)) for each in marked(events[:BODIES])))
    with bare_app(bench) as bare_server, peer(bench) as peer_server:
        headers = {"authorization": f"Bearer {customer.key}"}
        aurora = Singles(bench, server, PATH, str(bodies), headers)
        bare = Singles(bench, bare_server, "/", str(bodies), headers)
        other = Singles(bench, peer_server, "/usage", str(bodies), headers)
        sides = {"": aurora, "bare_": bare, "peer_": other}
        for side in sides.values():
            side.warm_up()
        rates = interleave(rounds, *(side.run for side in sides.values()))
    with psycopg.connect(bench.server.dsn(PEERS_DATABASE)) as owner:
        found = owner.execute("select count(*) from usage_analytics").fetchone()
    if found != (other.sent,):
        raise SystemExit(f"the peer answered {other.sent} requests and stored {found}")
    figures: dict[str, Any] = {"connections": CONNECTIONS}
    for (name, side), rate in zip(sides.items(), rates, strict=True):
        figures[f"{name}requests_per_s"] = round(median(rate), 1)
        figures |= {f"{name}{of}": round(each, 3) for of, each in side.figures().items()}
    figures["of_a_bare_app"] = round(median(rates[0]) / median(rates[1]), 3)
    figures["times_the_peer"] = round(median(rates[0]) / median(rates[2]), 3)
    return aurora.sent, figures
