"""Cancels 100,000 requests of two tenants on one connection and counts what leaked.

Run it with `python -m bench.cancel_storm`; the last line is JSON. The value is the number of
foreign rows and dirty connections, of which there must be none.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final
from uuid import UUID

import psycopg
from bench.rig.server import a_database
from bench.rig.storm import Tally, storm

from aurora.db.pool import open_pool

REQUESTS: Final = 100_000
TENANTS: Final = (UUID(int=0xA), UUID(int=0xB))


def furnish(dsn: str) -> None:
    """Give each tenant an organization and a widget."""
    with psycopg.connect(dsn) as owner:
        for organization in TENANTS:
            named = {"id": organization, "slug": f"tenant-{organization.int:x}"}
            owner.execute(
                "insert into organizations (id, name, slug, email)"
                " values (%(id)s, %(slug)s, %(slug)s, 'a@hotel.example')",
                named,
            )
            owner.execute(
                "insert into widget_instances"
                " (organization_id, api_key_id, widget_type, instance_id, origin)"
                " values (%(id)s, %(id)s, 'map', 'one', 'https://hotel.example')",
                named,
            )


async def measure(dsn: str, requests: int) -> Tally:
    """Run the storm over a pool of one."""
    pool = await open_pool(dsn, max_size=1, name="storm")
    try:
        return await storm(pool, TENANTS, requests=requests)
    finally:
        await pool.close()


def main(requests: int) -> None:
    """Measure and print."""
    with a_database(fsync="off") as database:
        furnish(database.owner)
        began = time.perf_counter()
        tally = asyncio.run(measure(database.application, requests))
        seconds = time.perf_counter() - began
    leaked = tally.foreign + tally.dirty
    proved = tally.missing == 0 and tally.cancelled > requests // 4 and tally.finished > 0
    print(
        f"{requests:,} requests in {seconds:.0f} s on one connection: {tally.cancelled:,}"
        f" cancelled, {tally.finished:,} finished, {tally.foreign} foreign rows,"
        f" {tally.dirty} dirty connections"
    )
    result = {
        "name": "cancel_storm",
        "value": leaked,
        "unit": "foreign rows and dirty connections",
        "goal": 0,
        "met": leaked == 0 and proved,
        "details": {**vars(tally), "requests": requests, "seconds": round(seconds, 1)},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
