"""A benchmark that is told to end leaves no PostgreSQL and no folder behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.rig.homes import stop_server_of

ROOT = Path(__file__).resolve().parents[2]
ENDS_WITHIN_S = 60
# Its lock file is gone a moment before it is itself.
GONE_WITHIN_S = 10
RIGS = {
    "server": "from bench.rig.server import a_database as rig",
    "postgres": "from bench.rig.postgres import a_bench as rig",
}
RUNNING = """
import sys, time
from pathlib import Path
import psycopg
{rig}
with rig() as bench:
    dsn = bench.owner if hasattr(bench, "owner") else bench.server.dsn()
    with psycopg.connect(dsn) as owner:
        home = Path(owner.execute("show data_directory").fetchone()[0]).parent
    print(home, flush=True)
    time.sleep(300)
"""
# What a rig was before: the default action of the signal, which undoes nothing.
CARELESS = """
import contextlib, bench.rig.homes
bench.rig.homes.ending_cleanly = contextlib.nullcontext
"""


@contextmanager
def a_benchmark(code: str) -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """Run a benchmark; give it with its home and its PostgreSQL's process id."""
    home: Path | None = None
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        try:
            assert running.stdout
            home = Path(running.stdout.readline().strip())
            pid = int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
            yield running, home, pid
        finally:
            running.kill()
            if home is not None:
                stop_server_of(home)
                shutil.rmtree(home.parent, ignore_errors=True)


def lives(pid: int, *, for_s: float = 0) -> bool:
    """Whether a process is there, also after so many seconds in which it might have ended."""
    until_s = time.monotonic() + for_s
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        if time.monotonic() >= until_s:
            return True
        time.sleep(0.02)


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_benchmark_that_is_told_to_end_undoes_what_it_began(
    rig: str, number: signal.Signals
) -> None:
    with a_benchmark(RUNNING.format(rig=RIGS[rig])) as (running, home, postgres):
        assert lives(postgres)
        running.send_signal(number)
        assert running.wait(ENDS_WITHIN_S) != 0
        assert not lives(postgres, for_s=GONE_WITHIN_S)
        assert not home.parent.exists()


def test_a_benchmark_without_care_is_caught() -> None:
    with a_benchmark(CARELESS + RUNNING.format(rig=RIGS["server"])) as (running, home, postgres):
        running.send_signal(signal.SIGTERM)
        running.wait(ENDS_WITHIN_S)
        assert lives(postgres)
        assert home.exists()
