"""Measures POST /v1/usage/events in batches of 1,000 against a raw COPY of the same rows.

Run it with `python -m bench.usage_ingest`; the last line is JSON. The batches go over HTTP on two
connections to a real `aurora serve`, deduplicated and counted; the COPY writes finished rows on
one connection into the same table with the same indexes, a commit per 1,000. Both take turns on
the same durable PostgreSQL; the value is the ratio of the medians of rows a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from bench.rig.access_logs import DAYS, FIRST_SECOND, write_access_log
from bench.rig.load import Outcome, Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median, print_result, rss_mb
from bench.rig.postgres import Bench, Customer, a_bench
from bench.rig.raw_copy import RawCopy, finished_row, in_batches
from bench.rig.serving import Serving, aurora_serve

from aurora.features.usage.importing import Defaults, parse_file
from aurora.features.usage.model import UsageEvent

GOAL: Final = 0.50
GOAL_EVENTS_PER_S: Final = 30_000
CONNECTIONS: Final = 2
BATCH: Final = 1_000
BATCHES_A_ROUND: Final = 50
ROUNDS: Final = 5
TIMEOUT_S: Final = 120.0


def recent_events(rounds: int) -> Iterator[list[UsageEvent]]:
    """Yield the events of each round: two weeks of traffic that end now."""
    count = rounds * BATCHES_A_ROUND * BATCH
    shift = datetime.now(UTC) - FIRST_SECOND - timedelta(days=DAYS)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        write_access_log(log, count)
        events: list[UsageEvent] = []
        for event in parse_file(log, defaults=Defaults()):
            if isinstance(event, UsageEvent):
                event.timestamp += shift
                events.append(event)
                if len(events) == BATCHES_A_ROUND * BATCH:
                    yield events
                    events = []


def as_body(events: list[UsageEvent]) -> bytes:
    """Return the JSON array that a client would send: what an event does not say is left out."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(events)
    return msgspec.json.encode(
        [{name: value for name, value in event.items() if value is not None} for event in plain]
    )


class OverHttp:
    """The real path: one round of batches from a load generator to the server."""

    def __init__(self, bench: Bench, server: Serving, customer: Customer) -> None:
        self._bodies = bench.folder / "bodies"
        self._task = Task(
            port=server.port,
            path="/v1/usage/events",
            bodies=str(self._bodies),
            headers={"authorization": f"Bearer {customer.key}"},
            connections=CONNECTIONS,
            seconds=TIMEOUT_S,
        )
        self.watch = Stopwatch(server=server.pid, postgres=bench.server.pid)
        self.outcomes: list[Outcome] = []

    def run(self, events: list[UsageEvent]) -> float:
        """Send the events; return events a second."""
        write_bodies(self._bodies, (as_body(batch) for batch in in_batches(events, BATCH)))
        with self.watch:
            outcome = send_load(self._task)
        self.outcomes.append(outcome)
        return outcome.requests * BATCH / outcome.wall_s


class Limit:
    """The raw COPY of the same events, for an organization of its own."""

    def __init__(self, bench: Bench) -> None:
        self._copy = RawCopy(bench.server.dsn())
        self._organization, self._key = uuid4(), uuid4()
        self.watch = Stopwatch(postgres=bench.server.pid)
        self.client_cpu_s = 0.0

    def run(self, events: list[UsageEvent]) -> float:
        """Copy the events; return rows a second."""
        rows = [self._row(event) for event in events]
        wall_s = 0.0
        with self.watch:
            for batch in in_batches(rows, BATCH):
                took_s, cpu_s = self._copy.write(batch)
                wall_s += took_s
                self.client_cpu_s += cpu_s
        return len(rows) / wall_s

    def close(self) -> None:
        """Close the connection."""
        self._copy.close()

    def _row(self, event: UsageEvent) -> tuple[Any, ...]:
        event.api_key_id = self._key
        return finished_row(event, self._organization)


def measure(bench: Bench) -> None:
    """Run both in turn and print the result."""
    customer = bench.a_customer("sender")
    with aurora_serve(bench) as server:
        http, limit = OverHttp(bench, server, customer), Limit(bench)
        # The first round warms caches, connections, and partitions, and does not count.
        warm_up, *rounds = recent_events(ROUNDS + 1)
        http.run(warm_up)
        limit.run(warm_up)
        http.outcomes.clear()
        http.watch.reset()
        limit.watch.reset()
        limit.client_cpu_s = 0.0
        left = {"http": iter([_copied(each) for each in rounds]), "copy": iter(rounds)}
        rates, limit_rates = interleave(
            ROUNDS,
            lambda: http.run(next(left["http"])),
            lambda: limit.run(next(left["copy"])),
        )
        limit.close()
        check_counted(bench, customer, (ROUNDS + 1) * BATCHES_A_ROUND * BATCH)
        memory_mb = rss_mb(server.pid)
    events = ROUNDS * BATCHES_A_ROUND * BATCH
    value = median(rates) / median(limit_rates)
    per_event_us = 1e6 / events
    print_result(
        "usage_ingest",
        value=value,
        unit="of a raw COPY",
        goal=f">= {GOAL} and >= {GOAL_EVENTS_PER_S:,} events/s",
        met=value >= GOAL and median(rates) >= GOAL_EVENTS_PER_S,
        details={
            "batch": BATCH,
            "connections": CONNECTIONS,
            "rounds": ROUNDS,
            "events_a_round": BATCHES_A_ROUND * BATCH,
            "events_per_s": median(rates),
            "p50_ms": median([each.p50_ms for each in http.outcomes]),
            "p99_ms": median([each.p99_ms for each in http.outcomes]),
            "server_cpu_us": http.watch.cpu_s["server"] * per_event_us,
            "postgres_cpu_us": http.watch.cpu_s["postgres"] * per_event_us,
            "load_cpu_us": sum(each.cpu_s for each in http.outcomes) * per_event_us,
            "server_rss_mb": memory_mb,
            "raw_copy_rows_per_s": median(limit_rates),
            "raw_copy_connections": 1,
            "raw_copy_client_cpu_us": limit.client_cpu_s * per_event_us,
            "raw_copy_postgres_cpu_us": limit.watch.cpu_s["postgres"] * per_event_us,
            "durable": True,
        },
    )


def _copied(events: list[UsageEvent]) -> list[UsageEvent]:
    """The two sides write their own key into an event."""
    return [msgspec.structs.replace(event) for event in events]


def check_counted(bench: Bench, customer: Customer, events: int) -> None:
    """Check that every event is stored and counted once.

    Raises:
        SystemExit: The numbers differ.
    """
    of = f"where organization_id = '{UUID(customer.organization_id)}'"
    rows = bench.fetch(f"select count(*) from usage_analytics {of}")
    counted = bench.fetch(
        f"select sum(requests)::bigint from usage_daily_series {of} and dimension = 'total'"
    )
    if (rows, counted) != (events, events):
        raise SystemExit(f"{events} events became {rows} rows and {counted} counted")


def main() -> None:
    """Measure."""
    with a_bench() as bench:
        measure(bench)


if __name__ == "__main__":
    main()
