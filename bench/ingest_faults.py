"""Kills PostgreSQL and the server 20 times each under load and counts what was acknowledged.

Run it with `python -m bench.ingest_faults`; the last line is JSON. Eight senders send every event
twice or more, through a proxy that drops three replies of ten after the commit. The value is how
many acknowledged events are not stored exactly once and in every sum.
"""

from __future__ import annotations

import asyncio
from typing import Final

from bench.rig.faults import run_faults
from bench.rig.measure import print_result

KILLS: Final = 20


def main() -> None:
    """Measure."""
    tally = asyncio.run(run_faults(kills_of_postgres=KILLS, kills_of_the_server=KILLS))
    wrong = tally.lost + tally.twice
    print_result(
        "ingest_faults",
        value=wrong,
        unit="events lost or counted twice",
        goal="0, and acknowledged = rows = rollup = invoice basis",
        met=tally.is_whole and bool(tally.acknowledged),
        details={
            "kills_of_postgres": tally.kills_of_postgres,
            "kills_of_the_server": tally.kills_of_the_server,
            "dropped_replies": tally.dropped_replies,
            "acknowledged": len(tally.acknowledged),
            "rows": tally.rows,
            "rollup": tally.rollup,
            "invoice_basis": tally.invoice_basis,
        },
    )


if __name__ == "__main__":
    main()
