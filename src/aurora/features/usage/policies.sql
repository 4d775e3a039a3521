-- Who may read usage. Only the platform writes it; the base tables of the rollups are read through views.

revoke execute on function
  app.has_usage_partition(text), app.ensure_usage_partitions(date, date), app.usage_event_key(text, text), app.is_successful(integer),
  app.open_usage_staging(), app.staged_usage(), app.count_usage(app.usage_event[], integer),
  app.count_staged_usage(integer), app.claim_usage_singly(app.usage_event[], date),
  app.ingest_usage(app.usage_event[]), app.ingest_staged_usage(), app.fold_usage(integer), app.open_usage_folding(),
  app.take_usage_deltas(integer), app.fold_usage_counts(), app.fold_usage_rollups(), app.fold_usage_latencies(), app.usage_value_limit(text),
  app.count_closed_visitors(integer), app.count_billable(uuid, timestamptz, timestamptz),
  app.forget_usage_event_ids(integer, integer), app.forget_visitor_salts(integer),
  app.usage_retention(), app.set_usage_retention(integer, integer, integer), app.reopen_usage_addresses(date),
  app.truncate_usage_addresses(integer), app.drop_usage_month(), app.drop_usage_hours(integer),
  app.verify_usage_counts(uuid, date, date), app.verify_usage_latencies(uuid, date, date),
  app.verify_usage_visitors(uuid, date, date), app.open_usage_reversing(), app.claim_usage_reversals(jsonb), app.reverse_usage(jsonb), app.quarantine_usage(jsonb, integer),
  app.check_adoptable(regclass), app.stage_adopted_usage(regclass, bigint, integer), app.end_adoption(regclass),
  app.adopt_usage(text, integer),
  track_usage(
    uuid, uuid, text, integer, text, integer, boolean, text, boolean, text, text, inet, text, jsonb, text,
    timestamptz
  )
from public;
grant execute on function
  app.has_usage_partition(text), app.ensure_usage_partitions(date, date), app.usage_event_key(text, text), app.is_successful(integer),
  app.open_usage_staging(), app.staged_usage(), app.count_usage(app.usage_event[], integer),
  app.count_staged_usage(integer), app.claim_usage_singly(app.usage_event[], date),
  app.ingest_usage(app.usage_event[]), app.ingest_staged_usage(), app.fold_usage(integer), app.open_usage_folding(),
  app.take_usage_deltas(integer), app.fold_usage_counts(), app.fold_usage_rollups(), app.fold_usage_latencies(), app.usage_value_limit(text),
  app.count_closed_visitors(integer), app.count_billable(uuid, timestamptz, timestamptz),
  app.forget_usage_event_ids(integer, integer), app.forget_visitor_salts(integer),
  app.usage_retention(), app.set_usage_retention(integer, integer, integer), app.reopen_usage_addresses(date),
  app.truncate_usage_addresses(integer), app.drop_usage_month(), app.drop_usage_hours(integer),
  app.verify_usage_counts(uuid, date, date), app.verify_usage_latencies(uuid, date, date),
  app.verify_usage_visitors(uuid, date, date), app.open_usage_reversing(), app.claim_usage_reversals(jsonb), app.reverse_usage(jsonb), app.quarantine_usage(jsonb, integer),
  app.check_adoptable(regclass), app.stage_adopted_usage(regclass, bigint, integer), app.end_adoption(regclass),
  app.adopt_usage(text, integer),
  track_usage(
    uuid, uuid, text, integer, text, integer, boolean, text, boolean, text, text, inet, text, jsonb, text,
    timestamptz
  )
to service_role;
-- Those that the views are made of run as whoever reads them.
revoke execute on function
  app.usage_dimensions(uuid, text, text, integer, text, text), app.latency_bounds(), app.latency_bucket(integer),
  app.latency_value(integer)
from public;
grant execute on function
  app.usage_dimensions(uuid, text, text, integer, text, text), app.latency_bounds(), app.latency_bucket(integer),
  app.latency_value(integer)
to service_role, authenticated, tenant;

revoke all on schema usage_partitions from public, anon, authenticated, service_role, tenant;
revoke all on
  usage_analytics, usage_event_ids, usage_deltas, usage_daily, usage_hourly, usage_latencies, usage_visitors,
  usage_visitor_salts, usage_reversals, usage_quarantine, usage_imports,
  usage_delta_series, usage_daily_series, usage_hourly_series, usage_latency_rows, usage_raw_series,
  daily_usage_summary
from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on
  usage_analytics, usage_event_ids, usage_deltas, usage_daily, usage_hourly, usage_latencies, usage_visitors,
  usage_reversals, usage_quarantine, usage_imports
to service_role;
-- Made and read by the ingest alone, and never changed.
grant select, insert, delete on usage_visitor_salts to service_role;
grant select on
  usage_delta_series, usage_daily_series, usage_hourly_series, usage_latency_rows, usage_raw_series,
  daily_usage_summary
to service_role;
grant select on
  usage_analytics, usage_deltas, usage_daily, usage_hourly, usage_latencies, usage_visitors, usage_reversals,
  usage_delta_series, usage_daily_series, usage_hourly_series, usage_latency_rows, usage_raw_series,
  daily_usage_summary
to authenticated, tenant;

do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'usage_analytics', 'usage_event_ids', 'usage_deltas', 'usage_daily', 'usage_hourly', 'usage_latencies',
    'usage_visitors', 'usage_visitor_salts', 'usage_reversals', 'usage_quarantine', 'usage_imports'
  ] loop
    execute format('drop policy if exists "The platform acts on all usage" on public.%I', v_table);
    execute format(
      'create policy "The platform acts on all usage" on public.%I to service_role '
      'using (true) with check (true)', v_table
    );
    -- Claims, salts, import positions, and what is not counted are the platform's own business.
    continue when v_table in ('usage_event_ids', 'usage_visitor_salts', 'usage_quarantine', 'usage_imports');
    execute format('drop policy if exists "An organization''s people see its usage" on public.%I', v_table);
    execute format(
      'create policy "An organization''s people see its usage" on public.%I for select '
      'to authenticated, tenant using (organization_id = any (app.visible_organizations()))', v_table
    );
  end loop;
end
$$;

-- The months an event may fall in today, and three ahead.
select app.ensure_usage_partitions(
  (now() - interval '2 months')::date, (now() + interval '3 months')::date
);
