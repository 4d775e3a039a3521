"""Measures how long `aurora up` takes until it is ready: from nothing, and again.

Run it with `python -m bench.start`; the last line is JSON. The first start makes the database, the
schema, and the demo organization with its year of usage; the second finds all of it. The value is
the slower of the two as a share of its own goal (30 s and 5 s).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psycopg
from bench.rig.homes import a_home
from bench.rig.measure import median, print_result
from bench.rig.postgres import AURORA, environment_of
from bench.rig.serving import Serving, free_port, serving

from aurora.db.embedded import in_use

GOAL_FIRST_S: Final = 30.0
GOAL_AGAIN_S: Final = 5.0
STARTS_AGAIN: Final = 3


def start(home: Path) -> Serving:
    """Start and stop `aurora up`; return how the start went."""
    port = free_port()
    command: list[str | Path] = [AURORA, "up", "--port", str(port)]
    with serving(command, port, "/readyz", env=environment_of(home)) as server:
        return server


def usage_rows(home: Path) -> int:
    """Return how many events the database holds."""
    with in_use(home) as server, psycopg.connect(server.dsn()) as connection:
        found = connection.execute("select count(*) from usage_analytics").fetchone()
        return 0 if found is None else int(found[0])


def main() -> None:
    """Measure and print.

    Raises:
        SystemExit: The first start left no demo, or a later one changed it.
    """
    with a_home() as home:
        first_s = start(home).start_s
        events = usage_rows(home)
        again_s = [start(home).start_s for _ in range(STARTS_AGAIN)]
        if not events or usage_rows(home) != events:
            raise SystemExit(f"the demo's {events} events did not stay what they were")
    value = max(first_s / GOAL_FIRST_S, median(again_s) / GOAL_AGAIN_S)
    print_result(
        "start",
        value=value,
        unit="of the time allowed",
        goal=f"<= 1: {GOAL_FIRST_S:.0f} s from nothing, {GOAL_AGAIN_S:.0f} s again",
        met=value <= 1,
        details={
            "first_s": first_s,
            "again_s": median(again_s),
            "starts_again": STARTS_AGAIN,
            "demo_events": events,
            "cores": os.cpu_count(),
        },
    )


if __name__ == "__main__":
    main()
