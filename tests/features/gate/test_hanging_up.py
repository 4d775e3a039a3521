"""A heartbeat that takes too long ends its connection, and never the process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import LOGIN_ROLE

ROOT = Path(__file__).resolve().parents[3]
ABORTED = -6
PROGRAM = """
import asyncio, contextlib, sys, uvloop
from aurora.db.pool import open_connection
from aurora.features.gate import watch

async def closed_at_once(connection, work, limit_s):
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=limit_s)
    task.cancel()
    connection.pgconn.finish()
    await asyncio.wait({task}, timeout=1.0)

if sys.argv[2] == "wrong":
    watch._bounded = closed_at_once

async def once(number):
    connection = await open_connection(sys.argv[1], name="test")
    with contextlib.suppress(TimeoutError):
        await watch._bounded(connection, connection.execute("select pg_sleep(9)"), 0.0004 * number)
    assert connection.closed

async def main():
    # The wrong version ends at its first bad moment, which may be long in coming on a busy machine.
    for number in range(200 if sys.argv[2] == "wrong" else 10):
        await asyncio.gather(*(once((number + more) % 7) for more in range(6)))

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize(("version", "ends"), [("right", 0), ("wrong", ABORTED)])
async def test_heartbeats_beyond_the_lease_end_no_process(
    database: str, version: str, ends: int
) -> None:
    """The wrong version closes what the loop still watches; libuv then aborts."""
    dsn = make_conninfo(database, user=LOGIN_ROLE)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, dsn, version, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await child.communicate()
    assert child.returncode == ends, said.decode()[-2_000:]
