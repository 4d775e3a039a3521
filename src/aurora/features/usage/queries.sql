-- name: open_usage_staging
-- Makes this session's staging table where it is missing.
select app.open_usage_staging();

-- name: list_staged_usage_counted -> CountedEvent
-- Claims, stores, and counts what was staged; returns what had been counted before.
select ordinal, digest from app.ingest_staged_usage();

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
