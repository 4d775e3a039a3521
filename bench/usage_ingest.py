"""Measures POST /v1/usage/events: in batches beside a raw COPY, singly beside a bare application.

Run it with `python -m bench.usage_ingest [--minutes N]`; the last line is JSON. Events go over HTTP
to a real `aurora serve`, deduplicated and counted, into a durable PostgreSQL.

- Batches of 1,000 come on four connections, of 10,000 on two; beside them finished rows are copied
  on one connection into the same table with the same indexes, a commit a batch. A round is a
  hundred requests or thirty.
- Single events come on 128 connections, once what the batches left is vacuumed; beside them the
  same bodies go to an application that only reads them, and to FastAPI with SQLAlchemy that inserts
  each into the founding document's table.
- With `--minutes`, batches and single events come at once for so long, and the server's memory is
  watched.

All take turns; the value is the ratio of the medians of rows a second for batches of 1,000.
"""

from __future__ import annotations

import argparse
from typing import Any, Final
from uuid import UUID

from bench.rig.batches import OverHttp, RawCopies, compare_batches
from bench.rig.lasting import Memory, load_for
from bench.rig.measure import print_result
from bench.rig.postgres import Bench, Customer, a_bench
from bench.rig.serving import aurora_serve
from bench.rig.singles import compare_singles
from bench.rig.usage_events import recent_events

GOALS: Final = {1_000: 0.50, 10_000: 0.40}
"""Shares of a raw COPY, by the events of a batch."""
GOAL_EVENTS_PER_S: Final = 30_000
GOAL_SINGLES: Final = 0.40
GOAL_P99_MS: Final = 50.0
GOAL_RSS_MB: Final = 200.0
EVENTS_A_ROUND: Final = 100_000
ROUNDS: Final = {1_000: 5, 10_000: 3}
SINGLES_ROUNDS: Final = 3
MAX_MINUTES: Final = 60.0


def measure(bench: Bench, minutes: float) -> dict[str, Any]:
    """Run everything in turn; return the figures."""
    customer = bench.a_customer("sender")
    events = list(recent_events(EVENTS_A_ROUND))
    found: dict[str, Any] = {}
    sent = 0
    with aurora_serve(bench) as server:
        memory = Memory(server.pid)
        with memory.watched():
            for batch, rounds in ROUNDS.items():
                http = OverHttp(bench, server, customer, events, batch)
                copies = RawCopies(bench, events, batch)
                found[f"batches_of_{batch}"] = compare_batches(http, copies, rounds, len(events))
                sent += http.sent
                check_counted(bench, customer, sent)
            # What the batches left behind is theirs, and no part of what a single event costs.
            bench.execute("vacuum (analyze)")
            taken, found["singles"] = compare_singles(
                bench, server, customer, events, SINGLES_ROUNDS
            )
            sent += taken
        if minutes:
            taken, found["lasting"] = load_for(minutes, bench, server, customer, events)
            sent += taken
        check_counted(bench, customer, sent)
    found["server_highest_mb"] = memory.figures()["highest_mb"]
    return found


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


def missed(found: dict[str, Any]) -> list[str]:
    """Return which goals the figures miss."""
    judged = {
        **{
            f"{batch:,} a batch: {goal} of a raw COPY": (
                found[f"batches_of_{batch}"]["of_a_raw_copy"] >= goal
            )
            for batch, goal in GOALS.items()
        },
        f"{GOAL_EVENTS_PER_S:,} events/s": (
            found["batches_of_1000"]["events_per_s"] >= GOAL_EVENTS_PER_S
        ),
        f"singles: {GOAL_SINGLES} of a bare application": (
            found["singles"]["of_a_bare_app"] >= GOAL_SINGLES
        ),
        f"singles: p99 of {GOAL_P99_MS:.0f} ms": found["singles"]["p99_ms"] <= GOAL_P99_MS,
        f"{GOAL_RSS_MB:.0f} MB": found["server_highest_mb"] <= GOAL_RSS_MB,
    }
    if "lasting" in found:
        judged["flat memory"] = (
            found["lasting"]["is_flat"] and found["lasting"]["highest_mb"] <= GOAL_RSS_MB
        )
    return [goal for goal, is_met in judged.items() if not is_met]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=0.0, help="of load that lasts")
    minutes = parser.parse_args().minutes
    if not 0 <= minutes <= MAX_MINUTES:
        parser.error(f"--minutes is 0 to {MAX_MINUTES:.0f}")
    with a_bench() as bench:
        found = measure(bench, minutes)
    missing = missed(found)
    print_result(
        "usage_ingest",
        value=found["batches_of_1000"]["of_a_raw_copy"],
        unit="of a raw COPY",
        goal=f">= {GOALS[1_000]} and >= {GOAL_EVENTS_PER_S:,} events/s; batches of 10,000 >= "
        f"{GOALS[10_000]}; singles >= {GOAL_SINGLES} of a bare application, p99 <= "
        f"{GOAL_P99_MS:.0f} ms; <= {GOAL_RSS_MB:.0f} MB, flat",
        met=not missing,
        details={"missed": missing, **found, "events_a_round": EVENTS_A_ROUND, "durable": True},
    )


if __name__ == "__main__":
    main()
