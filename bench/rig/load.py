"""Sends POST requests over keep-alive connections as fast as they are answered, and times them.

It runs as a process of its own (`python -m bench.rig.load`, the task as JSON on standard input),
so that its work is not the server's. It is bounded in requests and in time, and only ever speaks
to 127.0.0.1. It knows as much of HTTP as the servers here speak: a status and a Content-Length.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final, cast

import msgspec
import uvloop

HOST: Final = "127.0.0.1"
MAX_REQUESTS: Final = 10_000_000
MAX_SECONDS: Final = 3_600.0
MAX_CONNECTIONS: Final = 512
GRACE_S: Final = 30.0
MARK: Final = b"@@@@@@@@"
"""Stands in a body for the number of the request that sends it, in as many digits."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)
_LENGTH_BYTES: Final = 8


class Task(msgspec.Struct, kw_only=True):
    """What to send.

    Attributes:
        port: On 127.0.0.1.
        path: Of every request.
        bodies: A file that `write_bodies` made.
        headers: Sent with every request.
        connections: Requests under way at once.
        seconds: No request is begun later.
        requests: At most so many.
        repeat: Begin again with the first body after the last, rather than end.
        per_s: Requests a second, each timed from when it was due; 0: as fast as they are answered.
        fresh: Put a number in the place of every `MARK`, this one in the first request and the next
            in each that follows, so that none is a repeat; 0: send the bodies as they are.
    """

    port: int
    path: str
    bodies: str
    headers: dict[str, str] = {}
    connections: int = 1
    seconds: float = 5.0
    requests: int = MAX_REQUESTS
    repeat: bool = False
    per_s: float = 0.0
    fresh: int = 0

    def __post_init__(self) -> None:
        """Keep within the limits."""
        self.connections = min(self.connections, MAX_CONNECTIONS)
        self.seconds = min(self.seconds, MAX_SECONDS)
        self.requests = min(self.requests, MAX_REQUESTS)


class Outcome(msgspec.Struct, kw_only=True):
    """How it went: seconds from the first request to the last answer, and milliseconds of each.

    `statuses` counts the answers by status; `cpu_s` is the generator's own.
    """

    requests: int
    wall_s: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.wall_s


def write_bodies(path: Path, bodies: Iterable[bytes]) -> None:
    """Write request bodies for a task, each with its length in front."""
    with path.open("wb") as file:
        for body in bodies:
            file.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)


def send_load(task: Task) -> Outcome:
    """Run a task in a process of its own.

    Raises:
        SystemExit: A request was not answered with 200, or the generator failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "bench.rig.load"],
        input=msgspec.json.encode(task),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        timeout=task.seconds + 3 * GRACE_S,
        check=True,
    )
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    if set(outcome.statuses) != {"200"}:
        raise SystemExit(f"{task.path} was answered with {outcome.statuses}")
    return outcome


class _Connection(asyncio.Protocol):
    """One keep-alive connection: it sends the next request when the last one is answered."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self._began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; the run says when to begin."""
        # uvloop's transports are asyncio's by duty, not by class.
        self._transport = cast("asyncio.Transport", transport)

    def send_next(self) -> None:
        """Send the next request, or close when there is none."""
        request = self._run.next_request()
        if request is None:
            self._transport.close()
            return
        due_s = self._run.next_due()
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send, request, due_s)
        else:
            self._send(request, due_s)

    def _send(self, request: bytes, due_s: float) -> None:
        # What is sent late because answers are late counts from when it should have been sent.
        self._began_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; it ends where its Content-Length says."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head + 2)
        if length is None:
            self._run.answered("no Content-Length", self._began_s)
            self._transport.close()
            return
        if len(self._buffer) < head + 4 + int(length[1]):
            return
        status = self._buffer[9:12].decode("ascii", "replace")
        self._buffer = b""
        self._run.answered(status, self._began_s)
        self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the run."""
        if error is not None or self._buffer:
            self._run.answered("connection lost", self._began_s)
        self._run.closed()


class _Run:
    def __init__(self, task: Task) -> None:
        self._task = task
        bodies = cycle(_requests(task)) if task.repeat else iter(_requests(task))
        self._requests = islice(bodies, task.requests)
        self._until_s = self._due_s = self._first_due_s = 0.0
        self._open = task.connections
        self._number = task.fresh
        self._done = asyncio.Event()
        self._took_s: list[float] = []
        self._statuses: Counter[str] = Counter()

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: _Connection(self), HOST, self._task.port))[1]
            for _ in range(self._task.connections)
        ]
        cpu_s, began_s = time.process_time(), time.perf_counter()
        self._until_s = began_s + self._task.seconds
        self._first_due_s = began_s
        for connection in connections:
            connection.send_next()
        async with asyncio.timeout(self._task.seconds + GRACE_S):
            await self._done.wait()
        wall_s = time.perf_counter() - began_s
        cuts = statistics.quantiles(self._took_s * 2, n=100)
        return Outcome(
            requests=len(self._took_s),
            wall_s=wall_s,
            cpu_s=time.process_time() - cpu_s,
            p50_ms=1_000 * cuts[49],
            p99_ms=1_000 * cuts[98],
            statuses=dict(self._statuses),
        )

    def next_request(self) -> bytes | None:
        if time.perf_counter() > self._until_s:
            return None
        request = next(self._requests, None)
        if request is None or not self._task.fresh:
            return request
        number = self._number
        self._number += 1
        return request.replace(MARK, b"%0*d" % (len(MARK), number))

    def next_due(self) -> float:
        """Return when the next request is to be sent."""
        if not self._task.per_s:
            return time.perf_counter()
        self._due_s = max(self._due_s, self._first_due_s) + 1 / self._task.per_s
        return self._due_s

    def answered(self, status: str, began_s: float) -> None:
        self._statuses[status] += 1
        self._took_s.append(time.perf_counter() - began_s)

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._done.set()


def _requests(task: Task) -> list[bytes]:
    """Return every request as the bytes on the wire."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in task.headers.items())
    head = f"POST {task.path} HTTP/1.1\r\nhost: {HOST}:{task.port}\r\n{lines}"
    head += "content-type: application/json\r\ncontent-length: "
    return [
        f"{head}{len(body)}\r\n\r\n".encode() + body
        for body in _bodies(Path(task.bodies).read_bytes())
    ]


def _bodies(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        begin = place + _LENGTH_BYTES
        place = begin + int.from_bytes(data[place:begin], "big")
        yield data[begin:place]


def main() -> None:
    """Read the task, send the load, print the outcome."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    outcome = uvloop.run(_Run(task).run())
    print(json.dumps(msgspec.to_builtins(outcome)))


if __name__ == "__main__":
    main()
