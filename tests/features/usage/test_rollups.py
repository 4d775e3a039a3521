"""Every sum is a recount of the raw rows at every moment, whatever happens in which order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from tests.builders import a_key, an_event, an_organization, decoded, moment
from tests.conftest import LOGIN_ROLE, Postgres

from aurora.core import clock
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Connection, tenant, transaction
from aurora.features.usage.service import Sender, ensure_partitions, record_usage

WRITERS = 8
ROUNDS = 12
ROLLED_BACK = 0.1
CHECKS = ("verify_usage_counts", "verify_usage_latencies", "verify_usage_visitors")
# What a newcomer would write: what has an id above the highest that was folded is new.
WATERMARK = """
create table public.watermark (id bigint not null);
insert into public.watermark values (0);
grant select, update on public.watermark to service_role;
"""
ABOVE_THE_WATERMARK = """
taken as (
    select d.* from public.usage_deltas d where d.id > (select w.id from public.watermark w)
  ), moved as (
    update public.watermark w set id = greatest(w.id, (select max(t.id) from taken t))
    returning w.id
  ), """


class Event(NamedTuple):
    """One event as a step makes it: few values, so that ids, days, and buckets meet."""

    id: int
    days_ago: int
    key: int | None
    endpoint: str
    status: int
    ms: int | None
    origin: str | None
    visitor: int | None
    widget: str | None


class Step(NamedTuple):
    """What happens next: events come in or are taken back, or the worker comes round."""

    what: str
    events: tuple[Event, ...] = ()
    limit: int = 1


EVENTS = st.builds(
    Event,
    st.integers(0, 12),
    st.sampled_from([0, 0, 1, 34]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["/a", "/b", "/c", "(other)"]),
    st.sampled_from([199, 200, 302, 404, 500]),
    st.sampled_from([None, 0, 7, 990, 86_400_000]),
    st.sampled_from([None, "https://a.example", "https://b.example", "https://c.example"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, "map"]),
)
BATCHES = st.lists(EVENTS, min_size=1, max_size=6).map(tuple)
STEPS = st.one_of(
    st.builds(Step, st.just("ingest"), BATCHES),
    st.builds(Step, st.just("reverse"), BATCHES),
    st.builds(Step, st.just("fold"), limit=st.sampled_from([1, 2, 1000])),
    st.builds(Step, st.just("count"), limit=st.sampled_from([1, 1000])),
)


class Undone(Exception):
    """Rolls back what was done in a transaction."""


def undo() -> NoReturn:
    raise Undone


@pytest.fixture(scope="module")
async def quiet(postgres: Postgres, template: str) -> AsyncIterator[Pool]:
    """A pool on a copy where every example is rolled back, and a day names two values only."""
    name = "quiet_rollups"
    await postgres.clone(template, name)
    async with await psycopg.AsyncConnection.connect(postgres.dsn(name), autocommit=True) as owner:
        await owner.execute(
            "create or replace function app.usage_value_limit(p_dimension text) returns integer"
            " language sql immutable as"
            " $$ select case when p_dimension in ('endpoint', 'origin') then 2 end $$"
        )
    pool = await open_pool(postgres.dsn(name, LOGIN_ROLE), name="tests")
    yield pool
    await pool.close()
    await postgres.drop(name)


async def differences(conn: psycopg.AsyncConnection[Any], organization_id: UUID) -> list[Any]:
    """Return where sums and raw rows differ over all days that an event may fall in."""
    today = clock.now().date()
    found: list[Any] = []
    for check in CHECKS:
        cursor = await conn.execute(
            f"select * from app.{check}(%s, %s, %s)".encode(),
            (organization_id, today - timedelta(days=40), today + timedelta(days=1)),
        )
        found += await cursor.fetchall()
    return found


def written(event: Event, keys: list[UUID]) -> dict[str, Any]:
    """Return the event as its sender writes it."""
    return an_event(
        id=str(event.id), timestamp=moment(clock.now() - timedelta(days=event.days_ago)),
        endpoint=event.endpoint, status_code=event.status, response_time_ms=event.ms,
        origin=event.origin, widget_type=event.widget, widget_impression=event.widget is not None,
        ip_address=None if event.visitor is None else f"192.0.2.{event.visitor}",
        api_key_id=None if event.key is None else str(keys[event.key]),
    )  # fmt: skip


async def take(conn: Connection, step: Step, organization: UUID, keys: list[UUID]) -> None:
    """Do one step."""
    if step.what == "fold":
        await conn.execute("select app.fold_usage(%s)", (step.limit,))
    elif step.what == "count":
        await conn.execute("select app.count_closed_visitors(%s)", (step.limit,))
    else:
        batch = [written(event, keys) for event in step.events]
        if step.what == "reverse":
            batch = [
                {**event, "id": f"back-{place}-{event['id']}", "reverses": event["id"]}
                for place, event in enumerate(batch)
            ]
        await record_usage(conn, decoded(batch), Sender(organization_id=organization))


# An endpoint that calls itself (other), on a day with one more than may be named.
CALLED_OTHER = tuple(
    Event(place, 0, None, endpoint, 200, 0, None, None, None)
    for place, endpoint in enumerate(["/a", "(other)", "/b", "/c"])
)


@example([Step("ingest", CALLED_OTHER), Step("fold", limit=1000)])
@given(st.lists(STEPS, min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
async def test_every_sum_is_a_recount_whatever_happens_in_which_order(
    quiet: Pool, steps: list[Step]
) -> None:
    try:
        async with transaction(quiet, PLATFORM) as conn:
            organization, keys = await a_busy_hotel(conn)
            for step in steps:
                await take(conn, step, organization, keys)
                assert await differences(conn, organization) == [], step
            undo()
    except Undone:
        pass


async def a_busy_hotel(conn: Connection) -> tuple[UUID, list[UUID]]:
    """An organization with two keys."""
    await ensure_partitions(conn)
    organization = await an_organization(conn)
    keys = [(await a_key(conn, organization)).record.id for _ in range(2)]
    return organization.id, keys


async def interleaved(dsn: str, seed: int) -> None:
    """Eight writers and a folder at once; every look in between and the last one must agree."""
    pool = await open_pool(make_conninfo(dsn, user=LOGIN_ROLE), max_size=WRITERS + 2, name="many")
    dice = random.Random(seed)
    try:
        async with transaction(pool, PLATFORM) as conn:
            hotels = [await a_busy_hotel(conn) for _ in range(2)]
        is_done = asyncio.Event()

        async def writer() -> None:
            for _ in range(ROUNDS):
                organization, keys = dice.choice(hotels)
                step = Step(dice.choice(["ingest", "ingest", "reverse"]), some_events(dice))
                try:
                    async with transaction(pool, PLATFORM) as conn:
                        await take(conn, step, organization, keys)
                        # An id that was given first may be committed last.
                        await asyncio.sleep(dice.random() / 50)
                        if dice.random() < ROLLED_BACK:
                            undo()
                except Undone:
                    pass

        async def folder() -> None:
            while not is_done.is_set():
                for what in ("fold", "count"):
                    async with transaction(pool, PLATFORM) as conn:
                        await take(conn, Step(what, limit=dice.choice([3, 1000])), *hotels[0])
                await asyncio.sleep(0.01)

        folding = asyncio.create_task(folder())
        writing = asyncio.gather(*(writer() for _ in range(WRITERS)))
        while not writing.done():
            await check(pool, hotels)
            await asyncio.sleep(0.05)
        await writing
        is_done.set()
        await folding
        for _ in range(2):
            await check(pool, hotels)
            async with transaction(pool, PLATFORM) as conn:
                await take(conn, Step("fold", limit=100_000), *hotels[0])
    finally:
        await pool.close()


async def check(pool: Pool, hotels: list[tuple[UUID, list[UUID]]]) -> None:
    for organization, _ in hotels:
        async with transaction(pool, PLATFORM) as conn:
            assert await differences(conn, organization) == []


def some_events(dice: random.Random) -> tuple[Event, ...]:
    return tuple(
        Event(
            dice.randrange(400), dice.choice([0, 0, 1, 30]), dice.choice([None, 0, 1]),
            dice.choice(["/a", "/b"]), dice.choice([200, 404]), dice.choice([None, 5, 700]),
            dice.choice([None, "https://a.example"]), dice.choice([None, 1, 2]),
            dice.choice([None, "map"]),
        )
        for _ in range(dice.randrange(1, 12))
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
async def test_eight_writers_beside_a_folder_lose_nothing(database: str, seed: int) -> None:
    await interleaved(database, seed)


async def test_a_fold_behind_a_watermark_is_caught(database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        row = await (
            await owner.execute(
                "select pg_get_functiondef('app.take_usage_deltas(integer)'::regprocedure)"
            )
        ).fetchone()
        assert row
        begins, ends = row[0].index("taken as ("), row[0].index("counts as (")
        await owner.execute(WATERMARK)
        wrong = row[0][:begins] + ABOVE_THE_WATERMARK + row[0][ends:]
        # Its views read what is not folded in the same way.
        definition = await (
            await owner.execute("select pg_get_viewdef('usage_delta_series'::regclass)")
        ).fetchone()
        assert definition
        await owner.execute(wrong)
        await owner.execute(
            "create or replace view usage_delta_series with (security_invoker = true) as "
            + definition[0].rstrip().rstrip(";")
            + " where d.id > (select id from watermark)"
        )
    with pytest.raises(AssertionError):
        await interleaved(database, 1)


# Parts of the fold whose absence must be seen: what is cut out of which function.
LATE_VISITORS = """    delete from public.usage_visitors v
    using (
      select distinct f.organization_id, (f.hour at time zone 'UTC')::date as date,
        f.value::uuid as api_key_id
      from pg_temp.usage_folding f where f.dimension = 'api_key'
    ) f
    where v.organization_id = f.organization_id and v.date = f.date and v.api_key_id = f.api_key_id;
"""
BEFORE = """          union all
          select before.bucket, before.count
          from unnest(l.buckets, l.counts) as before (bucket, count)
"""
FORGOTTEN = {
    "latencies": ("fold_usage", "perform app.fold_usage_latencies();"),
    "late visitors": ("fold_usage", LATE_VISITORS),
    "what was there before": ("fold_usage_latencies", BEFORE),
    "earlier sums": ("fold_usage_rollups", "billable = r.billable + excluded.billable,"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
async def test_a_fold_that_forgets_is_caught(what: str, database: str) -> None:
    name, part = FORGOTTEN[what]
    await change_function(database, name, part, "")
    pool = await open_pool(make_conninfo(database, user=LOGIN_ROLE), name="tests")
    try:
        async with transaction(pool, PLATFORM) as conn:
            organization, keys = await a_busy_hotel(conn)
            found: list[Any] = []
            for number in range(3):
                event = Event(number, 1, 0, "/a", 200, 7 + number, None, number, "map")
                await take(conn, Step("ingest", (event,)), organization, keys)
                await take(conn, Step("fold", limit=1000), organization, keys)
                await take(conn, Step("count", limit=1000), organization, keys)
                found += await differences(conn, organization)
        assert found
    finally:
        await pool.close()


async def change_function(database: str, name: str, part: str, other: str) -> None:
    """Replace a part of a function of ours, which must be there."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as owner:
        query = "select pg_get_functiondef(p.oid) from pg_proc p where proname = %s"
        row = await (await owner.execute(query, (name,))).fetchone()
        assert row
        assert part in row[0]
        await owner.execute(row[0].replace(part, other))


async def more_origins_than_names(pool: Pool) -> None:
    """230 origins twice over: 200 are named and exact, the others are summed."""
    async with transaction(pool, PLATFORM) as conn:
        organization, keys = await a_busy_hotel(conn)
        for turn in range(2):
            batch = [
                written(
                    Event(turn * 1000 + n, 0, 0, "/x", 200, 5, f"https://{n}.example", None, None),
                    keys,
                )
                for n in range(230)
            ]
            await record_usage(conn, decoded(batch), Sender(organization_id=organization))
            await take(conn, Step("fold", limit=1000), organization, keys)
        found = await (
            await conn.execute(
                "select value = '(other)', count(*), sum(requests)::int from usage_daily"
                " where organization_id = %s and dimension = 'origin' group by 1 order by 1",
                (organization,),
            )
        ).fetchall()
        assert await differences(conn, organization) == []
        assert found == [(False, 200, 400), (True, 1, 60)]


async def test_beyond_the_limit_values_are_summed_as_other_and_named_ones_stay_exact(
    pool: Pool,
) -> None:
    await more_origins_than_names(pool)


@pytest.mark.parametrize(
    ("part", "other"),
    [("where d.value is null", "where true"), ("u.place + k.named > ", "u.place > 1000 + ")],
)
async def test_a_limit_that_is_kept_otherwise_is_caught(
    part: str, other: str, database: str, pool: Pool
) -> None:
    await change_function(database, "fold_usage_counts", part, other)
    with pytest.raises(AssertionError):
        await more_origins_than_names(pool)


async def test_the_middle_of_a_bucket_is_at_most_five_percent_off(
    connection: psycopg.AsyncConnection[Any],
) -> None:
    cursor = await connection.execute(
        """select max(abs(app.latency_value(app.latency_bucket(ms)) - ms) / greatest(ms, 1)),
          count(distinct app.latency_bucket(ms)) from (
            select generate_series(0, 20000) as ms
            union all select b - 1 from unnest(app.latency_bounds()) b where b > 0
            union all select b from unnest(app.latency_bounds()) b
            union all select 2147483647
          ) every"""
    )
    row = await cursor.fetchone()
    assert row is not None
    assert 0.04 < row[0] < 0.05
    assert row[1] == 207


async def test_an_organization_sees_its_own_sums_alone(pool: Pool) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization, keys = await a_busy_hotel(conn)
        event = Event(1, 0, 0, "/a", 200, 5, None, 1, "map")
        await take(conn, Step("ingest", (event,)), organization, keys)
    other = UUID(int=5)
    for who, seen in ((organization, 7), (other, 0)):
        async with transaction(pool, tenant(who)) as conn:
            row = await (await conn.execute("select count(*) from usage_daily_series")).fetchone()
            assert row == (seen,)
