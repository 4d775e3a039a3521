"""Starts the servers that are measured, each in a process of its own, and stops them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from bench.rig.postgres import AURORA, Bench

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers.

    Attributes:
        port: On 127.0.0.1.
        pid: Its process.
        start_s: Seconds from its start to the first answer.
    """

    port: int
    pid: int
    start_s: float


def free_port() -> int:
    """Return a port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def aurora_serve(bench: Bench) -> AbstractContextManager[Serving]:
    """Run `aurora serve` on the bench's database."""
    port = free_port()
    return serving([AURORA, "serve", "--port", str(port)], port, "/readyz", env=bench.env)


def bare_app(bench: Bench) -> AbstractContextManager[Serving]:
    """Run the bare ASGI application (`bench.rig.bare_app`)."""
    port = free_port()
    command = [sys.executable, "-m", "bench.rig.bare_app", str(port)]
    return serving(command, port, "/", env=bench.env)


@contextmanager
def serving(
    command: Sequence[str | Path], port: int, path: str, *, env: Mapping[str, str]
) -> Iterator[Serving]:
    """Run a server until the block ends; Ctrl-C stops it, as a person would.

    Raises:
        SystemExit: It does not answer 200 at `path` within START_TIMEOUT_S, or does not stop.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        command, env=dict(env), cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while not _answers(port, path):
                if process.poll() is not None or time.perf_counter() - began > START_TIMEOUT_S:
                    process.kill()
                    said = process.stderr.read().decode() if process.stderr else ""
                    raise SystemExit(f"{command[0]} does not serve: {said[-2_000:]}")
                time.sleep(_POLL_S)
            yield Serving(port, process.pid, time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise SystemExit(f"{command[0]} does not stop") from None


def post(port: int, path: str, body: bytes) -> bytes:
    """Return the answer to one request, to see that what is measured does its work.

    Raises:
        SystemExit: It is not a 200.
    """
    connection = HTTPConnection(HOST, port, timeout=START_TIMEOUT_S)
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {answer.read()[:500]!r}")
    return answer.read()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    with suppress(OSError, HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False
