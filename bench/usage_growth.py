"""Measures taking events where a year of them is there already, beside where few are.

Run it with `python -m bench.usage_growth [--small N] [--large N]`; the last line is JSON. Two
databases on one durable PostgreSQL, with the settings that Aurora gives its own, hold forty days of
the same organizations, one with more traffic: raw rows, their ids, and their rollups. To a server
of each the same batches of 1,000 are sent over HTTP in turn; every batch names all organizations,
so that it touches the ids everywhere. The value is the ratio of the medians of events a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID

import psycopg
from bench.rig.batches import OverHttp
from bench.rig.measure import interleave, median, print_result
from bench.rig.postgres import AURORA, Bench, Customer, a_bench
from bench.rig.serving import Serving, free_port, serving
from bench.rig.traffic import fill_usage
from bench.rig.usage_events import recent_events

from aurora.core.secrets import generate_service_token
from aurora.features.usage.model import UsageEvent

GOAL: Final = 0.9
SMALL: Final = 1_000_000
LARGE: Final = 4_000_000
MAX_ROWS: Final = 50_000_000
ORGANIZATIONS: Final = 20
BATCH: Final = 1_000
EVENTS_A_ROUND: Final = 50_000
WARM_UPS: Final = 6
"""Until most pages of the larger index were touched since the database was filled, as they are in
one that runs: the first touch reads a page in, and after a checkpoint writes all of it down."""
ROUNDS: Final = 7
WORLD: Final = f"""
insert into organizations (id, name, slug, email)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Hotel', 'hotel-' || n,
  'post@hotel.example'
from generate_series(1, {ORGANIZATIONS}) n;
insert into api_keys (id, organization_id, name, key)
select ('00000000-0000-4000-a000-' || lpad(n::text, 12, '0'))::uuid,
  ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Website',
  generate_api_key('production')
from generate_series(1, {ORGANIZATIONS}) n
"""


class Side:
    """One of the two databases, with a server on it.

    Args:
        bench: Whose PostgreSQL it is on.
        name: Of the database.
        rows: That are there when the first event comes.
        running: Ends the server.
        events: Of a round.
    """

    def __init__(
        self,
        bench: Bench,
        name: str,
        rows: int,
        running: ExitStack,
        events: Sequence[UsageEvent],
    ) -> None:
        self.rows, self._dsn = rows, bench.server.dsn(name)
        token = generate_service_token()
        env = bench.env | {
            "AURORA_DATABASE_URL": bench.server.dsn(name, user="aurora_app"),
            "AURORA_MIGRATION_DATABASE_URL": self._dsn,
            "AURORA_SERVICE_TOKEN": token,
        }
        bench.server.create_database(name)
        bench.aurora("migrate", env=env)
        with psycopg.connect(self._dsn, autocommit=True) as owner:
            for statement in WORLD.split(";"):
                owner.execute(statement.encode())
        self.filled_s = fill_usage(self._dsn, rows, organizations=ORGANIZATIONS)
        print(f"{name}: {rows:,} rows filled in {self.filled_s}", flush=True)
        port = free_port()
        server: Serving = running.enter_context(
            serving([AURORA, "serve", "--port", str(port)], port, "/readyz", env=env)
        )
        sender = Customer("", name, "", token)
        self.http = OverHttp(bench, server, sender, events, BATCH)
        self._wal_bytes = 0

    def run(self) -> float:
        """Send a round; return events a second."""
        before = self._wal()
        rate = self.http.run()
        self._wal_bytes += self._wal() - before
        return rate

    def forget(self) -> None:
        """Begin to measure here."""
        self.http.forget()
        self._wal_bytes = 0

    def figures(self) -> dict[str, Any]:
        """Return what stands beside the rate.

        Raises:
            SystemExit: An event is not there, or not counted.
        """
        expected = self.rows + self.http.sent
        with psycopg.connect(self._dsn) as owner:
            found = owner.execute(
                "select (select count(*) from usage_analytics),"
                " (select sum(requests)::bigint from usage_daily_series where dimension = 'total'),"
                " (select count(*) from usage_event_ids),"
                " pg_relation_size('usage_event_ids_pkey') / 1048576"
            ).fetchone()
        if found is None or found[:3] != (expected,) * 3:
            raise SystemExit(f"{expected} events became {found} rows, counted, and claimed")
        us = 1e6 / (ROUNDS * EVENTS_A_ROUND)
        return {
            "rows": self.rows,
            "p99_ms": round(median([each.p99_ms for each in self.http.outcomes]), 1),
            "server_cpu_us": round(self.http.watch.cpu_s["server"] * us, 1),
            "postgres_cpu_us": round(self.http.watch.cpu_s["postgres"] * us, 1),
            "wal_bytes_an_event": round(self._wal_bytes / (ROUNDS * EVENTS_A_ROUND)),
            "index_of_ids_mb": int(found[3]),
            "filled_s": self.filled_s,
        }

    def _wal(self) -> int:
        with psycopg.connect(self._dsn) as owner:
            found = owner.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
        return 0 if found is None else int(found[0])


def spread(events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """Return the events with the keys of all organizations in turn."""
    for number, event in enumerate(events):
        event.api_key_id = UUID(f"00000000-0000-4000-a000-{1 + number % ORGANIZATIONS:012}")
    return list(events)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--small", type=int, default=SMALL)
    parser.add_argument("--large", type=int, default=LARGE)
    asked = parser.parse_args()
    if not 1 <= asked.small <= asked.large <= MAX_ROWS:
        parser.error(f"1 <= small <= large <= {MAX_ROWS:,}")
    events = spread(list(recent_events(EVENTS_A_ROUND)))
    with a_bench() as bench, ExitStack() as running:
        sides = [
            Side(bench, name, rows, running, events)
            for name, rows in (("small", asked.small), ("large", asked.large))
        ]
        for side in sides * WARM_UPS:
            side.run()
            side.forget()
        small, large = interleave(ROUNDS, *(side.run for side in sides))
        value = median(large) / median(small)
        details = {
            "small": {"events_per_s": round(median(small)), **sides[0].figures()},
            "large": {"events_per_s": round(median(large)), **sides[1].figures()},
        }
    print_result(
        "usage_growth",
        value=value,
        unit=f"of the events/s that {asked.small:,} rows let in, with {asked.large:,}",
        goal=f">= {GOAL}",
        met=value >= GOAL,
        details={**details, "rounds": ROUNDS, "events_a_round": EVENTS_A_ROUND, "durable": True},
    )


if __name__ == "__main__":
    main()
