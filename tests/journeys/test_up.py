"""The one command: it starts everything, says what to try, and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.journeys.conftest import bare_environment, free_port, process, tail

from aurora.db.embedded import EmbeddedServer

# Seconds on a machine of its own; what it takes is measured by bench.start.
FIRST_START_S = 300
# Five seconds on a machine of its own; the tests share two cores.
SECOND_START_S = 30
CURL_TIMEOUT_S = 20


@pytest.fixture
def home(session_folder: Path) -> Iterator[Path]:
    """A home that PostgreSQL's own account can reach, which pytest's folders shut out."""
    folder = session_folder / f"up-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o711)
    yield folder / "aurora"
    running = EmbeddedServer.find_running(folder / "aurora")
    if running is not None:
        os.kill(running.pid, signal.SIGQUIT)
    assert running is None, "a PostgreSQL was left running"


@contextmanager
def up(home: Path, log: Path, within_s: float) -> Iterator[str]:
    """Run `aurora up` until the block ends with Ctrl-C; give what it printed once it was ready."""
    environment = bare_environment(home) | {"AURORA_PORT": str(free_port())}
    began = time.monotonic()
    already_said = len(log.read_text()) if log.exists() else 0
    with process("up", environment=environment, log=log, stop=signal.SIGINT) as running:
        while "Ctrl-C stops" not in (said := log.read_text()[already_said:]):
            assert running.poll() is None, tail(log)
            assert time.monotonic() - began < within_s, tail(log)
            time.sleep(0.05)
        yield said


def commands_in(said: str) -> tuple[str, list[str]]:
    """The export line and the curl commands of what was printed, to be pasted as they are."""
    export = next(line for line in said.splitlines() if line.startswith("export AURORA_KEY="))
    parts = [part.strip() for part in said.split("\n\n")]
    return export, [part for part in parts if part.startswith("curl ")]


def requests_counted(said: str) -> int:
    export, commands = commands_in(said)
    return sum(row["requests"] for row in json.loads(sh(export, commands[2]))["items"])


def sh(export: str, command: str) -> str:
    return subprocess.run(
        ["/bin/sh", "-ec", f"{export}\n{command}"],
        capture_output=True,
        text=True,
        timeout=CURL_TIMEOUT_S,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout


def test_up_starts_all_of_it_and_the_second_start_keeps_the_data(home: Path) -> None:
    log = home.parent / "up.log"
    with up(home, log, FIRST_START_S) as said:
        export, commands = commands_in(said)
        assert len(commands) == 3
        verdict = json.loads(sh(export, commands[0]))
        assert (verdict["valid"], verdict["environment"]) == (True, "test")
        assert json.loads(sh(export, commands[1]))["accepted"] == 1
        assert json.loads(sh(export, commands[1]))["duplicates"] == 1
        counted = requests_counted(said)
        assert counted > 1000
        address = next(word for word in said.split() if word.startswith("http://"))
        assert httpx.get(address).headers["content-type"].startswith("text/html")
        assert httpx.get(f"{address}/docs").status_code == 200
        token = (home / "service_token").read_text().strip()
        assert token in said
        assert (home / "service_token").stat().st_mode & 0o077 == 0
        listed = httpx.get(
            f"{address}/v1/organizations", headers={"authorization": f"Bearer {token}"}
        )
        assert [each["slug"] for each in listed.json()["items"]] == ["demo"]
    assert EmbeddedServer.find_running(home) is None
    with up(home, log, SECOND_START_S) as again:
        assert requests_counted(again) == counted
        assert commands_in(again)[0] == export
    assert EmbeddedServer.find_running(home) is None
