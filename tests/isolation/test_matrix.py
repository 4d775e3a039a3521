"""No identity reads or writes what is not its own, tried on everything that the catalogue lists."""

from __future__ import annotations

from tests.isolation.matrix import MIN_CASES, run

from aurora.db.pool import Pool


async def test_nobody_reaches_what_is_not_theirs(world: str, alone: Pool) -> None:
    verdict = await run(world, alone)

    assert not verdict.breaches, "\n".join(map(str, verdict.breaches))
    assert verdict.cases >= MIN_CASES
