"""The limiter of a process against a real PostgreSQL."""

from __future__ import annotations

from tests.features.limits.keys import AKey

from aurora.db.pool import Pool
from aurora.features.limits.limiter import Limiter
from aurora.features.limits.windows import PooledWindows


async def test_no_more_than_the_limit_passes(pool: Pool) -> None:
    key = AKey(rate_limit_per_hour=25)
    limiter = Limiter(PooledWindows(pool))
    answers = [limiter.take(key) or await limiter.lease(key) for _ in range(40)]
    assert [each.code for each in answers] == ["VALID"] * 25 + ["RATE_LIMITED"] * 15
    await limiter.close()
