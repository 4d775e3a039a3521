"""Measures `aurora usage import` of an access log against a raw COPY of the same rows.

Run it with `python -m bench.usage_import [--lines N]`; the last line is JSON. The value is the
command's lines a second over those of a binary COPY of the parsed rows into the same table with
the same indexes, in the same run, a commit per 5,000. Half of the COPY runs before the import and
half after it. The goal is in lines a second and in memory, so both stand in the details.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from bench.rig.access_logs import write_access_log
from bench.rig.measure import Finished, Stopwatch, print_result, run_program
from bench.rig.postgres import AURORA, Bench, Customer, a_bench
from bench.rig.raw_copy import RawCopy, finished_row, in_batches

from aurora.features.usage.importing import Defaults, parse_file
from aurora.features.usage.model import UsageEvent

GOAL_LINES_PER_S: Final = 20_000
GOAL_RSS_MB: Final = 300
BATCH: Final = 5_000
LINES: Final = 1_000_000
MAX_LINES: Final = 20_000_000
TIMEOUT_S: Final = 1_800


def import_log(bench: Bench, customer: Customer, log: Path, *, new: int, lines: int) -> Finished:
    """Run the command and check what it counted.

    Raises:
        SystemExit: It counted anything else than `new` accepted and the rest as duplicates.
    """
    options = ["--org", customer.slug, "--key", customer.key_id, "--json"]
    done = run_program(
        [AURORA, "usage", "import", log, *options], env=bench.env, timeout_s=TIMEOUT_S
    )
    counts = json.loads(done.output)["counts"]
    expected = {"accepted": new, "conflicts": 0, "duplicates": lines - new, "rejected": 0}
    if counts != {**expected, "lines": lines}:
        raise SystemExit(f"the import counted {counts}")
    return done


def check_stored(bench: Bench, customer: Customer, lines: int) -> None:
    """Check that rows, claimed ids, and rollups all say the same number.

    Raises:
        SystemExit: They do not.
    """
    of = f"where organization_id = '{customer.organization_id}'"
    stored = {
        "rows": bench.fetch(f"select count(*) from usage_analytics {of}"),
        "ids": bench.fetch(f"select count(*) from usage_event_ids {of}"),
        "rollups": bench.fetch(
            f"select sum(requests)::bigint from usage_daily_series {of} and dimension = 'total'"
        ),
    }
    if set(stored.values()) != {lines}:
        raise SystemExit(f"{lines} lines became {stored}")


class Limit:
    """The raw COPY of the same log for an organization of its own; only the COPY is timed."""

    def __init__(self, bench: Bench, log: Path) -> None:
        key, organization = uuid4(), uuid4()
        defaults = Defaults(api_key_id=key, organization_id=organization)
        self.wall_s = self.client_cpu_s = 0.0
        self._organization: UUID = organization
        self._parsed = parse_file(log, defaults=defaults)
        self._copy = RawCopy(bench.server.dsn())

    def run(self, lines: int) -> None:
        """Copy the next lines."""
        for batch in in_batches(islice(self._events(), lines), BATCH):
            wall_s, cpu_s = self._copy.write(
                [finished_row(event, self._organization) for event in batch]
            )
            self.wall_s += wall_s
            self.client_cpu_s += cpu_s

    def close(self) -> None:
        """Close the connection."""
        self._copy.close()

    def _events(self) -> Iterator[UsageEvent]:
        return (parsed for parsed in self._parsed if isinstance(parsed, UsageEvent))


def measure(bench: Bench, lines: int) -> None:
    """Run both and print the result."""
    log = bench.folder / "access.log"
    megabytes = write_access_log(log, lines) / 1e6
    customer = bench.a_customer("importer")
    # The months are there before either begins; making them is not what is measured.
    bench.execute("select app.ensure_usage_partitions('2025-03-01', '2025-03-31')")
    postgres = Stopwatch(postgres=bench.server.pid)
    limit_postgres = Stopwatch(postgres=bench.server.pid)
    limit = Limit(bench, log)
    bench.execute("checkpoint")
    with limit_postgres:
        limit.run(lines // 2)
    bench.execute("checkpoint")
    with postgres:
        first = import_log(bench, customer, log, new=lines, lines=lines)
    check_stored(bench, customer, lines)
    bench.execute("checkpoint")
    with limit_postgres:
        limit.run(lines - lines // 2)
    limit.close()
    again = import_log(bench, customer, log, new=0, lines=lines)
    check_stored(bench, customer, lines)
    rate, limit_rate = lines / first.wall_s, lines / limit.wall_s
    peak_mb = max(first.peak_rss_mb, again.peak_rss_mb)
    print_result(
        "usage_import",
        value=rate / limit_rate,
        unit="of a raw COPY",
        goal=f">= {GOAL_LINES_PER_S:,} lines/s in < {GOAL_RSS_MB} MB",
        met=rate >= GOAL_LINES_PER_S and peak_mb < GOAL_RSS_MB,
        details={
            "lines": lines,
            "log_mb": megabytes,
            "lines_per_s": rate,
            "wall_s": first.wall_s,
            "client_cpu_s": first.cpu_s,
            "postgres_cpu_s": postgres.cpu_s["postgres"],
            "peak_rss_mb": peak_mb,
            "raw_copy_rows_per_s": limit_rate,
            "raw_copy_client_cpu_s": limit.client_cpu_s,
            "raw_copy_postgres_cpu_s": limit_postgres.cpu_s["postgres"],
            "second_import_lines_per_s": lines / again.wall_s,
            "second_import_accepted": 0,
            "durable": True,
        },
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=LINES)
    lines = parser.parse_args().lines
    if not 1 <= lines <= MAX_LINES:
        parser.error(f"--lines is 1 to {MAX_LINES:,}")
    with a_bench() as bench:
        measure(bench, lines)


if __name__ == "__main__":
    main()
