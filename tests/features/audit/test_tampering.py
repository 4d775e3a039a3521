"""What a superuser does to the record behind its triggers is found, at the row where it begins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.audit.stage import OPERATOR, a_key, an_organization, tamper, verified

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.audit.chain import ChainChecker, check_events, digest_of
from aurora.features.audit.model import ChainedEvent, Head
from aurora.features.audit.service import list_heads
from aurora.features.audit.store import stream_chain

LENGTH = 8


@pytest.fixture
async def chain(pool: Pool) -> UUID:
    """An organization whose chain has `LENGTH` events, beside another that is left alone."""
    await a_key(pool, await an_organization(pool))
    organization = await an_organization(pool)
    for _ in range(LENGTH - 1):
        await a_key(pool, organization, OPERATOR)
    return organization


async def heads(pool: Pool) -> list[Head]:
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return await list_heads(conn)


async def rows(pool: Pool, organization_id: UUID) -> list[ChainedEvent]:
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return [event async for event in stream_chain(conn, organization_id)]


async def test_what_nobody_touched_is_whole(pool: Pool, chain: UUID) -> None:
    found = await verified(pool)
    assert found.broken == []
    # The platform's own has what the first migrations and other tests wrote: the seller, the plans.
    assert found.events >= LENGTH + 2
    assert (await verified(pool, organization_id=chain)).events == LENGTH


async def test_what_python_recomputes_is_what_postgresql_hashed(pool: Pool, chain: UUID) -> None:
    events = await rows(pool, chain)
    assert [event.sequence for event in events] == list(range(1, LENGTH + 1))
    assert all(digest_of(event) == event.hash for event in events)


MINE = "organization_id = %(id)s and"
CHANGES = {
    "actor": "'nobody'",
    "after": """after || '{"name": "Another"}'""",
    "before": "'{}'",
    "action": "'api_key.updated'",
    "subject_id": "'x'",
    "subject_type": "'x'",
    "request_id": "null",
    "database_role": "'x'",
    "occurred_at": "occurred_at + interval '1 microsecond'",
    "previous_hash": "sha256('x')",
    "hash": "sha256('x')",
    "id": "id + 1000",
}


@pytest.mark.parametrize("column", CHANGES)
async def test_a_changed_row_is_found(pool: Pool, database: str, chain: UUID, column: str) -> None:
    await tamper(
        database,
        f"update audit_events set {column} = {CHANGES[column]} where {MINE} sequence = 5",
        id=chain,
    )
    (broken,) = (await verified(pool)).broken
    assert (broken.organization_id, broken.sequence, broken.fault) == (chain, 5, "changed")


async def test_every_column_is_tampered_with_above(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        cursor = await conn.execute("select * from audit_events limit 0")
        assert {c.name for c in cursor.description or ()} == {
            *CHANGES,
            "organization_id",
            "sequence",
        }


MOVE_OUT = f"update audit_events set sequence = 100 where {MINE} sequence = 5"
TAMPERINGS = {
    "missing": (5, "missing", [f"delete from audit_events where {MINE} sequence = 5"]),
    "missing and closed": (
        5,
        "changed",
        [
            f"delete from audit_events where {MINE} sequence = 5",
            # In two steps, because the constraint is checked at each row.
            f"update audit_events set sequence = sequence + 1000 where {MINE} sequence > 5",
            f"update audit_events set sequence = sequence - 1001 where {MINE} sequence > 1000",
        ],
    ),
    "missing at the start": (1, "missing", [f"delete from audit_events where {MINE} sequence = 1"]),
    "inserted": (
        LENGTH + 1,
        "changed",
        [
            (
                "insert into audit_events (organization_id, sequence, occurred_at, actor,"
                " database_role, action, subject_type, subject_id, previous_hash, hash)"
                " select organization_id, sequence + 1, occurred_at, 'forger', database_role,"
                " action, subject_type, 'x', hash, hash from audit_events"
                f" where {MINE} sequence = {LENGTH}"
            )
        ],
    ),
    "inserted twice": (
        5,
        "out_of_place",
        [
            "alter table audit_events drop constraint audit_events_organization_id_sequence_key",
            (
                "insert into audit_events (organization_id, sequence, occurred_at, actor,"
                " database_role, action, subject_type, subject_id, previous_hash, hash)"
                " select organization_id, sequence, occurred_at, 'forger', database_role, action,"
                " subject_type, 'x', previous_hash, hash from audit_events"
                f" where {MINE} sequence = 5"
            ),
        ],
    ),
    "reordered": (
        5,
        "changed",
        [
            MOVE_OUT,
            f"update audit_events set sequence = 5 where {MINE} sequence = 6",
            f"update audit_events set sequence = 6 where {MINE} sequence = 100",
        ],
    ),
    "moved to the end": (5, "missing", [MOVE_OUT]),
    "given to another": (
        5,
        "missing",
        [f"update audit_events set organization_id = gen_random_uuid() where {MINE} sequence = 5"],
    ),
    "tail cut": (LENGTH - 1, "cut_off", [f"delete from audit_events where {MINE} sequence >= 7"]),
    "all gone": (1, "cut_off", ["delete from audit_events where organization_id = %(id)s"]),
    "head gone": (LENGTH, "head_missing", ["delete from audit_heads where chain = %(id)s"]),
    "head changed": (
        LENGTH,
        "head_changed",
        ["update audit_heads set hash = sha256('x') where chain = %(id)s"],
    ),
    "head set back": (
        LENGTH,
        "beyond_head",
        [
            (
                f"update audit_heads set sequence = {LENGTH - 1}, hash = (select hash"
                f" from audit_events where {MINE} sequence = {LENGTH - 1}) where chain = %(id)s"
            )
        ],
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_whatever_else_is_done_to_a_chain_is_found(
    pool: Pool, database: str, chain: UUID, how: str
) -> None:
    sequence, fault, statements = TAMPERINGS[how]
    await tamper(database, *statements, id=chain)
    broken = {b.organization_id: b for b in (await verified(pool)).broken}
    assert (broken[chain].sequence, broken[chain].fault) == (sequence, fault)


CUT_AND_SET_BACK = (
    f"delete from audit_events where {MINE} sequence >= 7",
    (
        f"update audit_heads set sequence = 6, hash = (select hash from audit_events where {MINE}"
        " sequence = 6) where chain = %(id)s"
    ),
)


async def test_a_cut_with_the_head_set_back_is_found_by_the_head_kept_elsewhere(
    pool: Pool, database: str, chain: UUID
) -> None:
    noted = await heads(pool)
    await tamper(database, *CUT_AND_SET_BACK, id=chain)
    # Nothing inside the database can tell: this is why heads are kept outside.
    assert (await verified(pool)).broken == []
    (broken,) = (await verified(pool, noted=noted)).broken
    assert (broken.sequence, broken.fault) == (7, "cut_off")


async def test_a_chain_written_anew_is_found_by_the_head_kept_elsewhere(
    pool: Pool, database: str, chain: UUID
) -> None:
    noted = await heads(pool)
    events = await rows(pool, chain)
    previous, statements = events[4].previous_hash, []
    for event in events[4:]:
        forged = replace(event, actor="nobody", previous_hash=previous)
        previous = digest_of(forged)
        statements.append(
            "update audit_events set actor = 'nobody',"
            f" previous_hash = '\\x{forged.previous_hash.hex()}', hash = '\\x{previous.hex()}'"
            f" where {MINE} sequence = {event.sequence}"
        )
    statements.append(f"update audit_heads set hash = '\\x{previous.hex()}' where chain = %(id)s")
    await tamper(database, *statements, id=chain)
    assert (await verified(pool)).broken == []
    (broken,) = (await verified(pool, noted=noted)).broken
    assert (broken.organization_id, broken.fault) == (chain, "not_as_noted")


async def test_heads_kept_long_ago_still_fit_a_chain_that_grew(pool: Pool, chain: UUID) -> None:
    noted = await heads(pool)
    await a_key(pool, chain)
    assert (await verified(pool, noted=noted)).broken == []


async def test_a_check_of_links_alone_would_miss_a_changed_row(
    pool: Pool, database: str, chain: UUID
) -> None:
    """The mutant: it believes each row's own hash. It shows that recomputing is what finds it."""
    await tamper(
        database, f"update audit_events set actor = 'nobody' where {MINE} sequence = 5", id=chain
    )
    assert (await verified(pool, digest=lambda event: event.hash)).broken == []
    assert len((await verified(pool)).broken) == 1


async def test_memory_stays_bounded_and_a_broken_chain_is_read_no_further(pool: Pool) -> None:
    an_event = an_event_of(sequence=5)
    read = 0

    async def endless() -> AsyncIterator[ChainedEvent]:
        nonlocal read
        while True:
            read += 1
            yield an_event

    found = await check_events(ChainChecker(None, None), endless())
    assert (read, found and found.fault) == (1, "missing")


def an_event_of(**fields: object) -> ChainedEvent:
    """An event that no database made."""
    event = ChainedEvent(
        id=1,
        organization_id=None,
        sequence=1,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="a",
        database_role="b",
        request_id=None,
        action="x.y",
        subject_type="x",
        subject_id="1",
        before=None,
        after=None,
        previous_hash=bytes(32),
        hash=bytes(32),
    )
    return replace(event, **fields)  # type: ignore[arg-type]


@given(
    st.lists(st.text(max_size=4) | st.none(), min_size=4, max_size=4),
    st.lists(st.text(max_size=4) | st.none(), min_size=4, max_size=4),
)
def test_no_two_events_have_one_encoding(some: list[str | None], other: list[str | None]) -> None:
    names = ("request_id", "before", "after", "subject_id")
    pair = [
        an_event_of(**{**dict(zip(names, values, strict=True)), "subject_id": values[3] or ""})
        for values in (some, other)
    ]
    assert (digest_of(pair[0]) == digest_of(pair[1])) is (pair[0] == pair[1])


def test_the_zone_in_which_a_time_is_read_is_no_change() -> None:
    elsewhere = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert digest_of(an_event_of()) == digest_of(an_event_of(occurred_at=elsewhere))
