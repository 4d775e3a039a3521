"""A world of processes that share one key: real time, PostgreSQL's clock, and messages between.

Everything that happens is a call here, so that a test (or hypothesis) chooses the order. The
windows are the real ones, in a real PostgreSQL; the processes hold real budgets. Only time is
played.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg

from aurora.core.ratelimits import WINDOW_S
from aurora.features.limits.budget import Asked, Budget, Terms, Unused
from aurora.features.limits.model import Lease

BEGAN = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
LEASE = """select granted, life_ms, ends_at, key_time, remaining, reset_ms, retry_after_ms
from app.lease_requests(%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
GIVE_BACK = "select app.return_requests(%s::uuid[], %s::uuid[], %s::integer[], %s::timestamptz[])"


def worst(times: Sequence[float], window_s: float) -> int:
    """Return the most of these moments that any (t - window_s, t] holds."""
    ordered = sorted(times)
    first = most = 0
    for place, at in enumerate(ordered):
        while ordered[first] <= at - window_s:
            first += 1
        most = max(most, place - first + 1)
    return most


@dataclass
class Process:
    """One process: its budget, its steady clock, and what it has under way.

    Attributes:
        budget: What it holds of the key.
        born_s: What real time it was when its steady clock stood at zero; no two agree.
        asked: A lease under way.
        lease: Its answer, on the way back.
    """

    budget: Budget
    born_s: float
    asked: Asked | None = None
    lease: Lease | None = None
    returning: list[Unused] = field(default_factory=list)


class World:
    """One key and the processes that let its requests through.

    Attributes:
        now_s: Real time, in seconds.
        jumped_s: How far PostgreSQL's clock is from it.
        admitted: What passed: the moment, and the limit under which it was granted.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        *,
        per_hour: int,
        per_second: int | None = None,
        processes: int = 3,
        budget: type[Budget] = Budget,
    ) -> None:
        self._connection, self._budget = connection, budget
        self.organization_id, self.key_id = uuid4(), uuid4()
        self.terms = Terms(per_hour, per_second)
        self.now_s, self.jumped_s = 0.0, 0.0
        self.admitted: list[tuple[float, Terms]] = []
        self.processes = [self.a_process(number) for number in range(processes)]

    def a_process(self, number: int) -> Process:
        """Return a process that knows nothing; its clock began at its own zero."""
        return Process(self._budget(self.organization_id, self.key_id), 1_000.0 * number - 77)

    def clock(self, process: Process) -> float:
        """Return what the process' steady clock shows."""
        return self.now_s - process.born_s

    def take(self, process: Process, how_many: int) -> int:
        """Let requests come that do not wait; return how many passed."""
        passed = 0
        for _ in range(how_many):
            taken = process.budget.take(*self.terms, self.clock(process))
            if taken is None or taken.code != "VALID":
                break
            self.admitted.append((self.now_s, process.budget.terms))
            passed += 1
        return passed

    def send(self, process: Process, waiting: int) -> None:
        """Ask for a lease for requests that wait."""
        process.asked = process.budget.ask(self.terms, waiting, self.clock(process))

    def execute(self, process: Process) -> None:
        """Let PostgreSQL answer what is under way."""
        assert process.asked is not None
        asked = process.asked
        row = self._run(
            LEASE,
            (
                self.organization_id, self.key_id, *asked.terms, asked.waiting, asked.wanted,
                asked.returned, asked.returned_end, asked.expected,
            ),
        )  # fmt: skip
        names = ("granted", "life_ms", "ends_at", "key_time", "remaining", "reset_ms")
        process.lease = Lease(**dict(zip((*names, "retry_after_ms"), row, strict=True)))

    def reply(self, process: Process) -> int:
        """Let the answer arrive; return how many of those who waited passed."""
        assert process.asked is not None
        assert process.lease is not None
        asked, lease = process.asked, process.lease
        process.asked = process.lease = None
        process.budget.settle(asked, lease, self.clock(process))
        return self.take(process, asked.waiting)

    def lose(self, process: Process) -> None:
        """Lose what is under way, before or after PostgreSQL did it."""
        process.asked = process.lease = None

    def ask(self, process: Process, waiting: int) -> int:
        """Ask, be answered at once, and return how many passed."""
        self.send(process, waiting)
        self.execute(process)
        return self.reply(process)

    def come(self, process: Process, how_many: int) -> int:
        """Let requests come that wait where they must; return how many passed."""
        passed = self.take(process, how_many)
        return passed + (self.ask(process, how_many - passed) if passed < how_many else 0)

    def give_up(self, process: Process, *, whole: bool = False) -> None:
        """Take what is unused out of a budget and put it on its way back."""
        unused = process.budget.give_up(self.clock(process), whole=whole)
        if unused is not None:
            process.returning.append(unused)

    def give_back(self, process: Process) -> None:
        """Let PostgreSQL take back what is on its way."""
        self._give_back(process.returning)
        process.returning = []

    def die(self, process: Process) -> None:
        """Kill a process; another takes its place and knows nothing."""
        fresh = self.a_process(self.processes.index(process) + len(self.admitted) + 5)
        self.processes[self.processes.index(process)] = fresh

    def check(self) -> None:
        """Assert the bound over every rolling hour and second so far, in real time."""
        times = [at for at, _ in self.admitted]
        most = max((terms.per_hour for _, terms in self.admitted), default=0)
        assert worst(times, WINDOW_S) <= most
        seconds = [terms.per_second for _, terms in self.admitted]
        if seconds and None not in seconds:
            assert worst(times, 1) <= max(each for each in seconds if each is not None)

    def counted(self) -> int:
        """Return what PostgreSQL counts of the key, whenever it was granted."""
        return int(self._run(
            "select coalesce((select sum(c) from rate_limit_windows, unnest(counts) as c"
            " where api_key_id = %s), 0)", (self.key_id,)
        )[0])  # fmt: skip

    def _give_back(self, unused: Iterable[Unused]) -> None:
        for each in unused:
            self._run(
                GIVE_BACK,
                ([each.organization_id], [each.key_id], [each.requests], [each.ends_at]),
            )

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        shown = BEGAN + timedelta(seconds=self.now_s + self.jumped_s)
        with self._connection.transaction():
            self._connection.execute(
                "insert into app.clock (shift) values (%s - now())"
                " on conflict (only_row) do update set shift = excluded.shift",
                (shown,),
            )
            row: tuple[Any, ...] | None = self._connection.execute(
                statement.encode(), parameters
            ).fetchone()
        assert row is not None
        return row
