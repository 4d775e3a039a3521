-- Folding deltas into rollups: each dimension by itself, so that a page reads few rows however much there was.

create or replace function app.usage_dimensions(
  p_api_key_id uuid, p_endpoint text, p_widget_type text, p_status_class integer, p_country_code text, p_origin text
) returns table (dimension text, value text)
language sql immutable parallel safe
as $$
  -- What a row is counted under. The planner takes the rows over as they stand. Cut, because an index
  -- holds no entry of more than 2,704 bytes, and one long endpoint would stop all folding.
  values ('total', ''), ('api_key', p_api_key_id::text), ('endpoint', left(p_endpoint, 250)),
    ('widget_type', p_widget_type), ('status_class', p_status_class || 'xx'), ('country', p_country_code),
    ('origin', left(p_origin, 250))
$$;
comment on function app.usage_dimensions(uuid, text, text, integer, text, text) is
  'The dimensions that usage is summed by, with the value that a row has in each.';

create or replace function app.usage_value_limit(p_dimension text) returns integer
language sql immutable parallel safe
as $$
  -- Callers choose endpoints and origins, so there could be as many as requests.
  select case p_dimension when 'endpoint' then 500 when 'origin' then 200 end
$$;
comment on function app.usage_value_limit(text) is
  'How many values of a dimension a day holds by name; what comes beyond is summed as (other). Null: all.';

create or replace function app.open_usage_folding() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('pg_temp.usage_folding') is null then
    create temporary table usage_folding (like public.usage_hourly) on commit delete rows;
    create temporary table usage_folding_latencies (
      organization_id uuid, hour timestamptz, endpoint text, buckets smallint[]
    ) on commit delete rows;
  else
    truncate pg_temp.usage_folding, pg_temp.usage_folding_latencies;
  end if;
end
$$;
comment on function app.open_usage_folding() is 'Makes or empties this session''s tables of what is being folded.';

create or replace function app.take_usage_deltas(p_limit integer) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp set work_mem = '64MB'
as $$
declare
  v_taken bigint;
begin
  with batch as (
    select b.organization_id, b.id
    from (
      select d.organization_id, d.id, sum(d.entries) over (order by d.organization_id, d.id) - d.entries as before
      from (select u.organization_id, u.id, u.entries from public.usage_deltas u limit 5000) d
    ) b
    -- The first one always, however large.
    where b.before < p_limit
  ), taken as (
    delete from public.usage_deltas d using batch b where d.organization_id = b.organization_id and d.id = b.id
    returning d.*
  ), counts as (
    insert into pg_temp.usage_folding
    select t.organization_id, x.dimension, x.hour, x.value, sum(x.requests), sum(x.impressions), sum(x.billable),
      sum(x.successful), sum(x.failed), sum(x.cached), sum(x.response_time_ms_sum), sum(x.response_time_count)
    from taken t
      cross join lateral unnest(
        t.hours, t.dimensions, t.dimension_values, t.requests, t.impressions, t.billable, t.successful, t.failed,
        t.cached, t.response_time_ms_sum, t.response_time_count
      ) as x (
        hour, dimension, value, requests, impressions, billable, successful, failed, cached, response_time_ms_sum,
        response_time_count
      )
    group by 1, 2, 3, 4
  ), latencies as (
    insert into pg_temp.usage_folding_latencies
    select t.organization_id, x.hour, x.endpoint, x.buckets
    from taken t
      cross join lateral unnest(t.latency_hours, t.latency_endpoints, t.latencies) as x (hour, endpoint, buckets)
  )
  select coalesce(sum(t.entries), 0) into v_taken from taken t;
  return v_taken;
end
$$;
comment on function app.take_usage_deltas(integer) is
  'Moves deltas of about this many entries into this session''s tables, summed; returns how many entries.';

create or replace function app.fold_usage_counts() returns void
language plpgsql set search_path = pg_catalog, pg_temp set work_mem = '64MB'
as $$
begin
  -- A value that its day does not know yet gets a name while there is room, the largest first.
  with arrived as (
    select f.organization_id, f.dimension, (f.hour at time zone 'UTC')::date as date, f.value,
      sum(f.requests) as requests
    from pg_temp.usage_folding f
    where app.usage_value_limit(f.dimension) is not null
    group by 1, 2, 3, 4
  ), unknown as (
    select a.*, row_number() over (
      partition by a.organization_id, a.dimension, a.date order by a.requests desc, a.value
    ) as place
    from arrived a left join public.usage_daily d using (organization_id, dimension, date, value)
    where d.value is null and a.value <> '(other)'
  ), known as (
    select days.organization_id, days.dimension, days.date, count(d.value) as named
    from (select distinct u.organization_id, u.dimension, u.date from unknown u) days
      left join public.usage_daily d on d.organization_id = days.organization_id
        and d.dimension = days.dimension and d.date = days.date and d.value <> '(other)'
    group by 1, 2, 3
  )
  update pg_temp.usage_folding f set value = '(other)'
  from unknown u join known k using (organization_id, dimension, date)
  where u.place + k.named > app.usage_value_limit(u.dimension)
    and f.organization_id = u.organization_id and f.dimension = u.dimension and f.value = u.value
    and (f.hour at time zone 'UTC')::date = u.date;
end
$$;
comment on function app.fold_usage_counts() is
  'Puts values beyond the limit of their day under (other).';

create or replace function app.fold_usage_rollups() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.usage_hourly as r
  select f.organization_id, f.dimension, f.hour, f.value, sum(f.requests), sum(f.impressions), sum(f.billable),
    sum(f.successful), sum(f.failed), sum(f.cached), sum(f.response_time_ms_sum), sum(f.response_time_count)
  from pg_temp.usage_folding f
  group by 1, 2, 3, 4
  on conflict (organization_id, dimension, hour, value) do update set
    requests = r.requests + excluded.requests,
    impressions = r.impressions + excluded.impressions,
    billable = r.billable + excluded.billable,
    successful = r.successful + excluded.successful,
    failed = r.failed + excluded.failed,
    cached = r.cached + excluded.cached,
    response_time_ms_sum = r.response_time_ms_sum + excluded.response_time_ms_sum,
    response_time_count = r.response_time_count + excluded.response_time_count;
  insert into public.usage_daily as r
  select f.organization_id, f.dimension, (f.hour at time zone 'UTC')::date, f.value, sum(f.requests),
    sum(f.impressions), sum(f.billable), sum(f.successful), sum(f.failed), sum(f.cached),
    sum(f.response_time_ms_sum), sum(f.response_time_count)
  from pg_temp.usage_folding f
  group by 1, 2, 3, 4
  on conflict (organization_id, dimension, date, value) do update set
    requests = r.requests + excluded.requests,
    impressions = r.impressions + excluded.impressions,
    billable = r.billable + excluded.billable,
    successful = r.successful + excluded.successful,
    failed = r.failed + excluded.failed,
    cached = r.cached + excluded.cached,
    response_time_ms_sum = r.response_time_ms_sum + excluded.response_time_ms_sum,
    response_time_count = r.response_time_count + excluded.response_time_count;
end
$$;
comment on function app.fold_usage_rollups() is 'Adds what was summed to usage_hourly and usage_daily.';

create or replace function app.fold_usage_latencies() returns void
language plpgsql set search_path = pg_catalog, pg_temp set work_mem = '64MB'
as $$
begin
  -- Under the name that the counts got: an endpoint beyond the limit is in (other) here too.
  insert into public.usage_latencies as r (organization_id, span, starts_at, endpoint, buckets, counts)
  with named as (
    select a.organization_id, a.hour, a.buckets,
      case when f.value is null then '(other)' else a.endpoint end as endpoint
    -- Distinct: an endpoint that calls itself (other) stands beside those that were put there.
    from pg_temp.usage_folding_latencies a left join (
      select distinct o.organization_id, o.hour, o.value from pg_temp.usage_folding o where o.dimension = 'endpoint'
    ) f on f.organization_id = a.organization_id and f.hour = a.hour and f.value = a.endpoint
  ), spans as (
    select n.organization_id, 'hour' as span, n.hour as starts_at, n.endpoint, n.buckets from named n
    union all
    select n.organization_id, 'day', date_trunc('day', n.hour, 'UTC'), n.endpoint, n.buckets from named n
  ), touched as (
    select s.organization_id, s.span, s.starts_at, s.endpoint, array_agg(row(s.buckets)::app.latency_list) as lists
    from spans s group by 1, 2, 3, 4
  )
  -- Whole, and not added to: one folder at a time, so what was there is what was read.
  select t.organization_id, t.span, t.starts_at, t.endpoint, merged.buckets, merged.counts
  from touched t left join public.usage_latencies l using (organization_id, span, starts_at, endpoint)
    cross join lateral (
      select array_agg(summed.bucket) as buckets, array_agg(summed.count) as counts
      from (
        select each.bucket, sum(each.count)::bigint as count
        from (
          select abs(b.bucket)::smallint as bucket, case when b.bucket > 0 then 1 else -1 end::bigint as count
          from unnest(t.lists) as a (buckets) cross join lateral unnest(a.buckets) as b (bucket)
          union all
          select before.bucket, before.count
          from unnest(l.buckets, l.counts) as before (bucket, count)
        ) each
        group by each.bucket
      ) summed
    ) merged
  on conflict (organization_id, span, starts_at, endpoint) do update set
    buckets = excluded.buckets, counts = excluded.counts;
end
$$;
comment on function app.fold_usage_latencies() is 'Adds the response times of what was taken to usage_latencies.';

create or replace function app.fold_usage(p_limit integer default 50000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_folded bigint;
begin
  -- One folder at a time: two would meet on the same rollup rows. Another simply comes back later.
  if not pg_try_advisory_xact_lock(hashtextextended('aurora.fold_usage', 0)) then
    return 0;
  end if;
  perform app.open_usage_folding();
  v_folded := app.take_usage_deltas(p_limit);
  if v_folded > 0 then
    perform app.fold_usage_counts();
    perform app.fold_usage_rollups();
    perform app.fold_usage_latencies();
    -- A late event makes a closed day's count of visitors wrong: it is counted again.
    delete from public.usage_visitors v
    using (
      select distinct f.organization_id, (f.hour at time zone 'UTC')::date as date,
        f.value::uuid as api_key_id
      from pg_temp.usage_folding f where f.dimension = 'api_key'
    ) f
    where v.organization_id = f.organization_id and v.date = f.date and v.api_key_id = f.api_key_id;
  end if;
  return v_folded;
end
$$;
comment on function app.fold_usage(integer) is
  'Folds deltas of about this many entries into the rollups; returns how many. 0 also when another folds.';
