"""Measures what the policies cost on a million usage rows, beside no policy and the seed's policy.

Run it with `python -m bench.rls`; the last line is JSON. The value is the worst ratio of policy on
to policy off over the dashboard's queries as the dashboard asks them: as the tenant. A person who
queries PostgreSQL directly pays for the look at the memberships besides, a fixed part of a
millisecond that is printed beside it. All ways are measured in turn, round by round, and medians
are compared.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from bench.rig.server import a_database
from psycopg import sql

GOAL: Final = 1.3
ORGANIZATIONS: Final = 1_000
ROWS: Final = 1_000_000
ROUNDS: Final = 41
# The seed's policy takes a thousand times as long; a few rounds show that.
SEED_ROUNDS: Final = 5
MINE: Final = "00000000-0000-4000-8000-000000000500"

WORLD: Final = """
insert into organizations (id, name, slug, email)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Hotel ' || n, 'hotel-' || n,
  'post@hotel.example'
from generate_series(1, %(organizations)s) n;
insert into users (organization_id, auth_id, email, name, role)
select id, id, 'owner@hotel.example', 'Owner', 'owner' from organizations;
insert into usage_analytics (
  timestamp, date, organization_id, api_key_id, endpoint, status_code, response_time_ms,
  widget_impression, ip_address
)
select t, (t at time zone 'UTC')::date,
  ('00000000-0000-4000-8000-' || lpad((1 + n %% %(organizations)s)::text, 12, '0'))::uuid,
  '00000000-0000-4000-8000-000000000001', '/api/aurora/' || n %% 7,
  case when n %% 50 = 0 then 500 else 200 end, n %% 400, n %% 3 = 0, '192.0.2.1'
from generate_series(1, %(rows)s) n,
  lateral (select now() - make_interval(secs => n * 5000000.0 / %(rows)s) as t) as moment;
insert into usage_daily
select organization_id, x.dimension, date, x.value, count(*),
  count(*) filter (where widget_impression), 0, count(*) filter (where status_code < 400),
  count(*) filter (where status_code >= 400), 0, sum(response_time_ms), count(*)
from usage_analytics, app.usage_dimensions(api_key_id, endpoint, '', status_code / 100, '', '') x
group by 1, 2, 3, 4;
insert into usage_visitors select distinct organization_id, date, api_key_id, 1
from usage_analytics where date < current_date;

-- The seed's table, with its indexes and its policy, holding the same rows.
create schema seed;
create table seed.usage_analytics as table usage_analytics;
create index on seed.usage_analytics (organization_id, date desc);
create index on seed.usage_analytics (timestamp desc);
create table seed.users as select organization_id, auth_id from users;
create index on seed.users (auth_id);
alter table seed.usage_analytics enable row level security;
create policy seed on seed.usage_analytics for select using (
  organization_id in (select organization_id from seed.users where auth_id = auth.uid())
);
grant usage on schema seed to authenticated;
grant select on all tables in schema seed to authenticated;
"""

QUERIES: Final = {
    "days of a month": """
        select date, count(*), count(*) filter (where widget_impression), avg(response_time_ms)
        from {usage} where {mine} and date > current_date - 30 group by date order by date""",
    "endpoints of a week": """
        select endpoint, count(*), avg(response_time_ms),
          count(*) filter (where status_code >= 400),
          percentile_cont(0.95) within group (order by response_time_ms)
        from {usage} where {mine} and date > current_date - 7 group by endpoint order by 2 desc""",
    "everything": "select count(*) from {usage} where {mine}",
    "rollup of a month": """
        select date, sum(requests), sum(impressions) from usage_daily_series
        where {mine} and dimension = 'total' and date > current_date - 30
        group by date order by date""",
    "seed's summary of a month": """
        select date, sum(total_requests), sum(unique_visitors) from daily_usage_summary
        where {mine} and date > current_date - 30 group by date order by date""",
}
PREDICATE: Final = f"organization_id = '{MINE}'"


@dataclass(frozen=True)
class Way:
    """Who asks, whether the query names the organization, and which table it reads."""

    role: str
    predicate: bool = True
    usage: str = "usage_analytics"
    rounds: int = ROUNDS


OFF: Final = "policy off"
WAYS: Final = {
    OFF: Way("postgres"),
    "tenant": Way("tenant"),
    "person": Way("authenticated"),
    "person, policy alone": Way("authenticated", predicate=False),
    "seed's policy": Way("authenticated", usage="seed.usage_analytics", rounds=SEED_ROUNDS),
    "seed's policy alone": Way(
        "authenticated", predicate=False, usage="seed.usage_analytics", rounds=SEED_ROUNDS
    ),
}


def furnish(owner: psycopg.Connection[Any], rows: int) -> None:
    """Fill the database: every organization has the same number of rows, over two months."""
    owner.execute("select app.ensure_usage_partitions(current_date - 70, current_date)")
    values = {"organizations": sql.Literal(ORGANIZATIONS), "rows": sql.Literal(rows)}
    text = WORLD
    for name, value in values.items():
        text = text.replace(f"%({name})s", value.as_string(None))
    owner.execute(text.replace("%%", "%").encode())
    owner.execute("vacuum (analyze)")


def timed(owner: psycopg.Connection[Any], way: Way, query: str) -> float:
    """Return how long the query takes as this role, in milliseconds; identity is not counted."""
    text = query.format(usage=way.usage, mine=PREDICATE if way.predicate else "true")
    with owner.transaction():
        owner.execute("select set_config('role', %s, true)", (way.role,))
        if way.role == "tenant":
            owner.execute("select app.set_organization(%s)", (MINE,))
        elif way.role == "authenticated":
            claims = json.dumps({"sub": MINE, "role": "authenticated"})
            owner.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        began = time.perf_counter()
        found = owner.execute(text.encode()).fetchall()
        took = (time.perf_counter() - began) * 1000
        if not found:
            raise RuntimeError(f"{way} sees nothing")
    return took


def measured(owner: psycopg.Connection[Any]) -> dict[str, dict[str, float]]:
    """Return the median of each query in each way, in milliseconds."""
    took: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS):
        for name, query in QUERIES.items():
            for label, way in WAYS.items():
                is_seed = way.usage != "usage_analytics"
                if turn >= way.rounds or (is_seed and "{usage}" not in query):
                    continue
                took.setdefault((name, label), []).append(timed(owner, way, query))
    medians: dict[str, dict[str, float]] = {}
    for (name, label), times in took.items():
        medians.setdefault(name, {})[label] = statistics.median(times)
    return medians


def main(rows: int) -> None:
    """Measure and print."""
    with (
        a_database(fsync="off", shared_buffers="1GB", jit="off") as database,
        psycopg.connect(database.owner, autocommit=True, prepare_threshold=None) as owner,
    ):
        furnish(owner, rows)
        medians = measured(owner)
    print(f"{rows:,} rows, {ORGANIZATIONS:,} organizations; medians in ms, and times policy off")
    for name, times in medians.items():
        print(f"  {name}: {times[OFF]:.2f} ms")
        for label in (label for label in times if label != OFF):
            print(f"    {label:22} {times[label]:9.2f} ms {times[label] / times[OFF]:8.2f}x")
    worst = max(times["tenant"] / times[OFF] for times in medians.values())
    result = {
        "name": "rls",
        "value": round(worst, 2),
        "unit": "times policy off, worst dashboard query as tenant",
        "goal": GOAL,
        "met": worst <= GOAL,
        "details": {
            name: {label: round(ms, 2) for label, ms in times.items()}
            for name, times in medians.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
