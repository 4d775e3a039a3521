"""Measures POST /v1/keys/verify against a bare ASGI application that answers a constant.

Run it with `python -m bench.key_verify`; the last line is JSON. Both run under uvicorn with the
same settings, get the same body over 32 connections, and are loaded in turn; the value is the
ratio of the medians of requests a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bench.rig.load import Outcome, Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median, print_result
from bench.rig.postgres import a_bench
from bench.rig.serving import Serving, aurora_serve, bare_app, post

GOAL: Final = 0.60
PATH: Final = "/v1/keys/verify"
CONNECTIONS: Final = 32
ROUNDS: Final = 5
SECONDS: Final = 3.0
WARM_UP_S: Final = 1.0


class Loaded:
    """One of the two servers under load, with the CPU time it and PostgreSQL spend."""

    def __init__(self, server: Serving, bodies: Path, postgres_pid: int) -> None:
        self._task = Task(
            port=server.port,
            path=PATH,
            bodies=str(bodies),
            connections=CONNECTIONS,
            repeat=True,
        )
        self._watch = Stopwatch(server=server.pid, postgres=postgres_pid)
        self.outcomes: list[Outcome] = []
        self._send(WARM_UP_S)

    def run(self) -> float:
        """Load it for a round; return requests a second."""
        with self._watch:
            self.outcomes.append(self._send(SECONDS))
        return self.outcomes[-1].per_s

    def cpu_us(self, name: str) -> float:
        """Return microseconds of CPU a request, of the `server` or of `postgres`."""
        return 1e6 * self._watch.cpu_s[name] / sum(each.requests for each in self.outcomes)

    def p99_ms(self) -> float:
        """Return the median of the rounds' 99th percentiles, in milliseconds."""
        return median([outcome.p99_ms for outcome in self.outcomes])

    def _send(self, seconds: float) -> Outcome:
        self._task.seconds = seconds
        return send_load(self._task)


def main() -> None:
    """Measure and print."""
    with a_bench() as bench:
        customer = bench.a_customer("verified")
        bodies = bench.folder / "bodies"
        asked = {"key": customer.key, "origin": "https://www.hotel.example", "scope": "aurora:read"}
        body = json.dumps(asked).encode()
        write_bodies(bodies, [body])
        with aurora_serve(bench) as serve, bare_app(bench) as bare:
            if json.loads(post(serve.port, PATH, body))["code"] != "VALID":
                raise SystemExit("the key is not accepted")
            aurora = Loaded(serve, bodies, bench.server.pid)
            limit = Loaded(bare, bodies, bench.server.pid)
            rates, limit_rates = interleave(ROUNDS, aurora.run, limit.run)
    value = median(rates) / median(limit_rates)
    print_result(
        "key_verify",
        value=value,
        unit="of a bare ASGI app",
        goal=f">= {GOAL}",
        met=value >= GOAL,
        details={
            "connections": CONNECTIONS,
            "rounds": ROUNDS,
            "requests_per_s": median(rates),
            "p99_ms": aurora.p99_ms(),
            "server_cpu_us": aurora.cpu_us("server"),
            "postgres_cpu_us": aurora.cpu_us("postgres"),
            "bare_requests_per_s": median(limit_rates),
            "bare_p99_ms": limit.p99_ms(),
            "bare_cpu_us": limit.cpu_us("server"),
            "meaning": "every verification asks PostgreSQL; a process cache comes with the gate",
        },
    )


if __name__ == "__main__":
    main()
