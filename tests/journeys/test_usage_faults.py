"""What was acknowledged is stored once, whatever is killed; and who breaks that is caught."""

from __future__ import annotations

from bench.rig.faults import ANSWERED_FIRST, UNCLAIMED, mutant, run_faults


async def test_kills_and_lost_replies_lose_nothing_and_count_nothing_twice() -> None:
    tally = await run_faults(kills_of_postgres=2, kills_of_the_server=2)
    assert tally.acknowledged
    assert tally.dropped_replies
    assert tally.is_whole, tally


async def test_a_server_that_answers_before_the_commit_is_caught() -> None:
    tally = await run_faults(
        kills_of_postgres=1, kills_of_the_server=2, program=mutant(ANSWERED_FIRST)
    )
    assert not tally.is_whole


async def test_a_database_that_answers_before_the_disk_is_caught() -> None:
    tally = await run_faults(
        kills_of_postgres=2,
        kills_of_the_server=0,
        # Without it PostgreSQL itself would write within a fifth of a second.
        settings={"synchronous_commit": "off", "wal_writer_delay": "10s"},
    )
    assert tally.lost


async def test_an_ingest_that_claims_nothing_is_caught() -> None:
    tally = await run_faults(kills_of_postgres=0, kills_of_the_server=1, claim=UNCLAIMED)
    assert tally.twice
