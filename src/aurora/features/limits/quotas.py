"""How much of their quotas organizations have used, in this process, never over a second old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg
import structlog

from aurora.core.errors import AuroraError
from aurora.features.limits.limiter import LimiterAway, steady_s
from aurora.features.limits.model import LEASE_TIMEOUT_S, Quota

log = structlog.get_logger(__name__)

FRESH_S: Final = 0.9
"""How old an answer may be, from before it was asked for."""
REFRESH_S: Final = 0.45
"""From this age on it is asked for anew while requests still come."""
MAX_ORGANIZATIONS: Final = 100_000
LOOK_S: Final = 0.2
"""How soon after a commit its organizations' quotas are looked at."""
MAX_LOOKS: Final = 4
"""Questions at once for organizations whose usage was just recorded."""

Find = Callable[[UUID], Awaitable[Quota | None]]
Warn = Callable[[UUID], Awaitable[int]]


class Known:
    """What was last heard of one organization's quota.

    Attributes:
        quota: None where no subscription runs.
        asked_s: When it was asked for.
        told: The highest threshold that people were told of.
        told_of: The beginning of the month in which they were.
    """

    __slots__ = ("asked_s", "quota", "told", "told_of")

    def __init__(self) -> None:
        self.quota: Quota | None = None
        self.asked_s = float("-inf")
        self.told = 0
        self.told_of: datetime | None = None

    @property
    def is_exceeded(self) -> bool:
        """Return whether the plan stops here."""
        return self.quota is not None and self.quota.is_exceeded


class Quotas:
    """Knows quotas, asks for them again while they are needed, and has people warned of them.

    Args:
        find: Reads how much of a quota is used.
        warn: Tells people of thresholds that are passed, each fact once whoever asks.
        clock: Seconds that pass; tests bring their own.
    """

    def __init__(self, find: Find, warn: Warn, *, clock: Callable[[], float] = steady_s) -> None:
        self._find, self._warn, self._clock = find, warn, clock
        self._known: dict[int, Known] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._recorded: dict[UUID, float] = {}
        self._looking: asyncio.Task[None] | None = None

    def fresh(self, organization_id: UUID, now_s: float | None = None) -> Known | None:
        """Return what is known, or None where it is too old to be used.

        Args:
            organization_id: Whose quota.
            now_s: What the clock shows, where that was just read.
        """
        known = self._known.get(organization_id.int)
        if known is None:
            return None
        age_s = (self._clock() if now_s is None else now_s) - known.asked_s
        if age_s >= FRESH_S:
            return None
        if age_s >= REFRESH_S and organization_id.int not in self._asking:
            self._ask(organization_id)
        return known

    async def known(self, organization_id: UUID) -> Known:
        """Return what is known, after asking where it is too old.

        Raises:
            LimiterAway: PostgreSQL does not answer.
        """
        known = self.fresh(organization_id)
        if known is not None:
            return known
        task = self._asking.get(organization_id.int) or self._ask(organization_id)
        # The task is everybody's: whoever leaves must not end it.
        await asyncio.wait({task})
        known = self.fresh(organization_id)
        if known is None:
            raise LimiterAway("The quota of the organization cannot be asked right now.")
        return known

    def recorded(self, organization_ids: Iterable[UUID]) -> None:
        """Look soon at quotas of organizations whose usage was just committed, and warn."""
        now_s = self._clock()
        for organization_id in organization_ids:
            if len(self._recorded) < MAX_ORGANIZATIONS:
                self._recorded[organization_id] = now_s
        if self._recorded and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="limits-look")

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._asking.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Look at quotas of what was recorded, a few at a time, and each a few times a second."""
        try:
            while self._recorded:
                await asyncio.sleep(LOOK_S)
                recorded, self._recorded = list(self._recorded.items()), {}
                for batch in _batches(recorded):
                    await asyncio.gather(*(self._look_at(*each) for each in batch))
        finally:
            self._looking = None

    async def _look_at(self, organization_id: UUID, committed_s: float) -> None:
        """Ask for a quota, unless what is known was asked for after the commit."""
        for _ in range(2):
            known = self._known.get(organization_id.int)
            if known is not None and known.asked_s >= committed_s:
                return
            task = self._asking.get(organization_id.int) or self._ask(organization_id)
            await asyncio.wait({task})

    def _ask(self, organization_id: UUID) -> asyncio.Task[None]:
        task = asyncio.create_task(self._read(organization_id), name="limits-quota")
        self._asking[organization_id.int] = task
        return task

    async def _read(self, organization_id: UUID) -> None:
        number = organization_id.int
        asked_s = self._clock()
        try:
            async with asyncio.timeout(LEASE_TIMEOUT_S):
                quota = await self._find(organization_id)
            known = self._known.pop(number, None) or Known()
            while len(self._known) >= MAX_ORGANIZATIONS:
                del self._known[next(iter(self._known))]
            known.quota, known.asked_s = quota, asked_s
            self._known[number] = known
            await self._tell(organization_id, known)
        except (AuroraError, psycopg.Error, OSError, TimeoutError) as error:
            log.warning("quota_unknown", reason=type(error).__name__)
        finally:
            self._asking.pop(number, None)

    async def _tell(self, organization_id: UUID, known: Known) -> None:
        """Have people warned where a threshold was passed that this process did not tell of."""
        quota = known.quota
        passed = 0 if quota is None else quota.passed
        if quota is None or not passed:
            return
        if known.told_of == quota.period_start and known.told >= passed:
            return
        await self._warn(organization_id)
        known.told, known.told_of = passed, quota.period_start


def _batches(recorded: Sequence[tuple[UUID, float]]) -> Iterator[Sequence[tuple[UUID, float]]]:
    for place in range(0, len(recorded), MAX_LOOKS):
        yield recorded[place : place + MAX_LOOKS]
