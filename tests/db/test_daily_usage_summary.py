"""The daily summary is a recount of the raw rows at every moment, whatever was folded or counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.builders import a_key, an_event, an_organization, decoded, moment
from tests.conftest import LOGIN_ROLE

from aurora.core import clock
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Connection, tenant, transaction
from aurora.features.usage.service import record_usage
from aurora.features.usage.staging import Sender

# The document's view over the raw rows, but that 2xx and 3xx are successes (a departure).
RECOUNT = """
select organization_id, api_key_id, date, count(*), count(*) filter (where widget_impression),
  count(*) filter (where status_code between 200 and 399), count(*) filter (where status_code >= 400),
  count(*) filter (where cached), round(avg(response_time_ms), 6), count(distinct ip_address)
from usage_analytics group by 1, 2, 3 order by 1, 2, 3
"""
SUMMARY = """
select organization_id, api_key_id, date, total_requests, widget_impressions, successful_requests,
  failed_requests, cached_requests, round(avg_response_time, 6), unique_visitors
from daily_usage_summary order by 1, 2, 3
"""


class Event(NamedTuple):
    """One event as a step makes it: few values, so that ids, days, and visitors meet."""

    id: int
    days_ago: int
    key: int | None
    status: int
    shown: bool
    ms: int | None
    visitor: int | None


class Step(NamedTuple):
    """What happens next: events come in by one of two doors, or the worker comes round."""

    what: str
    events: tuple[Event, ...] = ()
    limit: int = 1


EVENTS = st.builds(
    Event,
    st.integers(0, 12),
    st.sampled_from([0, 0, 1, 2, 30]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([200, 204, 304, 404, 500]),
    st.booleans(),
    st.sampled_from([None, 0, 7, 990]),
    st.sampled_from([None, 1, 2, 3]),
)
STEPS = st.one_of(
    st.builds(Step, st.just("ingest"), st.lists(EVENTS, min_size=1, max_size=6).map(tuple)),
    st.builds(Step, st.just("track"), st.tuples(EVENTS)),
    st.builds(Step, st.just("fold"), limit=st.sampled_from([1, 2, 1000])),
    st.builds(Step, st.just("count"), limit=st.sampled_from([1, 1000])),
)
YESTERDAY = Event(1, 1, 0, 200, shown=True, ms=5, visitor=1)


class Undone(Exception):
    """Rolls the example back."""


@pytest.fixture(scope="module")
async def quiet(worker_dsn: str) -> AsyncIterator[Pool]:
    """The application's pool on the worker's own copy, where every example is rolled back."""
    pool = await open_pool(
        psycopg.conninfo.make_conninfo(worker_dsn, user=LOGIN_ROLE), name="tests"
    )
    yield pool
    await pool.close()


async def rows(conn: psycopg.AsyncConnection[Any], query: str) -> list[Any]:
    return await (await conn.execute(query.encode())).fetchall()


def at(event: Event) -> datetime:
    """A moment of the event's UTC day that is not to come."""
    now = clock.now()
    day = now - timedelta(days=event.days_ago)
    return day if event.days_ago == 0 else day.replace(hour=event.id)


async def take(conn: Connection, step: Step, organization: UUID, keys: list[UUID]) -> None:
    """Do one step."""
    if step.what == "fold":
        await conn.execute("select app.fold_usage(%s)", (step.limit,))
    elif step.what == "count":
        await conn.execute("select app.count_closed_visitors(%s)", (step.limit,))
    elif step.what == "track":
        [event] = step.events
        await conn.execute(
            "select track_usage(%s, %s, '/x', %s, p_response_time_ms => %s, p_cached => %s,"
            " p_widget_impression => %s, p_ip_address => %s, p_event_id => %s, p_timestamp => %s)",
            (
                organization, None if event.key is None else keys[event.key], event.status,
                event.ms, event.shown, event.shown, address(event), str(event.id), at(event),
            ),
        )  # fmt: skip
    else:
        batch = [
            an_event(
                id=str(event.id), timestamp=moment(at(event)), status_code=event.status,
                response_time_ms=event.ms, widget_impression=event.shown, cached=event.shown,
                ip_address=address(event),
                api_key_id=None if event.key is None else str(keys[event.key]),
            )
            for event in step.events
        ]  # fmt: skip
        receipt = await record_usage(conn, decoded(batch), Sender(organization_id=organization))
        assert not receipt.rejected
        told = receipt.accepted + receipt.duplicates + len(receipt.conflicts)
        assert told == len(batch)
        assert receipt.accepted >= 0


def address(event: Event) -> str | None:
    return None if event.visitor is None else f"192.0.2.{event.visitor}"


@given(st.lists(STEPS, min_size=1, max_size=12))
@example(
    # A late event of a new visitor after its day was closed and counted, not yet folded.
    [
        Step("ingest", (YESTERDAY,)),
        Step("fold", limit=1000),
        Step("count", limit=1000),
        Step("ingest", (YESTERDAY._replace(id=2, visitor=2),)),
    ]
)
@settings(max_examples=60, deadline=None)
async def test_the_summary_is_a_recount_after_every_step(quiet: Pool, steps: list[Step]) -> None:
    try:
        async with transaction(quiet, PLATFORM) as conn:
            await conn.execute(
                "select app.ensure_usage_partitions(current_date - 40, current_date + 1)"
            )
            organization = await an_organization(conn)
            keys = [(await a_key(conn, organization)).record.id for _ in range(2)]
            for step in steps:
                await take(conn, step, organization.id, keys)
                recounted = await rows(conn, RECOUNT)
                assert await rows(conn, SUMMARY) == recounted, step
            # An organization's own look at it goes through other policies and gives the same.
            await conn.execute("select set_config('role', 'tenant', true)")
            await conn.execute("select app.set_organization(%s)", (organization.id,))
            assert await rows(conn, SUMMARY) == recounted
            raise Undone
    except Undone:
        pass


async def test_a_summary_of_folded_rows_alone_would_be_seen(quiet: Pool) -> None:
    try:
        async with transaction(quiet, PLATFORM) as conn:
            organization = await an_organization(conn)
            key = (await a_key(conn, organization)).record.id
            await take(conn, Step("ingest", (YESTERDAY,)), organization.id, [key])
            [(folded,)] = await rows(conn, "select count(*) from usage_daily")
            [(fresh,)] = await rows(conn, "select count(*) from daily_usage_summary")
            assert (folded, fresh) == (0, 1)
            raise Undone
    except Undone:
        pass


async def test_visitors_counted_while_a_late_event_is_folded_are_counted_again(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        key = (await a_key(conn, organization)).record.id
        await take(conn, Step("ingest", (YESTERDAY,)), organization.id, [key])
        await take(conn, Step("fold", limit=1000), organization.id, [key])
    async with transaction(pool, PLATFORM) as counting:
        await take(counting, Step("count", limit=1000), organization.id, [key])
        # Another worker folds what came meanwhile, before this count is committed.
        async with transaction(pool, PLATFORM) as conn:
            late = YESTERDAY._replace(id=2, visitor=2)
            await take(conn, Step("ingest", (late,)), organization.id, [key])
        async with transaction(pool, PLATFORM) as conn:
            await asyncio.wait_for(
                take(conn, Step("fold", limit=1000), organization.id, [key]), timeout=5
            )
    for _ in range(2):
        async with transaction(pool, PLATFORM) as conn:
            await take(conn, Step("fold", limit=1000), organization.id, [key])
            await take(conn, Step("count", limit=1000), organization.id, [key])
    async with transaction(pool, tenant(organization.id)) as conn:
        [(visitors,)] = await rows(conn, "select unique_visitors from daily_usage_summary")
        assert visitors == 2
