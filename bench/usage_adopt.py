"""Measures taking over a usage table in the founding document's shape beside a bare copy of it.

Run it with `python -m bench.usage_adopt [rows]`; the last line is JSON. The table is taken over in
steps as the command does it, durably: ids claimed, rows stored by month, deltas written, and then
folded. Beside it the same rows are copied by one INSERT into a table of the same shape without
indexes, and that copy is given what a partition of ours needs, which locks everybody out: what
attaching it in place would begin with, before an id is claimed or a sum written. The value is how
many rows a second are taken over, folding included.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import psycopg
from bench.fold import fold_all, timed
from bench.rig.measure import print_result
from bench.rig.server import a_database

GOAL: Final = 25_000
ROWS: Final = 1_000_000
BATCH: Final = 20_000
ORGANIZATIONS: Final = 20
ORGANIZATION: Final = "('00000000-0000-4000-8000-' || lpad(({n})::text, 12, '0'))::uuid"
KEY: Final = "('00000000-0000-4000-9000-' || lpad(({n})::text, 12, '0'))::uuid"
WORLD: Final = f"""
insert into organizations (id, name, slug, email)
select {ORGANIZATION.format(n="n")}, 'Hotel', 'hotel-' || n, 'post@hotel.example'
from generate_series(1, {ORGANIZATIONS}) n;
insert into api_keys (id, organization_id, name, key)
select {KEY.format(n="n")}, {ORGANIZATION.format(n="n")}, 'Website',
  (generate_api_key('production'))
from generate_series(1, {ORGANIZATIONS}) n;
create schema founding;
create table founding.usage_analytics (
  id bigserial primary key, timestamp timestamptz not null default now(),
  organization_id uuid not null, api_key_id uuid not null, endpoint text not null,
  method text not null default 'GET', status_code integer not null, response_time_ms integer,
  cached boolean default false, widget_type text, widget_impression boolean default false,
  origin text, user_agent text, ip_address inet, country_code text, metadata jsonb default '{{}}',
  date date not null default current_date
)
"""
ROWS_OF: Final = f"""
insert into founding.usage_analytics (
  timestamp, organization_id, api_key_id, endpoint, status_code, response_time_ms,
  widget_impression, origin, ip_address, country_code, date
)
select t, {ORGANIZATION.format(n=f"1 + n / 1000 % {ORGANIZATIONS}")},
  {KEY.format(n=f"1 + n / 1000 % {ORGANIZATIONS}")},
  '/api/aurora/' || (12 * power(random(), 3))::int, case when n % 47 = 0 then 500 else 200 end,
  (exp(random() * 6) * 5)::int, n % 3 = 0, 'https://' || n % 2 || '.example',
  ('192.0.2.' || n % 250)::inet, 'NO', (t at time zone 'UTC')::date
from generate_series(1::bigint, {{rows}}) n,
  lateral (select now() - make_interval(secs => 31536000 - n * 31536000.0 / {{rows}}) as t) at
"""

# What app.ensure_usage_partitions() gives a month, on a table that has rows already.
ATTACHABLE: Final = """
alter table founding.copied
  add billable boolean not null default false, add event_id text, add visitor bytea,
  add event_key uuid not null default gen_random_uuid(),
  alter cached set not null, alter widget_impression set not null, alter metadata set not null,
  add primary key (organization_id, date, id),
  add check (date = (timestamp at time zone 'UTC')::date),
  add check (status_code between 100 and 599), add check (response_time_ms >= 0),
  add check (widget_type in ('forecast', 'map', 'chat')),
  add check (not billable or widget_impression)
"""


def adopt(owner: psycopg.Connection[Any]) -> float:
    """Take the table over, as the command does; return seconds."""
    began = time.perf_counter()
    while True:
        row = owner.execute(
            "select is_finished from app.adopt_usage('founding.usage_analytics', %s)", (BATCH,)
        ).fetchone()
        if row is not None and row[0]:
            return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with (
        a_database(shared_buffers="512MB", jit="off", max_wal_size="4GB") as database,
        psycopg.connect(database.owner, autocommit=True) as owner,
    ):
        for statement in WORLD.split(";"):
            owner.execute(statement.encode())
        owner.execute(ROWS_OF.format(rows=rows).encode())
        owner.execute("vacuum (analyze) founding.usage_analytics")
        copied_s = timed(
            owner, "create table founding.copied as select * from founding.usage_analytics"
        )
        attachable_s = timed(owner, ATTACHABLE)
        owner.execute("drop table founding.copied")
        adopted_s = adopt(owner)
        folded_s = fold_all(owner)
        found = owner.execute(
            "select (select count(*) from usage_analytics),"
            " (select sum(requests)::bigint from usage_daily where dimension = 'total'),"
            " (select count(*) from usage_event_ids)"
        ).fetchone()
    if found != (rows, rows, rows):
        raise SystemExit(f"{rows} rows became {found} rows, counted, and claimed")
    value = rows / (adopted_s + folded_s)
    print_result(
        "usage_adopt", value=value, unit="rows/s", goal=f">= {GOAL:,}", met=value >= GOAL,
        details={
            "rows": rows, "batch": BATCH, "adopt_s": adopted_s, "fold_s": folded_s,
            "attaching_locks_for_s": attachable_s, "bare_copy_s": copied_s,
            "times_a_bare_copy": (adopted_s + folded_s) / copied_s,
            "durable": True,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
