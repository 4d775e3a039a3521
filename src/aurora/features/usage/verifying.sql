-- Recounting: what the sums say against what the raw rows say. Each function is one statement, so one snapshot.

create or replace view usage_raw_series with (security_invoker = true) as
select a.organization_id, x.dimension, date_trunc('hour', a.timestamp, 'UTC') as hour, x.value,
  1::bigint as requests, a.widget_impression::integer::bigint as impressions, a.billable::integer::bigint as billable,
  (a.status_code between 200 and 399)::integer::bigint as successful,
  (a.status_code >= 400)::integer::bigint as failed, a.cached::integer::bigint as cached,
  coalesce(a.response_time_ms, 0)::bigint as response_time_ms_sum,
  (a.response_time_ms is not null)::integer::bigint as response_time_count, a.date
from usage_analytics a
  left join usage_reversals r
    on r.organization_id = a.organization_id and r.date = a.date and r.event_key = a.event_key
  cross join lateral app.usage_dimensions(
    coalesce(a.api_key_id, '00000000-0000-0000-0000-000000000000'), a.endpoint, coalesce(a.widget_type, ''),
    a.status_code / 100, coalesce(a.country_code, ''), coalesce(a.origin, '')
  ) x
where r.event_key is null;
comment on view usage_raw_series is
  'The raw rows that were not taken back, one for each dimension: what every sum is checked against.';

create or replace function app.verify_usage_counts(p_organization_id uuid, p_first date, p_last date)
returns table (what text, dimension text, starts_at timestamptz, value text, measure text, stored bigint, recounted bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_from constant timestamptz := p_first::timestamp at time zone 'UTC';
  v_to constant timestamptz := (p_last + 1)::timestamp at time zone 'UTC';
  -- Older hours are not kept by dimension: see app.drop_usage_hours().
  v_hourly_from constant timestamptz := date_trunc('day', app.now(), 'UTC')
    - make_interval(days => (select r.hourly_days from app.usage_retention() r));
begin
  return query
  with named as materialized (
    select d.dimension, d.date, d.value from public.usage_daily d
    where d.organization_id = p_organization_id and d.dimension in ('endpoint', 'origin')
      and d.date between p_first and p_last
  ), sides as (
    select 'hour' as what, false as is_raw, h.dimension, h.hour as starts_at, h.hour, h.value, h.requests, h.impressions,
      h.billable, h.successful, h.failed, h.cached, h.response_time_ms_sum, h.response_time_count
    from public.usage_hourly_series h
    where h.organization_id = p_organization_id and h.hour >= v_from and h.hour < v_to
      and (h.dimension = 'total' or h.hour >= v_hourly_from)
    union all
    select 'day', false, d.dimension, d.date::timestamp at time zone 'UTC', d.date::timestamp at time zone 'UTC', d.value,
      d.requests, d.impressions, d.billable, d.successful, d.failed, d.cached, d.response_time_ms_sum,
      d.response_time_count
    from public.usage_daily_series d
    where d.organization_id = p_organization_id and d.date between p_first and p_last
    union all
    select spans.what, true, a.dimension,
      case spans.what when 'hour' then a.hour else date_trunc('day', a.hour, 'UTC') end, a.hour, a.value, a.requests,
      a.impressions, a.billable, a.successful, a.failed, a.cached, a.response_time_ms_sum, a.response_time_count
    from public.usage_raw_series a cross join (values ('hour'), ('day')) as spans (what)
    where a.organization_id = p_organization_id and a.date between p_first and p_last
      and (spans.what = 'day' or a.dimension = 'total' or a.hour >= v_hourly_from)
  ), sums as (
    select s.what, s.dimension, s.starts_at, m.measure,
      -- A value that its day has no room to name, or has not named yet, is compared in the sum of those.
      case when app.usage_value_limit(s.dimension) is null or n.value is not null then s.value else '(other)' end as value,
      coalesce(sum(m.amount) filter (where not s.is_raw), 0)::bigint as stored,
      coalesce(sum(m.amount) filter (where s.is_raw), 0)::bigint as recounted
    from sides s
      left join named n on n.dimension = s.dimension and n.value = s.value and n.date = (s.hour at time zone 'UTC')::date
      cross join lateral (values
        ('requests', s.requests), ('impressions', s.impressions), ('billable', s.billable),
        ('successful', s.successful), ('failed', s.failed), ('cached', s.cached),
        ('response_time_ms', s.response_time_ms_sum), ('response_times', s.response_time_count)
      ) as m (measure, amount)
    group by 1, 2, 3, 4, 5
  )
  select s.what, s.dimension, s.starts_at, s.value, s.measure, s.stored, s.recounted
  from sums s where s.stored <> s.recounted order by 1, 2, 3, 4, 5;
end
$$;
comment on function app.verify_usage_counts(uuid, date, date) is
  'Where the sums of an organization over UTC days differ from its raw rows. No row: they agree.';

create or replace function app.verify_usage_latencies(p_organization_id uuid, p_first date, p_last date)
returns table (what text, dimension text, starts_at timestamptz, value text, measure text, stored bigint, recounted bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_from constant timestamptz := p_first::timestamp at time zone 'UTC';
  v_to constant timestamptz := (p_last + 1)::timestamp at time zone 'UTC';
  -- Older hours are not kept by dimension: see app.drop_usage_hours().
  v_hourly_from constant timestamptz := date_trunc('day', app.now(), 'UTC')
    - make_interval(days => (select r.hourly_days from app.usage_retention() r));
begin
  return query
  with named as materialized (
    select d.date, d.value from public.usage_daily d
    where d.organization_id = p_organization_id and d.dimension = 'endpoint' and d.date between p_first and p_last
  ), sides as (
    -- What is not folded yet stands under its hour only, and belongs to its day as well.
    select spans.what, false as is_raw, l.starts_at, l.endpoint, l.bucket, l.count
    from public.usage_latency_rows l join (values ('hour'), ('day')) as spans (what)
      on spans.what = l.span or (l.span = 'hour' and not l.is_folded)
    where l.organization_id = p_organization_id and l.starts_at >= v_from and l.starts_at < v_to
      and (spans.what = 'day' or l.starts_at >= v_hourly_from)
    union all
    select spans.what, true, a.hour, a.value, app.latency_bucket(a.response_time_ms_sum::integer), 1
    from public.usage_raw_series a cross join (values ('hour'), ('day')) as spans (what)
    where a.organization_id = p_organization_id and a.date between p_first and p_last
      and a.dimension = 'endpoint' and a.response_time_count = 1
      and (spans.what = 'day' or a.hour >= v_hourly_from)
  ), sums as (
    select s.what, case s.what when 'hour' then s.starts_at else date_trunc('day', s.starts_at, 'UTC') end as starts_at,
      case when n.value is null then '(other)' else s.endpoint end as value, s.bucket,
      coalesce(sum(s.count) filter (where not s.is_raw), 0)::bigint as stored,
      coalesce(sum(s.count) filter (where s.is_raw), 0)::bigint as recounted
    from sides s left join named n on n.value = s.endpoint and n.date = (s.starts_at at time zone 'UTC')::date
    group by 1, 2, 3, 4
  )
  select s.what, 'endpoint', s.starts_at, s.value, 'response times in bucket ' || s.bucket, s.stored, s.recounted
  from sums s where s.stored <> s.recounted order by 1, 3, 4, 5;
end
$$;
comment on function app.verify_usage_latencies(uuid, date, date) is
  'Where the buckets of response times of an organization differ from its raw rows. No row: they agree.';

create or replace function app.verify_usage_visitors(p_organization_id uuid, p_first date, p_last date)
returns table (what text, dimension text, starts_at timestamptz, value text, measure text, stored bigint, recounted bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with raw as (
    select a.date, coalesce(a.api_key_id, '00000000-0000-0000-0000-000000000000') as api_key_id, a.visitor,
      a.event_key, r.event_key is not null as is_reversed
    from public.usage_analytics a
      left join public.usage_reversals r
        on r.organization_id = a.organization_id and r.date = a.date and r.event_key = a.event_key
    where a.organization_id = p_organization_id and a.date between p_first and p_last
  )
  select 'day', 'api_key', s.date::timestamp at time zone 'UTC', s.api_key_id::text, 'visitors', s.unique_visitors,
    coalesce(c.visitors, 0)
  from (
    select d.date, coalesce(d.api_key_id, '00000000-0000-0000-0000-000000000000') as api_key_id, d.unique_visitors
    from public.daily_usage_summary d
    where d.organization_id = p_organization_id and d.date between p_first and p_last
  ) s
    left join (
      select w.date, w.api_key_id, count(distinct w.visitor) as visitors
      from raw w where not w.is_reversed group by 1, 2
    ) c using (date, api_key_id)
  where s.unique_visitors <> coalesce(c.visitors, 0)
  union all
  select 'day', 'total', w.date::timestamp at time zone 'UTC', '', 'rows of one event', count(*), 1
  from raw w group by w.date, w.event_key having count(*) > 1;
end
$$;
comment on function app.verify_usage_visitors(uuid, date, date) is
  'Where the visitors of an organization differ from its raw rows, and events that have more than one row.';
