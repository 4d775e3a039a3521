"""Measures the gate in process, over HTTP beside a bare application, cold, and with a million keys.

Run it with `python -m bench.gate`; the last line is JSON. Over HTTP both servers run under uvicorn
with the same settings, get the same body over 32 connections, and are loaded in turn; the value is
the ratio of the medians of requests a second. Then each is loaded with half of what it managed,
each request timed from the moment it was due. Beside a cold key stands what an empty transaction
takes.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from bench.rig.load import Outcome, Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median, on_core, print_result, rss_mb
from bench.rig.postgres import Bench, Customer, a_bench
from bench.rig.serving import Serving, aurora_serve, bare_app, post

from aurora.core.secrets import generate_api_key
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate.api import verify_at_once
from aurora.features.gate.model import KeyRow, VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.limits.taking import Limits
from aurora.integrations.hot import PlainRequest

GOAL: Final = 0.60
WARM_GOAL_US: Final = 10.0
COLD_GOAL_MS: Final = 2.0
P99_GOAL_MS: Final = 10.0
SLOWDOWN_GOAL: Final = 1.5
PATH: Final = "/v1/keys/verify"
CONNECTIONS: Final = 32
ROUNDS: Final = 5
SECONDS: Final = 3.0
WARM_UP_S: Final = 1.0
UNLIMITED: Final = 2_000_000_000
KEYS: Final = 1_000_000
ORGANIZATIONS: Final = 10_000
COLD_KEYS: Final = 300
CALLS: Final = 2_000
SAMPLES: Final = 30
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1


class Loaded:
    """One of the two servers under load, with the CPU time it and PostgreSQL spend."""

    def __init__(self, server: Serving, bodies: Path, postgres_pid: int) -> None:
        self._task = Task(
            port=server.port, path=PATH, bodies=str(bodies), connections=CONNECTIONS, repeat=True
        )
        self._watch = Stopwatch(server=server.pid, postgres=postgres_pid)
        self.outcomes: list[Outcome] = []
        self._send(WARM_UP_S)

    def run(self) -> float:
        """Load it for a round; return requests a second."""
        with self._watch:
            self.outcomes.append(self._send(SECONDS))
        return self.outcomes[-1].per_s

    def at(self, per_s: float) -> float:
        """Load it with so many requests a second; return their 99th percentile in milliseconds."""
        self._task.per_s = per_s
        return self._send(SECONDS).p99_ms

    def cpu_us(self, name: str) -> float:
        """Return microseconds of CPU a request, of the `server` or of `postgres`."""
        return 1e6 * self._watch.cpu_s[name] / sum(each.requests for each in self.outcomes)

    def p99_ms(self) -> float:
        """Return the median of the rounds' 99th percentiles, in milliseconds."""
        return median([outcome.p99_ms for outcome in self.outcomes])

    def _send(self, seconds: float) -> Outcome:
        self._task.seconds = seconds
        with on_core(LOAD_CORE):
            return send_load(self._task)


def over_http(bench: Bench, customer: Customer) -> dict[str, Any]:
    """Measure POST /v1/keys/verify beside the bare application."""
    bodies = bench.folder / "bodies"
    body = json.dumps({"key": customer.key, "ip": "192.0.2.7", "scope": "aurora:read"}).encode()
    write_bodies(bodies, [body])
    with ExitStack() as stack:
        with on_core(SERVER_CORE):
            serve = stack.enter_context(aurora_serve(bench))
            bare = stack.enter_context(bare_app(bench))
        if json.loads(post(serve.port, PATH, body))["code"] != "VALID":
            raise SystemExit("the key is not accepted")
        aurora = Loaded(serve, bodies, bench.server.pid)
        limit = Loaded(bare, bodies, bench.server.pid)
        rates, limit_rates = interleave(ROUNDS, aurora.run, limit.run)
        half_p99s, bare_half_p99s = interleave(
            3, lambda: aurora.at(median(rates) / 2), lambda: limit.at(median(limit_rates) / 2)
        )
        return {
            "requests_per_s": median(rates),
            "p99_ms": aurora.p99_ms(),
            "half_load_p99_ms": median(half_p99s),
            "server_cpu_us": aurora.cpu_us("server"),
            "postgres_cpu_us": aurora.cpu_us("postgres"),
            "bare_requests_per_s": median(limit_rates),
            "bare_p99_ms": limit.p99_ms(),
            "bare_half_load_p99_ms": median(bare_half_p99s),
            "bare_cpu_us": limit.cpu_us("server"),
            "ratio": median(rates) / median(limit_rates),
        }


async def in_process(bench: Bench, customer: Customer, cold: list[str]) -> dict[str, float]:
    """Measure a decision and a limit on a warm key, and keys that nobody remembers."""
    dsn = bench.server.dsn()
    pool = await open_pool(dsn, name="bench-gate")
    limits = Limits(pool)
    gate = Gate(pool, limiter=limits)
    gate.start(dsn)
    asked = VerifyRequest(key=customer.key, ip="192.0.2.7", scope="aurora:read")
    took_us: list[float] = []
    # One lease has to cover a sample: the limiter learns how much is wanted.
    while len(took_us) < SAMPLES:
        await gate.verify(asked)
        began, done = time.perf_counter(), 0
        while done < CALLS and gate.verify_at_once(asked) is not None:
            done += 1
        if done == CALLS:
            took_us.append(1e6 * (time.perf_counter() - began) / CALLS)
        await asyncio.sleep(0)
    cold_ms, bare_ms, empty_ms = [], [], []
    for key in cold:
        began = time.perf_counter()
        verdict = await gate.verify(VerifyRequest(key=key))
        cold_ms.append(1e3 * (time.perf_counter() - began))
        if not verdict.valid:
            raise SystemExit(f"a cold key is {verdict.code}")
    gate.cache.clear()
    for key in cold:
        began = time.perf_counter()
        await gate.verify(VerifyRequest(key=key), takes=False)
        bare_ms.append(1e3 * (time.perf_counter() - began))
        began = time.perf_counter()
        async with transaction(pool, PLATFORM) as conn:
            await conn.execute("select 1")
        empty_ms.append(1e3 * (time.perf_counter() - began))
    await gate.stop()
    await limits.close()
    await pool.close()
    return {
        "warm_us": median(took_us),
        "cold_ms": median(bare_ms),
        "cold_with_first_lease_ms": median(cold_ms),
        "empty_transaction_ms": median(empty_ms),
    }


async def with_many_keys() -> dict[str, float]:
    """Measure 1,000,000 remembered keys beside one, and the memory.

    A decision alone is a microsecond or two of waiting for memory more; what a question costs from
    the body of its request to the body of its answer is what the goal is about.
    """
    # Nothing is looked up here, so there is no pool.
    gate = Gate(cast("Pool", None))
    gate.watch.fresh_until = float("inf")
    before_mb = rss_mb(_pid())
    keys = [f"tro_live_{number:032d}" for number in range(KEYS)]
    names_mb = rss_mb(_pid())
    for number, key in enumerate(keys):
        digest = hashlib.sha256(key.encode()).digest()
        gate.cache.keep(digest, gate.cache.compile(_row(number)), gate.cache.generation)
    held_mb = rss_mb(_pid())
    gc.freeze()
    chosen = random.Random(1).sample(keys, CALLS * 5)
    # Each question has a text of its own, as when it comes out of a request: what is compared is
    # what is remembered, and not whether the question itself is in the CPU's caches.
    chosen = [f"{key[:9]}{key[9:]}" for key in chosen]
    few = [f"{keys[0][:9]}{keys[0][9:]}" for _ in chosen]

    def decided(asked: list[str]) -> float:
        requests = [VerifyRequest(key=key, scope="aurora:read") for key in asked]
        return _cpu_us(gate.verify_at_once, requests)

    def answered(asked: list[str]) -> float:
        bodies = [json.dumps({"key": key, "scope": "aurora:read"}).encode() for key in asked]
        state = {"gate": gate}
        return _cpu_us(lambda body: verify_at_once(PlainRequest(body, {}, None, state)), bodies)

    one_us, many_us, one_answer_us, many_answers_us = interleave(
        SAMPLES,
        lambda: decided(few),
        lambda: decided(chosen),
        lambda: answered(few),
        lambda: answered(chosen),
    )
    return {
        "million_mb": held_mb - names_mb,
        "keys_themselves_mb": names_mb - before_mb,
        "one_key_cpu_us": median(one_us),
        "million_keys_cpu_us": median(many_us),
        "million_decision_slowdown": median(many_us) / median(one_us),
        "one_key_answer_cpu_us": median(one_answer_us),
        "million_keys_answer_cpu_us": median(many_answers_us),
        "million_slowdown": median(many_answers_us) / median(one_answer_us),
    }


def _cpu_us(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return the microseconds of CPU that an item takes."""
    began = time.process_time()
    for item in items:
        work(item)
    return 1e6 * (time.process_time() - began) / len(items)


def _row(number: int) -> KeyRow:
    return KeyRow(
        id=UUID(int=number),
        organization_id=UUID(int=number % ORGANIZATIONS),
        organization_status="active",
        plan_id="basic",
        kind="secret",
        environment="production",
        scopes=["aurora:read", "analytics:read"],
        status="active",
        not_before=None,
        expires_at=None,
        allowed_origins=["*"],
        ip_whitelist=None,
        rate_limit_tier="basic",
        rate_limit_per_hour=10_000,
        burst_per_second=None,
    )


def _pid() -> int:
    return os.getpid()


def main() -> None:
    """Measure and print."""
    with a_bench() as bench:
        customer = bench.a_customer("verified")
        bench.execute(f"update api_keys set rate_limit_per_hour = {UNLIMITED}")
        cold = [generate_api_key("production").key for _ in range(COLD_KEYS)]
        rows = ", ".join(f"('{customer.organization_id}', '{key}', 'cold')" for key in cold)
        bench.execute(f"insert into api_keys (organization_id, key, name) values {rows}")
        details: dict[str, Any] = asyncio.run(in_process(bench, customer, cold))
        details |= over_http(bench, customer)
    details |= asyncio.run(with_many_keys())
    value = details.pop("ratio")
    met = (
        value >= GOAL
        and details["warm_us"] <= WARM_GOAL_US
        and details["cold_ms"] <= COLD_GOAL_MS
        and details["half_load_p99_ms"] <= P99_GOAL_MS
        and details["million_slowdown"] <= SLOWDOWN_GOAL
    )
    print_result(
        "gate",
        value=value,
        unit="of a bare ASGI app",
        goal=(
            f">= {GOAL}; warm <= {WARM_GOAL_US} µs; cold <= {COLD_GOAL_MS} ms; "
            f"p99 at half load <= {P99_GOAL_MS} ms; 1,000,000 keys <= {SLOWDOWN_GOAL}"
        ),
        met=met,
        details={"connections": CONNECTIONS, "rounds": ROUNDS, **details},
    )


if __name__ == "__main__":
    main()
