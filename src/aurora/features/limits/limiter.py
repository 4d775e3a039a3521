"""The limiter of one process: requests at once from leases, and one question for all that wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

import psycopg
import structlog

from aurora.core.errors import AuroraError, Unavailable
from aurora.features.limits.budget import Asked, Budget, Terms, Unused
from aurora.features.limits.model import (
    AWAY_S,
    IDLE_S,
    LEASE_TIMEOUT_S,
    MAX_KEYS,
    MAX_RETURNS,
    MAX_WAITING,
    SWEEP_S,
    Lease,
    Taken,
)

log = structlog.get_logger(__name__)

MAX_BARREN: Final = 3
"""Leases in a row whose life was over when they came, until those who wait are told so."""
CLOSE_TIMEOUT_S: Final = 2.0


class Key(Protocol):
    """What the limiter must know of a key."""

    @property
    def id(self) -> UUID:
        """Return which key it is."""

    @property
    def organization_id(self) -> UUID:
        """Return whose key it is."""

    @property
    def rate_limit_per_hour(self) -> int:
        """Return the requests in any rolling hour."""

    @property
    def burst_per_second(self) -> int | None:
        """Return the requests in any rolling second; None where only the hour counts."""


class Windows(Protocol):
    """Where leases come from: PostgreSQL."""

    async def lease(self, organization_id: UUID, key_id: UUID, asked: Asked) -> Lease:
        """Ask for a lease and return what was granted."""

    async def give_back(self, unused: Sequence[Unused]) -> None:
        """Return what nobody used; an error means that it is lost for the window."""


def steady_s() -> float:
    """Return seconds of a clock that never goes back and does not stop while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LimiterAway(Unavailable):
    """PostgreSQL cannot say how much of a limit is left, and nothing passes on a guess."""

    code, title = "limiter_away", "The limit of the key cannot be asked right now"


class _Waiting:
    """Who waits for a key's lease, and the task that asks for it."""

    __slots__ = ("queue", "task")

    def __init__(self) -> None:
        self.queue: deque[asyncio.Future[Taken]] = deque()
        self.task: asyncio.Task[None] | None = None


class Limiter:
    """Holds what this process may let through, key by key.

    `take` answers at once where a lease is alive; `lease` waits for PostgreSQL. However many
    requests of one key wait, one question is under way. Whatever fails, nothing passes beyond
    what was granted.

    Args:
        windows: Where leases come from.
        clock: Seconds that pass; tests bring their own.
        max_keys: Keys held at once.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        clock: Callable[[], float] = steady_s,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._windows, self._clock, self._max_keys = windows, clock, max_keys
        self._budgets: dict[int, Budget] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._leased: dict[int, Budget] = {}
        self._given_up: list[Unused] = []
        self._away_until_s = float("-inf")
        self._sweeper: asyncio.Task[None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._budgets)

    def take(self, key: Key, now_s: float | None = None) -> Taken | None:
        """Take one request at once, or return None where that needs PostgreSQL.

        Args:
            key: Whose limit.
            now_s: What the clock shows, where that was just read.
        """
        budget = self._budgets.get(key.id.int)
        if budget is None:
            return None
        now_s = self._clock() if now_s is None else now_s
        return budget.take(key.rate_limit_per_hour, key.burst_per_second, now_s)

    async def lease(self, key: Key) -> Taken:
        """Take one request after a round trip to PostgreSQL.

        Raises:
            LimiterAway: PostgreSQL does not answer, or too many wait already.
        """
        taken = self.take(key)
        if taken is not None:
            return taken
        if self._is_closed or self._clock() < self._away_until_s:
            raise LimiterAway
        waiting = self._waiting.setdefault(key.id.int, _Waiting())
        if len(waiting.queue) >= MAX_WAITING:
            raise LimiterAway("Too many requests of this key wait already.")
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        waiting.queue.append(future)
        if waiting.task is None:
            terms = Terms(key.rate_limit_per_hour, key.burst_per_second)
            waiting.task = asyncio.create_task(
                self._fill(self._budget(key), terms, waiting), name="limits-lease"
            )
        return await future

    async def close(self) -> None:
        """Return what is not used; nothing passes any more."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [each.task for each in self._waiting.values() if each.task is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.gather(*tasks, return_exceptions=True)
                for budget in (*self._budgets.values(), *self._leased.values()):
                    self._give_up(budget, whole=True)
                self._budgets.clear()
                self._leased.clear()
                await self._give_back()

    def _budget(self, key: Key) -> Budget:
        """Return the key's budget, the youngest from now on; make room where there is none."""
        number = key.id.int
        budget = self._budgets.pop(number, None) or Budget(key.organization_id, key.id)
        while len(self._budgets) >= self._max_keys:
            oldest = next(iter(self._budgets))
            self._give_up(self._budgets.pop(oldest), whole=True)
        self._budgets[number] = budget
        return budget

    async def _fill(self, budget: Budget, terms: Terms, waiting: _Waiting) -> None:
        """Ask for leases until nobody waits; what goes wrong is told to all who do."""
        barren = 0
        try:
            while waiting.queue:
                asked = budget.ask(terms, len(waiting.queue), self._clock())
                async with asyncio.timeout(LEASE_TIMEOUT_S):
                    lease = await self._windows.lease(budget.organization_id, budget.key_id, asked)
                budget.settle(asked, lease, self._clock())
                self._leased[budget.key_id.int] = budget
                barren = 0 if self._serve(budget, terms, waiting) else barren + 1
                if barren == MAX_BARREN:
                    self._fail(waiting, "The answers of PostgreSQL come too late to be used.")
        except (AuroraError, psycopg.Error, OSError, TimeoutError) as error:
            log.warning("limits_away", reason=type(error).__name__)
            self._away_until_s = self._clock() + AWAY_S
        finally:
            self._fail(waiting)
            waiting.task = None
            if self._waiting.get(budget.key_id.int) is waiting:
                del self._waiting[budget.key_id.int]
            self._watch()

    def _serve(self, budget: Budget, terms: Terms, waiting: _Waiting) -> bool:
        """Answer those who wait, in the order they came; return whether anybody was."""
        served = False
        while waiting.queue:
            future = waiting.queue[0]
            if not future.done():
                taken = budget.take(terms.per_hour, terms.per_second, self._clock())
                if taken is None:
                    break
                future.set_result(taken)
            waiting.queue.popleft()
            served = True
        return served

    def _fail(self, waiting: _Waiting, detail: str | None = None) -> None:
        """Tell all who still wait that PostgreSQL did not answer."""
        while waiting.queue:
            future = waiting.queue.popleft()
            if not future.done():
                future.set_exception(LimiterAway(detail))

    def _give_up(self, budget: Budget, *, whole: bool = False) -> None:
        unused = budget.give_up(self._clock(), whole=whole)
        if unused is not None:
            self._given_up.append(unused)

    def _watch(self) -> None:
        if self._sweeper is None and not self._is_closed:
            self._sweeper = asyncio.create_task(self._sweep(), name="limits-sweep")

    async def _sweep(self) -> None:
        """Return what leases did not use, and forget keys that are not asked for any more."""
        try:
            while self._budgets or self._leased or self._given_up:
                await asyncio.sleep(SWEEP_S)
                for number, budget in list(self._leased.items()):
                    self._give_up(budget)
                    if not budget.is_live:
                        del self._leased[number]
                self._forget()
                await self._give_back()
        finally:
            self._sweeper = None

    def _forget(self) -> None:
        # The dict is in the order of the last question, so the idle ones stand in front.
        before_s = self._clock() - IDLE_S
        while self._budgets:
            number = next(iter(self._budgets))
            budget = self._budgets[number]
            if budget.asked_s > before_s or number in self._waiting:
                return
            self._give_up(self._budgets.pop(number), whole=True)

    async def _give_back(self) -> None:
        """Send back what was given up, each once: what fails is lost for the window."""
        while self._given_up:
            sent, self._given_up = self._given_up[:MAX_RETURNS], self._given_up[MAX_RETURNS:]
            try:
                async with asyncio.timeout(LEASE_TIMEOUT_S):
                    await self._windows.give_back(sent)
            except (AuroraError, psycopg.Error, OSError, TimeoutError) as error:
                log.warning("limits_not_returned", reason=type(error).__name__, leases=len(sent))
