"""Processes that hammer one key through their limiters, in time that may run faster than ours.

`python -m bench.rig.hammer` is one of them: it reads its task from standard input, sends requests
until its time is over, and writes the moments of all that came and of all that passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql

from aurora.db.pool import open_pool
from aurora.features.limits.limiter import Limiter, LimiterAway, steady_s
from aurora.features.limits.model import Taken
from aurora.features.limits.windows import PooledWindows

CONNECTIONS: Final = 2
MAX_UNDER_WAY: Final = 200
PAUSE_S: Final = 0.002

_FASTER: Final = """
create or replace function app.now() returns timestamptz
language sql stable security definer set search_path = ''
as $$
  select {began}::timestamptz + (now() - {began}::timestamptz) * {speed}
    + coalesce((select shift from app.clock), interval '0')
$$"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one process does.

    Attributes:
        dsn: The application's login.
        organization_id: Of the key.
        key_id: The key.
        rate_limit_per_hour: Its limit.
        burst_per_second: Its other limit.
        rate_per_s: Requests that come in a second of our time, at random.
        seconds: Of our time.
        began_s: The steady clock of this machine when all time began.
        speed: Seconds that pass in one of ours.
        output: Where the moments go: `.came` and `.passed`, eight bytes each.
        seed: Of what is random.
    """

    dsn: str
    organization_id: str
    key_id: str
    rate_limit_per_hour: int
    burst_per_second: int | None = None
    rate_per_s: float
    seconds: float
    began_s: float
    speed: float
    output: str
    seed: int


@dataclass(frozen=True, slots=True)
class _Key:
    id: UUID
    organization_id: UUID
    rate_limit_per_hour: int
    burst_per_second: int | None


def make_time_pass(dsn: str, speed: float) -> None:
    """Let app.now() run so many times faster, as the owner of the database."""
    with psycopg.connect(dsn) as owner:
        began = owner.execute("select now()").fetchone()
        assert began is not None
        owner.execute(
            sql.SQL(_FASTER).format(began=sql.Literal(began[0]), speed=sql.Literal(speed))
        )


def start(task: Task) -> subprocess.Popen[bytes]:
    """Start a process on a task; the caller waits for it or kills it."""
    process = subprocess.Popen([sys.executable, "-m", "bench.rig.hammer"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(task)).encode())
    process.stdin.close()
    return process


def moments(outputs: Sequence[str], kind: str) -> list[float]:
    """Return the moments that processes wrote, in order; what was killed may have written half."""
    found = array("d")
    for output in outputs:
        path = Path(f"{output}.{kind}")
        whole = path.read_bytes() if path.exists() else b""
        found.frombytes(whole[: len(whole) // 8 * 8])
    return sorted(found)


def worst(times: Sequence[float], window_s: float) -> int:
    """Return the most of these ordered moments that any (t - window_s, t] holds."""
    first = most = 0
    for place, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, place - first + 1)
    return most


def ideal(times: Sequence[float], limit: int, window_s: float) -> int:
    """Return how many of these ordered moments an exact log of the last hour lets pass."""
    log: deque[float] = deque()
    passed = 0
    for at in times:
        while log and log[0] <= at - window_s:
            log.popleft()
        if len(log) < limit:
            log.append(at)
            passed += 1
    return passed


class _Tally:
    """Writes moments at once: what is killed has told what it let pass."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._came = Path(f"{task.output}.came").open("wb", buffering=0)  # noqa: SIM115
        self._passed = Path(f"{task.output}.passed").open("wb", buffering=0)  # noqa: SIM115

    def now_s(self) -> float:
        """Return the seconds since all time began."""
        return (steady_s() - self._task.began_s) * self._task.speed

    def came(self) -> None:
        """Note a request."""
        self._came.write(array("d", [self.now_s()]).tobytes())

    def became(self, taken: Taken) -> None:
        """Note what became of it."""
        if taken.code == "VALID":
            self._passed.write(array("d", [self.now_s()]).tobytes())


async def hammer(task: Task) -> None:
    """Send requests until the time is over."""
    chance = random.Random(task.seed)
    key = _Key(
        UUID(task.key_id),
        UUID(task.organization_id),
        task.rate_limit_per_hour,
        task.burst_per_second,
    )
    tally = _Tally(task)
    pool = await open_pool(task.dsn, max_size=CONNECTIONS, name="hammer")
    limiter = Limiter(PooledWindows(pool), clock=tally.now_s)
    under_way: set[asyncio.Task[None]] = set()

    async def wait() -> None:
        with contextlib.suppress(LimiterAway):
            tally.became(await limiter.lease(key))

    def send() -> None:
        tally.came()
        taken = limiter.take(key)
        if taken is not None:
            tally.became(taken)
            return
        waiting = asyncio.create_task(wait())
        under_way.add(waiting)
        waiting.add_done_callback(under_way.discard)

    due_s = steady_s()
    until_s = due_s + task.seconds
    while steady_s() < until_s:
        while due_s <= steady_s():
            due_s += chance.expovariate(task.rate_per_s)
            if len(under_way) < MAX_UNDER_WAY:
                send()
        await asyncio.sleep(min(max(due_s - steady_s(), 0), PAUSE_S))
    if under_way:
        await asyncio.wait(under_way)
    await limiter.close()
    await pool.close()


if __name__ == "__main__":
    asyncio.run(hammer(Task(**json.loads(sys.stdin.read()))))
