"""Fills a database with forty days of many organizations' usage, as if it had come over time.

Rows are inserted by several connections that wait for no disk; the ids are claimed and the rollups
made from the rows in bulk. Nothing of that is what a benchmark here measures: it measures what
comes afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
from bench.rig.measure import side_by_side

DAYS: Final = 40
WRITERS: Final = 2
# How full random keys leave the leaves of a b-tree: 69 %, the natural logarithm of two.
LEAVES_FILLED_PCT: Final = 69

# Each endpoint has its usual time, and a spread about it as that of the access logs of this rig.
ROWS: Final = """
insert into usage_analytics (
  timestamp, date, organization_id, api_key_id, endpoint, status_code, response_time_ms,
  widget_impression, origin, country_code
)
select t, (t at time zone 'UTC')::date,
  ('00000000-0000-4000-8000-'
    || lpad((1 + n / %(batch)s %% %(organizations)s)::text, 12, '0'))::uuid,
  ('00000000-0000-4000-9000-' || lpad((n / 7 %% 2)::text, 12, '0'))::uuid,
  '/api/aurora/' || endpoint, case when n %% 47 = 0 then 500 else 200 end,
  ((8 + 12 * endpoint) * exp(random() * 2 - 0.6))::int, n %% 3 = 0,
  'https://' || n / 7 %% 2 || '.example',
  (array['NO', 'SE', 'DE', 'GB', 'US', 'FR'])[1 + (5 * power(random(), 3))::int]
from generate_series(%(first)s::bigint, %(last)s) n,
  lateral (
    select now() - make_interval(secs => %(days)s * 86400 * (1 - n / (%(rows)s + 1.0))) as t,
      (12 * power(random(), 3))::int as endpoint
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
# What came together, once; then each dimension by itself, and the response times by endpoint.
COMBINED: Final = """
create temporary table combined as
select organization_id, date_bin('1 hour', timestamp, '2000-01-01 00:00+00') as hour, api_key_id,
  endpoint, country_code, (status_code / 100)::smallint as status_class, origin,
  count(*) as requests, count(*) filter (where widget_impression) as impressions,
  sum(response_time_ms) as response_time_ms_sum
from usage_analytics group by 1, 2, 3, 4, 5, 6, 7
"""
HOURS: Final = """
insert into usage_hourly
select c.organization_id, x.dimension, c.hour, x.value, sum(c.requests), sum(c.impressions), 0,
  coalesce(sum(c.requests) filter (where c.status_class < 4), 0),
  coalesce(sum(c.requests) filter (where c.status_class >= 4), 0), 0,
  sum(c.response_time_ms_sum), sum(c.requests)
from combined c
  cross join lateral app.usage_dimensions(
    c.api_key_id, c.endpoint, '', c.status_class, c.country_code, c.origin
  ) x
group by 1, 2, 3, 4
"""
ROLLED_UP: Final = """
insert into usage_daily
select organization_id, dimension, (hour at time zone 'UTC')::date, value, sum(requests),
  sum(impressions), sum(billable), sum(successful), sum(failed), sum(cached),
  sum(response_time_ms_sum), sum(response_time_count)
from usage_hourly group by 1, 2, 3, 4
"""
LATENCIES: Final = """
insert into usage_latencies
select organization_id, '{span}', starts_at, endpoint, array_agg(bucket), array_agg(count)
from (
  select organization_id, date_bin('1 {span}', timestamp, '2000-01-01 00:00+00') as starts_at,
    endpoint, app.latency_bucket(response_time_ms) as bucket, count(*) as count
  from usage_analytics group by 1, 2, 3, 4
) b group by 1, 3, 4
"""
# The index is made afterwards, and left as full as random keys would have left it.
CLAIMS: Final = (
    "alter table usage_event_ids drop constraint usage_event_ids_pkey",
    """
    insert into usage_event_ids (organization_id, event_key, digest, seen_on, date)
    select organization_id, event_key, 0, current_date, date from usage_analytics
    """,
    f"""
    alter table usage_event_ids add constraint usage_event_ids_pkey
      primary key (organization_id, event_key) with (fillfactor = {LEAVES_FILLED_PCT})
    """,
)
SETTINGS: Final = (
    "set synchronous_commit = off",
    "set work_mem = '512MB'",
    "set maintenance_work_mem = '512MB'",
)


def organization_numbered(number: int) -> UUID:
    """Return the id of an organization of the rows, from 1."""
    return UUID(f"00000000-0000-4000-8000-{number:012}")


def fill_usage(dsn: str, rows: int, *, organizations: int) -> dict[str, float]:
    """Fill a migrated database of the owner's; return the seconds that each part took.

    Every organization has its share of every hour, so that more rows are more traffic and not more
    organizations or days.

    Raises:
        SystemExit: A sum is not what the rows say.
    """
    _run(dsn, f"select app.ensure_usage_partitions(current_date - {DAYS + 1}, current_date)")
    latencies = [LATENCIES.format(span=span) for span in ("hour", "day")]
    return {
        "rows": _seconds(lambda: _insert(dsn, rows, organizations)),
        "rollups": _seconds(
            lambda: side_by_side(
                lambda: _run(dsn, COMBINED, "analyze combined", HOURS, ROLLED_UP),
                lambda: _run(dsn, *latencies, *CLAIMS),
            )
        ),
        "vacuum": _seconds(lambda: _run(dsn, "vacuum (analyze)")),
        "recount": _seconds(lambda: _recount(dsn, organization_numbered(1))),
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


def count_usage(owner: psycopg.Connection[Any], *, part: str) -> None:
    """Write the deltas of all rows: one for each organization and value of `part`, in SQL."""
    owner.execute((COUNTED % {"part": part}).encode())


def _insert(dsn: str, rows: int, organizations: int) -> None:
    share = -(-rows // WRITERS)

    def write(number: int) -> None:
        numbers = (number * share + 1, min((number + 1) * share, rows))
        statement = rows_statement(rows, organizations=organizations, batch=1, numbers=numbers)
        _run(dsn, statement.decode())

    side_by_side(*(partial(write, number) for number in range(WRITERS)))
    _run(dsn, "analyze usage_analytics")


def _recount(dsn: str, organization: UUID) -> None:
    """Let the sums of three days of one organization be recounted."""
    with psycopg.connect(dsn) as owner:
        for check in ("counts", "latencies"):
            query = f"select * from app.verify_usage_{check}(%s, current_date - 3, current_date)"
            wrong = owner.execute(query.encode(), (organization,)).fetchone()
            if wrong is not None:
                raise SystemExit(f"the rollups were filled wrongly: {wrong}")


def _run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as owner:
        for statement in (*SETTINGS, *statements):
            owner.execute(statement.encode())


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return round(time.perf_counter() - began_s, 1)
