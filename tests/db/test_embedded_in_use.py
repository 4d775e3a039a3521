"""A home's server is shared: the last process that leaves stops it, whoever started it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora.db.embedded import EmbeddedServer

USE = """
import sys
from pathlib import Path
from aurora.db.embedded import in_use
with in_use(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aurora-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "home"


def use(home: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that uses the home's server; return it and the server's process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_the_last_one_out_stops_the_server_though_it_did_not_start_it(home: Path) -> None:
    starter, pid = use(home)
    guest, same = use(home)
    assert same == pid
    leave(starter)
    running = EmbeddedServer.find_running(home)
    assert running is not None
    assert running.pid == pid
    leave(guest)
    assert EmbeddedServer.find_running(home) is None


def test_the_server_of_a_killed_process_is_stopped_by_the_next_one_that_leaves(home: Path) -> None:
    killed, pid = use(home)
    killed.kill()
    killed.communicate(timeout=60)
    assert EmbeddedServer.find_running(home) is not None
    heir, same = use(home)
    assert same == pid
    leave(heir)
    assert EmbeddedServer.find_running(home) is None
