-- name: list_usage_counted -> CountedEvent
-- Claims, stores, and counts events; returns what had been counted before.
select ordinal, digest from app.ingest_usage(:events::app.usage_event[]);

-- name: list_usage_reversed -> AsideOutcome
-- Takes events back, each once; returns what became of each reversal.
select ordinal, outcome from app.reverse_usage(:rows::jsonb);

-- name: list_usage_quarantined -> AsideOutcome
-- Keeps events that came out of time; returns what became of each.
select ordinal, outcome from app.quarantine_usage(:rows::jsonb, :limit);

-- name: update_api_keys_last_used
-- Says when keys were last used, at most once a minute each, and waits for nobody.
with due as (
  select id from api_keys
  where id = any (:key_ids::uuid[])
    and (last_used_at is null or last_used_at < :used_at::timestamptz - interval '1 minute')
  for no key update skip locked
)
update api_keys k set last_used_at = :used_at::timestamptz from due where k.id = due.id;

-- name: list_usage_summary_by_group -> SummaryRow
-- Usage of an organization over UTC days, both included, from folded and unfolded rollups.
select
  case
    when :group_by::text = 'day' then to_char(date, 'YYYY-MM-DD')
    when :group_by::text = 'month' then to_char(date, 'YYYY-MM')
    when :group_by::text = 'api_key' then nullif(value, '00000000-0000-0000-0000-000000000000')
    else nullif(value, '')
  end as group,
  sum(requests)::bigint as requests,
  sum(impressions)::bigint as widget_impressions,
  sum(billable)::bigint as billable_impressions,
  sum(successful)::bigint as successful,
  sum(failed)::bigint as failed,
  sum(cached)::bigint as cached,
  sum(response_time_ms_sum)::bigint as response_time_ms_sum,
  sum(response_time_count)::bigint as response_time_count
from usage_daily_series
where organization_id = :organization_id::uuid and date >= :first_day::date and date <= :last_day::date
  and dimension = case when :group_by::text in ('day', 'month') then 'total' else :group_by::text end
group by 1
having sum(requests) <> 0
order by case when :group_by::text in ('day', 'month') then 0 else sum(requests) end desc, 1
limit :limit;

-- name: list_usage_series_by_hour -> SeriesPoint
-- Usage by hour, or by day or month of a time zone, and value of a dimension, after a place in that order.
with points as (
  select date_trunc(:granularity, hour, :time_zone) as starts_at, value, md5(value)::uuid as place,
    sum(requests)::bigint as requests, sum(impressions)::bigint as widget_impressions, sum(billable)::bigint as billable_impressions,
    sum(successful)::bigint as successful, sum(failed)::bigint as failed, sum(cached)::bigint as cached,
    sum(response_time_ms_sum)::bigint as response_time_ms_sum,
    sum(response_time_count)::bigint as response_time_count
  from usage_hourly_series
  where organization_id = :organization_id::uuid and dimension = :dimension
    and hour >= greatest(:starts_at::timestamptz, :after_at::timestamptz) and hour < :ends_at::timestamptz
  group by 1, 2
  having sum(requests) <> 0
)
select * from points
where :after_at::timestamptz is null or (starts_at, place) > (:after_at::timestamptz, :after_place::uuid)
order by starts_at, place
limit :limit;

-- name: list_usage_series_by_day -> SeriesPoint
-- Usage by UTC day or month and value of a dimension, after a place in that order.
with points as (
  select date_trunc(:granularity, date::timestamp) at time zone 'UTC' as starts_at, value, md5(value)::uuid as place,
    sum(requests)::bigint as requests, sum(impressions)::bigint as widget_impressions, sum(billable)::bigint as billable_impressions,
    sum(successful)::bigint as successful, sum(failed)::bigint as failed, sum(cached)::bigint as cached,
    sum(response_time_ms_sum)::bigint as response_time_ms_sum,
    sum(response_time_count)::bigint as response_time_count
  from usage_daily_series
  where organization_id = :organization_id::uuid and dimension = :dimension
    and date >= (greatest(:starts_at::timestamptz, :after_at::timestamptz) at time zone 'UTC')::date
    and date < (:ends_at::timestamptz at time zone 'UTC')::date
  group by 1, 2
  having sum(requests) <> 0
)
select * from points
where :after_at::timestamptz is null or (starts_at, place) > (:after_at::timestamptz, :after_place::uuid)
order by starts_at, place
limit :limit;

-- name: list_usage_performance -> EndpointPerformance
-- Requests, errors, and percentiles by endpoint: from days, and hours at both ends that are added or taken away.
-- Each range stands by itself, as an index finds it: joined by OR or CASE, all that there ever was is read.
with counts as (
  select value, :head_sign::integer * requests as requests, :head_sign::integer * failed as failed,
    :head_sign::integer * response_time_ms_sum as response_time_ms_sum,
    :head_sign::integer * response_time_count as response_time_count
  from usage_hourly_series
  where organization_id = :organization_id::uuid and dimension = 'endpoint'
    and hour >= :head_from::timestamptz and hour < :head_to::timestamptz
  union all
  select value, :tail_sign::integer * requests, :tail_sign::integer * failed,
    :tail_sign::integer * response_time_ms_sum, :tail_sign::integer * response_time_count
  from usage_hourly_series
  where organization_id = :organization_id::uuid and dimension = 'endpoint'
    and hour >= :tail_from::timestamptz and hour < :tail_to::timestamptz
  union all
  select value, requests, failed, response_time_ms_sum, response_time_count
  from usage_daily_series
  where organization_id = :organization_id::uuid and dimension = 'endpoint'
    and date >= (:days_from::timestamptz at time zone 'UTC')::date
    and date < (:days_to::timestamptz at time zone 'UTC')::date
), times as (
  select endpoint, bucket, :head_sign::integer * count as count from usage_latency_rows
  where organization_id = :organization_id::uuid and is_folded and span = 'hour'
    and starts_at >= :head_from::timestamptz and starts_at < :head_to::timestamptz
  union all
  select endpoint, bucket, :tail_sign::integer * count from usage_latency_rows
  where organization_id = :organization_id::uuid and is_folded and span = 'hour'
    and starts_at >= :tail_from::timestamptz and starts_at < :tail_to::timestamptz
  union all
  select endpoint, bucket, count from usage_latency_rows
  where organization_id = :organization_id::uuid and is_folded and span = 'day'
    and starts_at >= :days_from::timestamptz and starts_at < :days_to::timestamptz
  union all
  select endpoint, bucket, count from usage_latency_rows
  where organization_id = :organization_id::uuid and not is_folded
    and starts_at >= :starts_at::timestamptz and starts_at < :ends_at::timestamptz
), buckets as (
  select endpoint, bucket, sum(count) as count from times group by endpoint, bucket
), ranks as (
  select endpoint, bucket, sum(count) over (partition by endpoint order by bucket) as upto,
    sum(count) over (partition by endpoint) as total
  from buckets where count > 0
), percentiles as (
  select endpoint,
    min(bucket) filter (where upto >= 0.50 * total) as p50,
    min(bucket) filter (where upto >= 0.95 * total) as p95,
    min(bucket) filter (where upto >= 0.99 * total) as p99
  from ranks group by endpoint
), sums as (
  select value as endpoint, sum(requests)::bigint as requests, sum(failed)::bigint as errors,
    sum(response_time_ms_sum)::bigint as response_time_ms_sum,
    sum(response_time_count)::bigint as response_time_count
  from counts group by value having sum(requests) <> 0
)
select s.*, app.latency_value(p.p50)::float8 as p50_response_time_ms,
  app.latency_value(p.p95)::float8 as p95_response_time_ms, app.latency_value(p.p99)::float8 as p99_response_time_ms
from sums s left join percentiles p on p.endpoint = s.endpoint
order by s.requests desc, s.endpoint
limit :limit;

-- name: list_usage_events_by_day -> StoredEvent
-- Raw rows of one UTC day after an id, as they were stored; addresses as networks.
select a.id, a.timestamp, a.api_key_id, a.endpoint, a.method, a.status_code, a.response_time_ms, a.cached, a.widget_type,
  a.widget_impression, a.billable, a.origin, a.user_agent,
  network(set_masklen(a.ip_address, least(masklen(a.ip_address), case family(a.ip_address) when 4 then 24 else 48 end)))::text
    as network,
  a.country_code, a.metadata, a.event_id, x.event_key is not null as is_reversed
from usage_analytics a
  left join usage_reversals x
    on x.organization_id = a.organization_id and x.date = a.date and x.event_key = a.event_key
where a.organization_id = :organization_id::uuid and a.date = :day::date and a.id > :after_id
  and (:hour::timestamptz is null or a.timestamp >= :hour::timestamptz and a.timestamp < :hour::timestamptz + interval '1 hour')
  and case
    when :value::text is null then true
    when :value::text = '(other)' then not exists (
      select from usage_daily d
      where d.organization_id = :organization_id::uuid and d.dimension = :dimension and d.date = :day::date
        and d.value = left(case :dimension when 'endpoint' then a.endpoint else coalesce(a.origin, '') end, 250)
    )
    when :dimension = 'endpoint' then left(a.endpoint, 250) = :value::text
    when :dimension = 'origin' then left(coalesce(a.origin, ''), 250) = :value::text
    when :dimension = 'country' then coalesce(a.country_code, '') = :value::text
    when :dimension = 'widget_type' then coalesce(a.widget_type, '') = :value::text
    when :dimension = 'status_class' then a.status_code / 100 || 'xx' = :value::text
    when :dimension = 'api_key' then
      coalesce(a.api_key_id, '00000000-0000-0000-0000-000000000000')::text = :value::text
    else true
  end
order by a.id
limit :limit;

-- name: find_usage_figure -> SeriesPoint
-- What the sums say of one UTC day and value of a dimension.
select :day::date::timestamp at time zone 'UTC' as starts_at, :value::text as value,
  md5(:value::text)::uuid as place, coalesce(sum(requests), 0)::bigint as requests, coalesce(sum(impressions), 0)::bigint as widget_impressions,
  coalesce(sum(billable), 0)::bigint as billable_impressions, coalesce(sum(successful), 0)::bigint as successful,
  coalesce(sum(failed), 0)::bigint as failed, coalesce(sum(cached), 0)::bigint as cached,
  coalesce(sum(response_time_ms_sum), 0)::bigint as response_time_ms_sum,
  coalesce(sum(response_time_count), 0)::bigint as response_time_count
from usage_daily_series
where organization_id = :organization_id::uuid and dimension = :dimension and date = :day::date and value = :value::text;

-- name: list_usage_origins -> OriginFigures
-- The largest origins of UTC days, each beside what all of them come to.
select nullif(value, '') as origin, sum(requests)::bigint as requests, sum(impressions)::bigint as widget_impressions,
  sum(billable)::bigint as billable_impressions, sum(failed)::bigint as failed,
  sum(sum(requests)) over ()::bigint as all_requests, sum(sum(impressions)) over ()::bigint as all_impressions,
  count(*) over () as origins
from usage_daily_series
where organization_id = :organization_id::uuid and dimension = 'origin'
  and date >= :first_day::date and date <= :last_day::date
group by value
having sum(requests) <> 0
order by case when :order_by::text = 'requests' then sum(requests) else sum(impressions) end desc, value
limit :limit;

-- name: find_usage_newest_event
-- The highest id of an organization's events of three UTC days; each day's stands at the end of its part of the index.
select max(a.id)
from generate_series(0, 2) n cross join lateral (
  select id from usage_analytics
  where organization_id = :organization_id::uuid and date = :first_day::date + n
  order by id desc limit 1
) a;

-- name: list_usage_live_events -> LiveEvent
-- The latest events above an id, of three UTC days.
select a.*
from generate_series(0, 2) n cross join lateral (
  select id, timestamp, api_key_id, endpoint, method, status_code, response_time_ms, cached, widget_type,
    widget_impression, billable, origin, country_code
  from usage_analytics
  where organization_id = :organization_id::uuid and date = :first_day::date + n and id > :after_id
  order by id desc limit :limit
) a
order by a.id desc
limit :limit;

-- name: list_usage_differences -> Difference
-- Where sums differ from the raw rows, over UTC days.
select * from app.verify_usage_counts(:organization_id::uuid, :first_day::date, :last_day::date)
union all
select * from app.verify_usage_latencies(:organization_id::uuid, :first_day::date, :last_day::date)
union all
select * from app.verify_usage_visitors(:organization_id::uuid, :first_day::date, :last_day::date)
limit :limit;

-- name: list_usage_quarantine -> Quarantined
-- An organization's events in quarantine, by their keys.
select organization_id, event_key, reason, timestamp, event, received_at
from usage_quarantine
where organization_id = :organization_id::uuid and (:after_key::uuid is null or event_key > :after_key::uuid)
order by event_key
limit :limit;

-- name: delete_usage_quarantine
-- Takes events out of quarantine.
delete from usage_quarantine
where organization_id = :organization_id::uuid and event_key = any (:event_keys::uuid[]);

-- name: find_usage_retention -> Retention
-- How long usage is kept.
select keep_months, address_days, hourly_days, addresses_truncated_to from app.usage_retention();

-- name: update_usage_retention
-- Says how long usage is kept.
select app.set_usage_retention(:keep_months, :address_days, :hourly_days);

-- name: update_usage_addresses_reopened
-- Says that rows of this day and later ones may hold whole addresses again.
select app.reopen_usage_addresses(:day::date);

-- name: update_usage_addresses_truncated
-- Truncates addresses of a bounded number of days of organizations; returns how many days.
select app.truncate_usage_addresses(:limit);

-- name: delete_usage_months
-- Drops the oldest month that is kept no longer; returns how many it dropped.
select app.drop_usage_month();

-- name: count_usage_months_over
-- How many months of raw rows are kept no longer: the next night drops them.
select count(*)
from pg_inherits i join pg_class c on c.oid = i.inhrelid cross join app.usage_retention() r
where i.inhparent = 'public.usage_analytics'::regclass
  and (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([0-9-]+)''\)'))[1]::date
    <= date_trunc('month', app.now() at time zone 'UTC') - make_interval(months => r.keep_months);

-- name: delete_usage_hours
-- Removes hourly sums that are kept no longer, but those that bills are made from; returns how many.
select app.drop_usage_hours(:limit);

-- name: insert_usage_adopted -> Adopted
-- Takes the next rows of a table in the founding shape over.
select looked_at, accepted, known, refused, is_finished from app.adopt_usage(:table_name, :limit::integer);

-- name: insert_usage_partitions
-- Makes the months that hold these days; returns how many it made.
select app.ensure_usage_partitions(:first_day::date, :last_day::date);

-- name: update_usage_folded
-- Folds a bounded number of deltas; returns how many.
select app.fold_usage(:limit);

-- name: update_usage_visitors_counted
-- Counts the visitors of closed days; returns how many days it counted.
select app.count_closed_visitors(:limit);

-- name: delete_usage_event_ids_forgotten
-- Forgets ids that no late event can bring again; returns how many.
select app.forget_usage_event_ids(:keep_days, :limit);

-- name: delete_usage_visitor_salts_forgotten
-- Removes the salts of days that no late event can reach; returns how many.
select app.forget_visitor_salts(:limit);

-- name: find_usage_import_position
-- How far a file was read and stored.
select position from usage_imports where organization_id = :organization_id::uuid and file_key = :file_key;

-- name: insert_usage_import_position
-- Writes down how far a file was read and stored.
insert into usage_imports as i (organization_id, file_key, file_name, position)
values (:organization_id, :file_key, :file_name, :position)
on conflict (organization_id, file_key) do update set
  position = excluded.position, file_name = excluded.file_name, updated_at = excluded.updated_at;

-- name: delete_usage_import_position
-- Forgets how far a file was read: it was read to its end.
delete from usage_imports where organization_id = :organization_id::uuid and file_key = :file_key;
