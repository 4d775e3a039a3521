"""Background work: jobs and cron in PostgreSQL (pgqueuer), enqueued in our own transaction.

The library is imported where it is used: that takes a third of a second, and most of what imports
this module only says what its jobs are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import structlog

from aurora.db.pool import Pool
from aurora.db.transaction import Connection, named

if TYPE_CHECKING:
    from pgqueuer import PgQueuer
    from pgqueuer.adapters.persistence.queries import Queries
    from pgqueuer.models import Job as QueuedJob
    from pgqueuer.models import Schedule
    from pgqueuer.ports.driver import Driver

SCHEMA = "pgqueuer"
MAX_CONCURRENT_JOBS = 8
DEQUEUE_TIMEOUT = timedelta(seconds=5)
RECONNECT_DELAY_S = 2.0

GRANTS = f"""
grant usage on schema {SCHEMA} to service_role, aurora_app;
grant select, insert, update, delete, truncate on all tables in schema {SCHEMA}
  to service_role, aurora_app;
grant usage, select on all sequences in schema {SCHEMA} to service_role, aurora_app;
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cron:
    """Work that comes round: `expression` is a crontab line in UTC; `run` says how much it did."""

    name: str
    expression: str
    run: Callable[[Pool], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is enqueued: `run` gets the payload and may be called again after a failure."""

    name: str
    run: Callable[[Pool, bytes], Awaitable[None]]


def _queries(driver: Driver) -> Queries:
    from pgqueuer.adapters.persistence import qb
    from pgqueuer.adapters.persistence.queries import Queries
    from pgqueuer.domain.settings import DBSettings

    settings = DBSettings(db_schema=SCHEMA)
    return Queries(
        driver,
        qbe=qb.QueryBuilderEnvironment(settings),
        qbq=qb.QueryQueueBuilder(settings),
        qbs=qb.QuerySchedulerBuilder(settings),
    )


async def install(dsn: str) -> None:
    """Make or upgrade the queue's tables; safe to call at every start.

    Args:
        dsn: A connection that may create schemas.
    """
    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        # pgqueuer's own lock starts with its upgrade; two first installs would meet before it.
        await connection.execute("select pg_advisory_lock(hashtextextended('aurora.jobs', 0))")
        queries = _queries(PsycopgDriver(connection))
        if await queries.schema_is_installed():
            await queries.upgrade()
        else:
            await queries.install()
        await connection.execute(_enqueue_sql().encode())
        await connection.execute(GRANTS)


def install_sql() -> str:
    """Return the SQL that `install` runs on a database without a queue."""
    from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
    from pgqueuer.domain.settings import DBSettings

    made = QueryBuilderEnvironment(DBSettings(db_schema=SCHEMA)).build_install_query()
    return f"{made}\n{_enqueue_sql()}\n{GRANTS}"


def _enqueue_sql() -> str:
    """Return the function by which SQL enqueues a job, for what is enqueued in one round trip.

    It writes what the library's own `enqueue` writes, without its support for many jobs at once,
    which costs three times as much; a test compares the rows.
    """
    from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
    from pgqueuer.domain.settings import DBSettings

    queue = QueryQueueBuilder(DBSettings(db_schema=SCHEMA)).qualified
    return f"""
create or replace function {SCHEMA}.enqueue_job(p_entrypoint text, p_payload bytea) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $function$
begin
  with made as (
    insert into {queue.queue_table} (priority, entrypoint, payload, execute_after, headers, status)
    values (0, p_entrypoint, p_payload, now(), 'null', 'queued') returning id
  )
  insert into {queue.queue_table_log} (job_id, status, entrypoint, priority)
  select m.id, 'queued', p_entrypoint, 0 from made m;
end
$function$;
comment on function {SCHEMA}.enqueue_job(text, bytea) is
  'Enqueues a job in the transaction that calls; made anew with each installation of the queue.';
revoke execute on function {SCHEMA}.enqueue_job(text, bytea) from public;
grant execute on function {SCHEMA}.enqueue_job(text, bytea) to service_role, aurora_app;
"""  # noqa: S608 - names of the library's own


async def enqueue(conn: Connection, job: str, payload: bytes = b"") -> None:
    """Enqueue a job in the caller's transaction: it exists exactly if the transaction commits."""
    await conn.execute(f"select {SCHEMA}.enqueue_job(%s, %s)".encode(), (job, payload))


async def run_worker(
    dsn: str, pool: Pool, crons: Sequence[Cron], jobs: Sequence[Job], stop: asyncio.Event
) -> None:
    """Run jobs and crons until `stop` is set; what has begun is finished first.

    A lost database is waited for: jobs that were under way are taken up again from the queue.

    Args:
        dsn: For the queue's own connection, which listens.
        pool: For the work itself.
        crons: What comes round.
        jobs: What may be enqueued.
        stop: Set from outside.
    """
    while not stop.is_set():
        try:
            await _run_queue(dsn, pool, crons, jobs, stop)
        except psycopg.OperationalError as error:
            log.warning("worker_lost_database", reason=str(error).strip())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RECONNECT_DELAY_S)


async def _run_queue(
    dsn: str, pool: Pool, crons: Sequence[Cron], jobs: Sequence[Job], stop: asyncio.Event
) -> None:
    from pgqueuer import PgQueuer
    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        driver = PsycopgDriver(connection)
        queue = PgQueuer(connection=driver, queries=_queries(driver))
        for cron in crons:
            _schedule(queue, pool, cron)
        for job in jobs:
            _enter(queue, pool, job)
        running = asyncio.create_task(
            queue.run(
                dequeue_timeout=DEQUEUE_TIMEOUT,
                batch_size=MAX_CONCURRENT_JOBS // 2,
                max_concurrent_tasks=MAX_CONCURRENT_JOBS,
            )
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        queue.shutdown.set()
        await running


def _schedule(queue: PgQueuer, pool: Pool, cron: Cron) -> None:
    @queue.schedule(cron.name, cron.expression, clean_old=True)
    async def run(_schedule: Schedule) -> None:
        try:
            with named(f"job:{cron.name}"):
                done = await cron.run(pool)
        except Exception:
            # One failure must not end the schedule; the next round tries again.
            log.exception("cron_failed", cron=cron.name)
        else:
            # Most rounds find nothing to do, and say so only to who asks.
            say = log.info if done else log.debug
            say("cron_done", cron=cron.name, done=done)


def _enter(queue: PgQueuer, pool: Pool, job: Job) -> None:
    @queue.entrypoint(job.name, on_failure="hold")
    async def run(queued: QueuedJob) -> None:
        with named(f"job:{job.name}"):
            await job.run(pool, queued.payload or b"")
        log.info("job_done", job=job.name, job_id=queued.id)
