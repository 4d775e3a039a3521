-- Folding deltas into rollups, and the views that read both, so that every figure is always fresh.

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
  with taken as materialized (
    delete from public.usage_deltas d
    using (select organization_id, id from public.usage_deltas limit p_limit) batch
    where d.organization_id = batch.organization_id and d.id = batch.id
    returning d.*
  ), daily as (
    insert into public.usage_daily as r (
      organization_id, date, api_key_id, endpoint, widget_type, country_code, requests, impressions,
      billable, successful, failed, cached, response_time_ms_sum, response_time_count
    )
    select t.organization_id, (t.hour at time zone 'UTC')::date, t.api_key_id, t.endpoint, t.widget_type,
      t.country_code, sum(t.requests), sum(t.impressions), sum(t.billable), sum(t.successful), sum(t.failed),
      sum(t.cached), sum(t.response_time_ms_sum), sum(t.response_time_count)
    from taken t
    group by 1, 2, 3, 4, 5, 6
    on conflict (organization_id, date, api_key_id, endpoint, widget_type, country_code) do update set
      requests = r.requests + excluded.requests,
      impressions = r.impressions + excluded.impressions,
      billable = r.billable + excluded.billable,
      successful = r.successful + excluded.successful,
      failed = r.failed + excluded.failed,
      cached = r.cached + excluded.cached,
      response_time_ms_sum = r.response_time_ms_sum + excluded.response_time_ms_sum,
      response_time_count = r.response_time_count + excluded.response_time_count
  ), hourly as (
    insert into public.usage_hourly as r (
      organization_id, hour, api_key_id, widget_type, requests, impressions, billable, failed
    )
    select t.organization_id, t.hour, t.api_key_id, t.widget_type,
      sum(t.requests), sum(t.impressions), sum(t.billable), sum(t.failed)
    from taken t
    group by 1, 2, 3, 4
    on conflict (organization_id, hour, api_key_id, widget_type) do update set
      requests = r.requests + excluded.requests,
      impressions = r.impressions + excluded.impressions,
      billable = r.billable + excluded.billable,
      failed = r.failed + excluded.failed
  ), reopened as (
    -- A late event makes a closed day's count of visitors wrong: it is counted again.
    delete from public.usage_visitors v
    using (select distinct organization_id, (hour at time zone 'UTC')::date as date, api_key_id from taken) t
    where v.organization_id = t.organization_id and v.date = t.date and v.api_key_id = t.api_key_id
  )
  select count(*) into v_folded from taken;
  return v_folded;
end
$$;
comment on function app.fold_usage(integer) is
  'Folds up to this many deltas into usage_daily and usage_hourly; returns how many. 0 also when another folds.';

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
    select count(distinct a.ip_address) from public.usage_analytics a
    where a.organization_id = d.organization_id and a.date = d.date
      and coalesce(a.api_key_id, '00000000-0000-0000-0000-000000000000') = d.api_key_id
  )
  from (
    select distinct r.organization_id, r.date, r.api_key_id
    from public.usage_daily r
      left join public.usage_visitors v using (organization_id, date, api_key_id)
    where v.visitors is null and r.date < (app.now() at time zone 'UTC')::date
    limit p_limit
  ) d
  on conflict (organization_id, date, api_key_id) do update set visitors = excluded.visitors;
  get diagnostics v_counted = row_count;
  return v_counted;
end
$$;
comment on function app.count_closed_visitors(integer) is
  'Counts the distinct visitors of days that are over; returns how many (organization, day, key). 0 also during a fold.';

create or replace view usage_daily_rows with (security_invoker = true) as
select organization_id, date, api_key_id, endpoint, widget_type, country_code, requests, impressions,
  billable, successful, failed, cached, response_time_ms_sum, response_time_count, true as is_folded
from usage_daily
union all
select organization_id, (hour at time zone 'UTC')::date, api_key_id, endpoint, widget_type, country_code,
  requests, impressions, billable, successful, failed, cached, response_time_ms_sum, response_time_count, false
from usage_deltas;
comment on view usage_daily_rows is 'Folded and unfolded usage by UTC day. Sum it: one key may stand in several rows.';

create or replace view usage_hourly_rows with (security_invoker = true) as
select organization_id, hour, api_key_id, widget_type, requests, impressions, billable, failed
from usage_hourly
union all
select organization_id, hour, api_key_id, widget_type, requests, impressions, billable, failed
from usage_deltas;
comment on view usage_hourly_rows is 'Folded and unfolded usage by hour. Sum it: one key may stand in several rows.';

create or replace view daily_usage_summary with (security_invoker = true) as
select d.organization_id, d.api_key_id, d.date, d.total_requests, d.widget_impressions, d.successful_requests,
  d.failed_requests, d.cached_requests, d.avg_response_time,
  coalesce(
    -- A late event makes the count of its day wrong before it is folded, too.
    case when d.is_folded then (
      select v.visitors from usage_visitors v
      where v.organization_id = d.organization_id and v.date = d.date
        and v.api_key_id = coalesce(d.api_key_id, '00000000-0000-0000-0000-000000000000')
    ) end,
    (
      select count(distinct a.ip_address) from usage_analytics a
      where a.organization_id = d.organization_id and a.date = d.date
        and a.api_key_id is not distinct from d.api_key_id
    )
  ) as unique_visitors
from (
  select r.organization_id, nullif(r.api_key_id, '00000000-0000-0000-0000-000000000000') as api_key_id, r.date,
    sum(r.requests)::bigint as total_requests,
    sum(r.impressions)::bigint as widget_impressions,
    sum(r.successful)::bigint as successful_requests,
    sum(r.failed)::bigint as failed_requests,
    sum(r.cached)::bigint as cached_requests,
    sum(r.response_time_ms_sum) / nullif(sum(r.response_time_count), 0) as avg_response_time,
    bool_and(r.is_folded) as is_folded
  from usage_daily_rows r
  group by r.organization_id, nullif(r.api_key_id, '00000000-0000-0000-0000-000000000000'), r.date
) d;
comment on view daily_usage_summary is
  'The seed''s summary, always fresh: requests, impressions, and visitors by organization, key, and UTC day.';

create or replace function app.count_billable(p_organization_id uuid, p_from timestamptz, p_to timestamptz)
returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select sum(r.billable) from public.usage_hourly_rows r
    where r.organization_id = p_organization_id and r.hour >= p_from and r.hour < p_to
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
