"""aurora doctor: looks for what would hurt later, and mends what needs no question."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

import psycopg

from aurora.apps.database import Database
from aurora.apps.settings import Settings
from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.db.migrator import check_schema
from aurora.db.pool import open_pool
from aurora.features.usage.jobs import ensure_partitions
from aurora.features.usage.model import MAX_LATE_DAYS

OLDEST_SUPPORTED = 150_000
NEWEST_TESTED = 190_000
MAX_CLOCK_DIFFERENCE_S = 2.0
MIN_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    check: str
    status: Literal["ok", "warning", "failed"]
    detail: str


async def examine(where: Database, settings: Settings) -> list[Finding]:
    """Return what every check found.

    Args:
        where: The database.
        settings: Of this process.
    """
    async with await psycopg.AsyncConnection.connect(where.owner_dsn, autocommit=True) as conn:
        return [
            await _version(conn),
            await _schema(conn),
            await _login(where),
            await _row_security(conn),
            await _temporary(conn),
            await _partitions(conn),
            await _clock(conn),
            await _seller(conn),
            _disk(settings),
        ]


async def mend(where: Database) -> int:
    """Make the months of usage that are missing, as the worker does at night; return how many.

    It adds and takes nothing away, and twice it does nothing.

    Args:
        where: The database; the application's login makes them, so that it is tried, too.
    """
    pool = await open_pool(where.dsn, max_size=1, name="aurora-doctor")
    try:
        return await ensure_partitions(pool)
    finally:
        await pool.close()


async def _value(conn: psycopg.AsyncConnection, query: str, *values: object) -> str:
    row = await (await conn.execute(query.encode(), values or None)).fetchone()
    return "" if row is None or row[0] is None else str(row[0])


async def _version(conn: psycopg.AsyncConnection) -> Finding:
    number = int(await _value(conn, "show server_version_num"))
    name = await _value(conn, "show server_version")
    if not OLDEST_SUPPORTED <= number < NEWEST_TESTED:
        return Finding("postgresql", "failed", f"{name}; Aurora runs on 15 to 18")
    return Finding("postgresql", "ok", name)


async def _schema(conn: psycopg.AsyncConnection) -> Finding:
    try:
        await check_schema(conn)
    except AuroraError as error:
        return Finding("schema", "failed", error.detail)
    return Finding("schema", "ok", "all migrations of this release are applied")


async def _login(where: Database) -> Finding:
    async with await psycopg.AsyncConnection.connect(where.dsn, autocommit=True) as conn:
        name = await _value(conn, "select current_user")
        powers = await _value(
            conn,
            "select concat_ws(' and ', case when r.rolsuper then 'is superuser' end, "
            "case when r.rolbypassrls then 'bypasses row level security' end, "
            "case when r.rolcreaterole then 'may make roles' end, "
            "(select 'owns the tables, which row level security does not bind' from pg_class c "
            "where c.relowner = r.oid and c.relnamespace = 'public'::regnamespace limit 1)) "
            "from pg_roles r where r.rolname = current_user",
        )
    if powers:
        return Finding(
            "login", "warning", f"{name} {powers}; let the application log in as aurora_app"
        )
    return Finding("login", "ok", f"{name} may do nothing by itself")


async def _row_security(conn: psycopg.AsyncConnection) -> Finding:
    bare = await _value(
        conn,
        "select string_agg(c.oid::regclass::text, ', ') from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and not c.relrowsecurity "
        "and n.nspname in ('public', 'app', 'usage_partitions')",
    )
    if bare:
        return Finding("row level security", "failed", f"off on {bare}")
    return Finding("row level security", "ok", "on everywhere")


async def _temporary(conn: psycopg.AsyncConnection) -> Finding:
    who = await _value(
        conn,
        "select string_agg(r, ', ') from unnest(array['anon', 'authenticated', 'tenant']) r "
        "where has_database_privilege(r, current_database(), 'temporary')",
    )
    if who:
        name = await _value(conn, "select quote_ident(current_database())")
        return Finding(
            "temporary objects",
            "warning",
            f"{who} may make them; run: revoke temporary on database {name} from public",
        )
    return Finding("temporary objects", "ok", "only the platform makes any")


async def _partitions(conn: psycopg.AsyncConnection) -> Finding:
    missing = await _value(
        conn,
        "select string_agg(name, ', ') from ("
        "select to_char(month, '\"usage_analytics_\"YYYY_MM') as name "
        "from (select app.now() at time zone 'UTC' as today) now, generate_series("
        "date_trunc('month', today - make_interval(days => %s)), "
        "today + interval '1 month', interval '1 month') month) wanted "
        "where to_regclass('usage_partitions.' || name) is null",
        MAX_LATE_DAYS,
    )
    if missing:
        return Finding(
            "partitions",
            "failed",
            f"{missing} missing; is the worker running? aurora doctor --mend makes them",
        )
    return Finding("partitions", "ok", "from where late events fall to the next month")


async def _clock(conn: psycopg.AsyncConnection) -> Finding:
    before = clock.now()
    there = await _value(conn, "select extract(epoch from clock_timestamp())")
    difference = abs(float(there) - (before.timestamp() + clock.now().timestamp()) / 2)
    shifted = await _value(conn, "select shift from app.clock")
    if shifted:
        return Finding("clock", "warning", f"app.now() is shifted by {shifted}")
    if difference > MAX_CLOCK_DIFFERENCE_S:
        return Finding("clock", "failed", f"the database is {difference:.1f} s away from us")
    return Finding("clock", "ok", f"{difference * 1000:.0f} ms from the database")


async def _seller(conn: psycopg.AsyncConnection) -> Finding:
    if await _value(conn, "select 1 from legal_entities where is_specimen"):
        return Finding("seller", "warning", "still the specimen: aurora invoice seller --help")
    return Finding("seller", "ok", "entered")


def _disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free at {folder}"
    return Finding("disk", "ok" if free >= MIN_FREE_BYTES else "warning", text)
