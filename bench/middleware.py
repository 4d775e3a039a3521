"""Measures a trivial application behind the middleware against the same one without it.

Run it with `python -m bench.middleware`; the last line is JSON. The first example of FastAPI, and
a bare ASGI application that answers a constant, are each served bare, behind the middleware with
the gate in process, and behind it with Aurora over HTTP, in turn. The spool is written and events
are committed in PostgreSQL while the load runs; what is not committed when it ends is waited for
before the next one begins (`drain_s`). The value is the ratio of the medians of requests a second
of FastAPI's example with the gate in process; the bare application, which no framework slows, is
printed beside it.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.rig.load import Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median, print_result
from bench.rig.postgres import Bench, a_bench
from bench.rig.serving import Serving, aurora_serve, free_port, serving

from aurora.client import Spool

GOAL: Final = 0.70
CONNECTIONS: Final = 32
ROUNDS: Final = 5
SECONDS: Final = 2.0
WARM_UP_S: Final = 1.0
APPS: Final = ("bare", "fastapi")
BACKENDS: Final = ("none", "in_process", "remote")
FLUSHED_S: Final = 0.2
MAX_DRAIN_S: Final = 60.0
LIMIT: Final = 2_000_000_000


class Loaded:
    """One application under load, with the CPU time that it, PostgreSQL, and Aurora spend."""

    def __init__(
        self, server: Serving, bodies: str, key: str, spool: Path | None, **pids: int
    ) -> None:
        self._spool = spool
        self.drains_s: list[float] = []
        self._task = Task(
            port=server.port,
            path="/hello",
            bodies=bodies,
            headers={"authorization": f"Bearer {key}"},
            connections=CONNECTIONS,
            repeat=True,
            seconds=WARM_UP_S,
        )
        self._watch = Stopwatch(app=server.pid, **pids)
        self.requests = 0
        self.p99s: list[float] = []
        send_load(self._task)
        self._drain()
        self._task.seconds = SECONDS

    def run(self) -> float:
        """Load it for a round; return requests a second."""
        with self._watch:
            outcome = send_load(self._task)
            self.drains_s.append(self._drain())
        self.requests += outcome.requests
        self.p99s.append(outcome.p99_ms)
        return outcome.per_s

    def _drain(self) -> float:
        """Wait until nothing waits in the spool; return the seconds that took."""
        if self._spool is None:
            return 0.0
        began_s = time.perf_counter()
        spool = Spool(self._spool)
        time.sleep(FLUSHED_S)
        while spool.waiting:
            if time.perf_counter() - began_s > MAX_DRAIN_S:
                raise SystemExit(f"{spool.waiting} events are not committed")
            time.sleep(0.05)
        spool.close()
        return time.perf_counter() - began_s

    def cpu_us(self) -> dict[str, float]:
        """Return microseconds of CPU a request, by process."""
        spent = self._watch.cpu_s.items()
        return {name: round(1e6 * each / self.requests, 1) for name, each in spent}


def main() -> None:
    """Measure and print."""
    with a_bench() as bench, ExitStack() as running, aurora_serve(bench) as aurora:
        key = _a_key(bench)
        bodies = bench.folder / "bodies"
        write_bodies(bodies, [b"{}"])
        token = (bench.server.home / "service_token").read_text("ascii").strip()
        loaded: dict[tuple[str, str], Loaded] = {}
        for app in APPS:
            for backend in BACKENDS:
                plan: dict[str, Any] = {
                    "app": app,
                    "backend": backend,
                    "durability": "after_response",
                    "dsn": bench.server.dsn(user="aurora_app"),
                    "url": f"http://127.0.0.1:{aurora.port}",
                    "token": token,
                    "spool": str(bench.folder / f"{app}-{backend}.db"),
                    "port": free_port(),
                }
                command = [sys.executable, "-m", "bench.rig.behind", json.dumps(plan)]
                server = running.enter_context(
                    serving(command, plan["port"], "/ready", env=bench.env)
                )
                spool = None if backend == "none" else Path(plan["spool"])
                loaded[app, backend] = Loaded(
                    server, str(bodies), key, spool, postgres=bench.server.pid, aurora=aurora.pid
                )
        figures = interleave(ROUNDS, *[each.run for each in loaded.values()])
        rates = dict(zip(loaded, [median(each) for each in figures], strict=True))
    _print(rates, loaded)


def _a_key(bench: Bench) -> str:
    bench.a_customer("measured")
    options = ("--scope", "aurora:read", "--limit", str(LIMIT), "--env", "production")
    made = bench.aurora("key", "create", "--org", "measured", "--name", "load", *options)
    return str(made["key"])


def _print(rates: dict[tuple[str, str], float], loaded: dict[tuple[str, str], Loaded]) -> None:
    ratios = {
        f"{app}_{backend}_ratio": rates[app, backend] / rates[app, "none"]
        for app in APPS
        for backend in BACKENDS[1:]
    }
    value = ratios["fastapi_in_process_ratio"]
    print_result(
        "middleware",
        value=value,
        unit="of the application without it",
        goal=f">= {GOAL}",
        met=value >= GOAL,
        details={
            "connections": CONNECTIONS,
            "rounds": ROUNDS,
            **ratios,
            **{f"{app}_{backend}_per_s": rate for (app, backend), rate in rates.items()},
            **{f"{a}_{b}_cpu_us": each.cpu_us() for (a, b), each in loaded.items()},
            **{
                f"{a}_{b}_drain_s": median(e.drains_s)
                for (a, b), e in loaded.items()
                if b != "none"
            },
            **{f"{a}_{b}_p99_ms": median(each.p99s) for (a, b), each in loaded.items()},
        },
    )


if __name__ == "__main__":
    main()
