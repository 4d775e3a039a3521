"""Fills a database with forty days of many organizations' usage, as if it had come over time.

Rows are inserted by several connections that wait for no disk; the ids are claimed and the rollups
made from the rows in bulk, by the same function that the worker folds with. Nothing of that is what
a benchmark here measures: it measures what comes afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

import psycopg

DAYS: Final = 40
WRITERS: Final = 2
FOLDED_AT_ONCE: Final = 500_000
# How full random keys leave the leaves of a b-tree: 69 %, the natural logarithm of two.
LEAVES_FILLED_PCT: Final = 69

ROWS: Final = """
insert into usage_analytics (
  timestamp, date, organization_id, api_key_id, endpoint, status_code, response_time_ms,
  widget_impression, origin, country_code
)
select t, (t at time zone 'UTC')::date,
  ('00000000-0000-4000-8000-'
    || lpad((1 + n / %(batch)s %% %(organizations)s)::text, 12, '0'))::uuid,
  ('00000000-0000-4000-9000-' || lpad((n / 7 %% 2)::text, 12, '0'))::uuid,
  '/api/aurora/' || (12 * power(random(), 3))::int,
  case when n %% 47 = 0 then 500 else 200 end,
  (exp(random() * 6) * 5)::int, n %% 3 = 0, 'https://' || n / 7 %% 2 || '.example',
  (array['NO', 'SE', 'DE', 'GB', 'US', 'FR'])[1 + (5 * power(random(), 3))::int]
from generate_series(%(first)s::bigint, %(last)s) n,
  lateral (
    select now() - make_interval(secs => %(days)s * 86400 * (1 - n / (%(rows)s + 1.0))) as t
  ) as moment
"""
COUNTED: Final = """
do $$
declare
  v_first record;
begin
  perform app.open_usage_staging();
  for v_first in select distinct %(part)s as part from usage_analytics order by 1 loop
    insert into pg_temp.usage_staging (
      organization_id, "timestamp", api_key_id, endpoint, status_code, response_time_ms, cached,
      widget_type, widget_impression, billable, origin, country_code
    )
    select organization_id, timestamp, api_key_id, endpoint, status_code, response_time_ms, cached,
      widget_type, widget_impression, billable, origin, country_code
    from usage_analytics where %(part)s = v_first.part;
    perform app.count_staged_usage();
    truncate pg_temp.usage_staging;
  end loop;
end $$
"""
CLAIMS: Final = """
insert into usage_event_ids (organization_id, event_key, digest, seen_on, date)
select organization_id, event_key, 0, current_date, date from usage_analytics
"""
CLAIMED: Final = f"""
alter table usage_event_ids add constraint usage_event_ids_pkey
  primary key (organization_id, event_key) with (fillfactor = {LEAVES_FILLED_PCT})
"""


def organization_numbered(number: int) -> UUID:
    """Return the id of an organization of the rows, from 1."""
    return UUID(f"00000000-0000-4000-8000-{number:012}")


def fill_usage(dsn: str, rows: int, *, organizations: int) -> dict[str, float]:
    """Fill a migrated database of the owner's; return the seconds that each part took.

    Every organization has its share of every hour, so that more rows are more traffic and not more
    organizations or days.
    """
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("set synchronous_commit = off")
        owner.execute(
            "select app.ensure_usage_partitions(current_date - %s::integer, current_date)",
            (DAYS + 1,),
        )
        return {
            "rows": _seconds(lambda: _insert(dsn, rows, organizations)),
            "ids": _seconds(lambda: _claim(owner)),
            "rollups": _seconds(lambda: _roll_up(owner)),
            "vacuum": _seconds(lambda: owner.execute("vacuum (analyze)")),
        }


def rows_statement(
    rows: int, *, organizations: int, batch: int, numbers: tuple[int, int] | None = None
) -> bytes:
    """Return the INSERT of rows `numbers` (from 1; all) of so many.

    Args:
        rows: Over all days.
        organizations: Take turns.
        batch: Rows of one organization on end: what one sender sent at once.
        numbers: The first and the last row.
    """
    first, last = numbers or (1, rows)
    named = {"rows": rows, "organizations": organizations, "batch": batch, "days": DAYS}
    return (ROWS % (named | {"first": first, "last": last})).encode()


def count_usage(owner: psycopg.Connection[Any], *, part: str = "date") -> None:
    """Write the deltas of all rows: one for each organization and value of `part`, in SQL."""
    owner.execute((COUNTED % {"part": part}).encode())


def _insert(dsn: str, rows: int, organizations: int) -> None:
    share = -(-rows // WRITERS)

    def write(number: int) -> None:
        numbers = (number * share + 1, min((number + 1) * share, rows))
        with psycopg.connect(dsn, autocommit=True) as writer:
            writer.execute("set synchronous_commit = off")
            writer.execute(
                rows_statement(rows, organizations=organizations, batch=1, numbers=numbers)
            )

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(write, range(WRITERS)))


def _claim(owner: psycopg.Connection[Any]) -> None:
    """Claim every row's id, and leave the index as full as random keys would have left it."""
    for statement in (
        "alter table usage_event_ids drop constraint usage_event_ids_pkey",
        CLAIMS,
        "set maintenance_work_mem = '512MB'",
        CLAIMED,
    ):
        owner.execute(statement.encode())


def _roll_up(owner: psycopg.Connection[Any]) -> None:
    owner.execute("set work_mem = '256MB'")
    count_usage(owner)
    while True:
        row = owner.execute("select app.fold_usage(%s)", (FOLDED_AT_ONCE,)).fetchone()
        if row is None or not row[0]:
            return


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return round(time.perf_counter() - began_s, 1)
