"""Measures folding beside the refresh of the founding document's materialized view.

Run it with `python -m bench.fold`; the last line is JSON. Events arrive in batches of 1,000, as the
ingest writes their deltas: one row for a batch, summed by dimension. The value is how many of
the events that the deltas stand for are folded in a second, durably; the refresh of the view over
the same raw rows stands beside it, and covers all of them every time, however few are new.
"""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg
from bench.rig.measure import median, print_result
from bench.rig.server import a_database
from bench.rig.traffic import count_usage, rows_statement

GOAL: Final = 200_000
EVENTS: Final = 1_000_000
BATCH: Final = 1_000
ORGANIZATIONS: Final = 20
ROUNDS: Final = 3
SEED_VIEW: Final = """
create materialized view seed_summary as
select organization_id, api_key_id, date, count(*) as total_requests,
  count(*) filter (where widget_impression) as widget_impressions,
  count(*) filter (where status_code = 200) as successful_requests,
  count(*) filter (where status_code >= 400) as failed_requests,
  count(*) filter (where cached) as cached_requests, avg(response_time_ms) as avg_response_time,
  count(distinct ip_address) as unique_visitors
from usage_analytics group by organization_id, api_key_id, date with no data
"""


def timed(owner: psycopg.Connection[Any], statement: str) -> float:
    """Return how long a statement takes, in seconds."""
    began = time.perf_counter()
    owner.execute(statement.encode())
    return time.perf_counter() - began


def fold_all(owner: psycopg.Connection[Any]) -> float:
    """Fold everything, as the worker does; return seconds."""
    began = time.perf_counter()
    while True:
        row = owner.execute("select app.fold_usage(50000)").fetchone()
        if row is None or not row[0]:
            return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    with (
        a_database(shared_buffers="512MB", jit="off", max_wal_size="4GB") as database,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):
        owner.execute("select app.ensure_usage_partitions(current_date - 45, current_date)")
        owner.execute(rows_statement(EVENTS, organizations=ORGANIZATIONS, batch=BATCH))
        owner.execute(SEED_VIEW.encode())
        owner.execute("analyze")
        part = f"(id / {BATCH})"
        owner.execute(f"create index on usage_analytics ({part})".encode())
        folds: list[float] = []
        refreshes: list[float] = []
        deltas = 0
        for _ in range(ROUNDS):
            # The rows were inserted in the order of their ids: a thousand of them are one batch.
            count_usage(owner, part=part)
            row = owner.execute("select count(*) from usage_deltas").fetchone()
            deltas = 0 if row is None else row[0]
            folds.append(fold_all(owner))
            refreshes.append(timed(owner, "refresh materialized view seed_summary"))
    value = EVENTS / median(folds)
    print_result(
        "fold", value=value, unit="events/s", goal=f">= {GOAL:,}", met=value >= GOAL,
        details={
            "events": EVENTS, "deltas": deltas, "fold_s": median(folds),
            "seed_refresh_s": median(refreshes),
            "seed_refresh_events_per_s": EVENTS / median(refreshes), "durable": True,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
