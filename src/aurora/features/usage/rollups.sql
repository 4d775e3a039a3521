-- Visitors, and the views that read folded and unfolded usage together, so that every figure is always fresh.

create or replace function app.count_closed_visitors(p_limit integer default 2000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_counted integer;
begin
  -- Not beside a fold: it reopens days by removing their counts, and would not see those made here.
  if not pg_try_advisory_xact_lock(hashtextextended('aurora.fold_usage', 0)) then
    return 0;
  end if;
  insert into public.usage_visitors (organization_id, date, api_key_id, visitors)
  select d.organization_id, d.date, d.api_key_id, (
    select count(distinct a.visitor)
    from public.usage_analytics a
      left join public.usage_reversals x
        on x.organization_id = a.organization_id and x.date = a.date and x.event_key = a.event_key
    where a.organization_id = d.organization_id and a.date = d.date and x.event_key is null
      and coalesce(a.api_key_id, '00000000-0000-0000-0000-000000000000') = d.api_key_id
  )
  from (
    select r.organization_id, r.date, r.value::uuid as api_key_id
    from public.usage_daily r
      left join public.usage_visitors v
        on v.organization_id = r.organization_id and v.date = r.date and v.api_key_id = r.value::uuid
    where r.dimension = 'api_key' and v.visitors is null and r.date < (app.now() at time zone 'UTC')::date
    limit p_limit
  ) d
  on conflict (organization_id, date, api_key_id) do update set visitors = excluded.visitors;
  get diagnostics v_counted = row_count;
  return v_counted;
end
$$;
comment on function app.count_closed_visitors(integer) is
  'Counts the distinct visitors of days that are over; returns how many (organization, day, key). 0 also during a fold.';

create or replace view usage_delta_series with (security_invoker = true) as
select d.organization_id, x.dimension, x.hour, x.value, x.requests::bigint as requests,
  x.impressions::bigint as impressions, x.billable::bigint as billable, x.successful::bigint as successful,
  x.failed::bigint as failed, x.cached::bigint as cached, x.response_time_ms_sum,
  x.response_time_count::bigint as response_time_count
from usage_deltas d
  cross join lateral unnest(
    d.hours, d.dimensions, d.dimension_values, d.requests, d.impressions, d.billable, d.successful, d.failed,
    d.cached, d.response_time_ms_sum, d.response_time_count
  ) as x (
    hour, dimension, value, requests, impressions, billable, successful, failed, cached, response_time_ms_sum,
    response_time_count
  );
comment on view usage_delta_series is 'Usage that is not folded yet, by hour and dimension.';

create or replace view usage_daily_series with (security_invoker = true) as
select organization_id, dimension, date, value, requests, impressions, billable, successful, failed, cached,
  response_time_ms_sum, response_time_count, true as is_folded
from usage_daily
union all
select organization_id, dimension, (hour at time zone 'UTC')::date, value, requests, impressions, billable, successful,
  failed, cached, response_time_ms_sum, response_time_count, false
from usage_delta_series;
comment on view usage_daily_series is
  'Folded and unfolded usage by UTC day and dimension. Name the dimension, and sum: a value may stand in several rows.';

create or replace view usage_hourly_series with (security_invoker = true) as
select organization_id, dimension, hour, value, requests, impressions, billable, successful, failed, cached,
  response_time_ms_sum, response_time_count, true as is_folded
from usage_hourly
union all
select organization_id, dimension, hour, value, requests, impressions, billable, successful, failed, cached,
  response_time_ms_sum, response_time_count, false
from usage_delta_series;
comment on view usage_hourly_series is
  'Folded and unfolded usage by hour and dimension. Name the dimension, and sum: a value may stand in several rows.';

create or replace view usage_latency_rows with (security_invoker = true) as
-- Measured: a third of the time that unnest() takes where it stands beside the table. Both are of one length.
select l.organization_id, l.span, l.starts_at, l.endpoint, unnest(l.buckets) as bucket, unnest(l.counts) as count,
  true as is_folded
from usage_latencies l
union all
select d.organization_id, 'hour', x.hour, x.endpoint, abs(b.bucket)::smallint, sign(b.bucket)::bigint, false
from usage_deltas d
  cross join lateral unnest(d.latency_hours, d.latency_endpoints, d.latencies) as x (hour, endpoint, buckets)
  cross join lateral unnest(x.buckets) as b (bucket);
comment on view usage_latency_rows is
  'Response times by endpoint, hour or day, and bucket. What is not folded yet stands under its hour only.';

create or replace view daily_usage_summary with (security_invoker = true) as
select d.organization_id, nullif(d.api_key_id, '00000000-0000-0000-0000-000000000000') as api_key_id, d.date,
  d.total_requests, d.widget_impressions, d.successful_requests, d.failed_requests, d.cached_requests,
  d.avg_response_time,
  coalesce(
    -- A late event makes the count of its day wrong before it is folded, too.
    case when d.is_folded then v.visitors end,
    (
      select count(distinct a.visitor)
      from usage_analytics a
        left join usage_reversals x
          on x.organization_id = a.organization_id and x.date = a.date and x.event_key = a.event_key
      where a.organization_id = d.organization_id and a.date = d.date and x.event_key is null
        and a.api_key_id is not distinct from nullif(d.api_key_id, '00000000-0000-0000-0000-000000000000')
    )
  ) as unique_visitors
from (
  select r.organization_id, r.value::uuid as api_key_id, r.date,
    sum(r.requests)::bigint as total_requests,
    sum(r.impressions)::bigint as widget_impressions,
    sum(r.successful)::bigint as successful_requests,
    sum(r.failed)::bigint as failed_requests,
    sum(r.cached)::bigint as cached_requests,
    sum(r.response_time_ms_sum) / nullif(sum(r.response_time_count), 0) as avg_response_time,
    bool_and(r.is_folded) as is_folded
  from usage_daily_series r
  where r.dimension = 'api_key'
  group by r.organization_id, r.value, r.date
  having sum(r.requests) <> 0
) d
-- Joined and not looked up by day: each look would ask the policy anew.
left join usage_visitors v
  on v.organization_id = d.organization_id and v.date = d.date and v.api_key_id = d.api_key_id;
comment on view daily_usage_summary is
  'The seed''s summary, always fresh: requests, impressions, and visitors by organization, key, and UTC day.';

create or replace function app.count_billable(p_organization_id uuid, p_from timestamptz, p_to timestamptz)
returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select sum(r.billable) from public.usage_hourly_series r
    where r.organization_id = p_organization_id and r.dimension = 'total' and r.hour >= p_from and r.hour < p_to
  ), 0);
end
$$;
comment on function app.count_billable(uuid, timestamptz, timestamptz) is
  'Billable impressions of [from, to); both bounds fall on whole hours.';

create or replace function app.forget_usage_event_ids(p_keep_days integer default 100, p_limit integer default 100000)
returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_forgotten bigint;
begin
  if p_keep_days <= 35 then
    perform app.refuse('retention_invalid', 'Event ids are kept longer than the 35 days an event may be late.');
  end if;
  delete from public.usage_event_ids e
  using (
    select organization_id, event_key from public.usage_event_ids
    where seen_on < (app.now() at time zone 'UTC')::date - p_keep_days limit p_limit
  ) old
  where e.organization_id = old.organization_id and e.event_key = old.event_key;
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end
$$;
comment on function app.forget_usage_event_ids(integer, integer) is
  'Forgets ids claimed more than so many days ago; returns how many.';
