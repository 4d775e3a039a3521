"""Requests that are cancelled at any moment leave nothing on the connection for the next one."""

from __future__ import annotations

from bench.rig.storm import storm
from tests.isolation.identities import ORGANIZATIONS
from tests.isolation.test_mutants import with_session_settings

from aurora.db.pool import Pool

REQUESTS = 2_000
TENANTS = tuple(ORGANIZATIONS.values())


async def test_cancelled_requests_leave_no_foreign_row_and_no_dirty_connection(alone: Pool) -> None:
    tally = await storm(alone, TENANTS, requests=REQUESTS)

    assert (tally.foreign, tally.dirty, tally.missing) == (0, 0, 0)
    # Cancellations fell on everything: some requests were quicker, most were not.
    assert tally.cancelled >= REQUESTS // 4
    assert tally.finished >= REQUESTS // 50


async def test_the_storm_finds_identities_that_stay_on_a_connection(alone: Pool) -> None:
    tally = await storm(alone, TENANTS, requests=400, opened=with_session_settings)

    assert tally.dirty
