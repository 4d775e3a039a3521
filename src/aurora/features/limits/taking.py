"""What a request takes of its organization's quota and its key's limit: the gate's one question."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil
from typing import Final, Protocol
from uuid import UUID

from msgspec.structs import replace

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.limits import service
from aurora.features.limits.limiter import Key, Limiter, steady_s
from aurora.features.limits.model import LEASE_TIMEOUT_S, WIDGET_SCOPE, Quota, Taken
from aurora.features.limits.quotas import Quotas
from aurora.features.limits.windows import PooledWindows

_TIMEOUT_MS: Final = int(LEASE_TIMEOUT_S * 1000)


class MeteredKey(Key, Protocol):
    """What must be known of a key beyond its limits."""

    @property
    def kind(self) -> str:
        """Return secret or publishable."""

    @property
    def environment(self) -> str:
        """Return production or test."""


class Limits:
    """Answers for one process what a request may take.

    The quota is asked before the limit: a request that it refuses takes nothing of the hour, and
    the reason that lasts longer is the one that is told. A widget passes where a quota is used up,
    so that a guest's page never breaks; what was used says that it shows its badge.

    Args:
        pool: Of PostgreSQL.
        steady: Seconds that pass; tests bring their own.
    """

    def __init__(self, pool: Pool, *, steady: Callable[[], float] = steady_s) -> None:
        self._pool, self._steady = pool, steady
        self.limiter = Limiter(PooledWindows(pool), clock=steady)
        self.quotas = Quotas(self._find, self._warn, clock=steady)

    def take(self, key: MeteredKey, scope: str | None = None) -> Taken | None:
        """Take one request at once, or return None where that needs PostgreSQL.

        Args:
            key: The key, alive and allowed to do what is asked.
            scope: What the request is going to do, where it says so.
        """
        # One look at the clock for both: it costs as much as either of them.
        now_s = self._steady()
        if key.environment != "production":
            return self.limiter.take(key, now_s)
        known = self.quotas.fresh(key.organization_id, now_s)
        if known is None:
            return None
        if known.quota is None:
            return self.limiter.take(key, now_s)
        if known.is_exceeded and not is_for_widgets(key, scope):
            return _exceeded(key, known.quota)
        taken = self.limiter.take(key, now_s)
        return None if taken is None else _with_quota(taken, known.quota)

    async def lease(self, key: MeteredKey, scope: str | None = None) -> Taken:
        """Take one request, after asking PostgreSQL what is not known.

        Raises:
            LimiterAway: PostgreSQL does not answer; nothing was taken.
        """
        known = None
        if key.environment == "production":
            known = await self.quotas.known(key.organization_id)
            if known.is_exceeded and not is_for_widgets(key, scope):
                return _exceeded(key, known.quota)
        taken = await self.limiter.lease(key)
        return taken if known is None else _with_quota(taken, known.quota)

    def recorded(self, organization_ids: Iterable[UUID]) -> None:
        """Look soon at the quotas of organizations whose usage was just committed."""
        self.quotas.recorded(organization_ids)

    async def close(self) -> None:
        """Return what is not used; nothing passes any more."""
        await self.quotas.close()
        await self.limiter.close()

    async def _find(self, organization_id: UUID) -> Quota | None:
        async with transaction(
            self._pool, PLATFORM, read_only=True, statement_timeout_ms=_TIMEOUT_MS
        ) as conn:
            return await service.find_quota(conn, organization_id)

    async def _warn(self, organization_id: UUID) -> int:
        async with transaction(self._pool, PLATFORM, statement_timeout_ms=_TIMEOUT_MS) as conn:
            return await service.warn_of_quota(conn, organization_id)


def is_for_widgets(key: MeteredKey, scope: str | None) -> bool:
    """Return whether a request shows a widget: its key stands in a page, or it says so."""
    return key.kind == "publishable" or scope == WIDGET_SCOPE


def _exceeded(key: MeteredKey, quota: Quota | None) -> Taken:
    taken = _with_quota(Taken(code="QUOTA_EXCEEDED", limit=key.rate_limit_per_hour), quota)
    if quota is None:
        return taken
    left_s = ceil((quota.period_end - clock.now()).total_seconds())
    return replace(taken, retry_after_s=max(left_s, 1))


def _with_quota(taken: Taken, quota: Quota | None) -> Taken:
    if quota is None or quota.included is None:
        return taken
    return replace(taken, quota_used=quota.used, quota_included=quota.included)
