-- Who may read usage. Only the platform writes it; the base tables of the rollups are read through views.

revoke execute on function
  app.has_usage_partition(text), app.ensure_usage_partitions(date, date), app.usage_event_key(text, text), app.is_successful(integer),
  app.open_usage_staging(), app.ingest_staged_usage(), app.fold_usage(integer),
  app.count_closed_visitors(integer), app.count_billable(uuid, timestamptz, timestamptz),
  app.forget_usage_event_ids(integer, integer),
  track_usage(
    uuid, uuid, text, integer, text, integer, boolean, text, boolean, text, text, inet, text, jsonb, text,
    timestamptz
  )
from public;
grant execute on function
  app.has_usage_partition(text), app.ensure_usage_partitions(date, date), app.usage_event_key(text, text), app.is_successful(integer),
  app.open_usage_staging(), app.ingest_staged_usage(), app.fold_usage(integer),
  app.count_closed_visitors(integer), app.count_billable(uuid, timestamptz, timestamptz),
  app.forget_usage_event_ids(integer, integer),
  track_usage(
    uuid, uuid, text, integer, text, integer, boolean, text, boolean, text, text, inet, text, jsonb, text,
    timestamptz
  )
to service_role;

revoke all on schema usage_partitions from public, anon, authenticated, service_role, tenant;
revoke all on
  usage_analytics, usage_event_ids, usage_deltas, usage_daily, usage_hourly, usage_visitors, usage_imports,
  usage_daily_rows, usage_hourly_rows, daily_usage_summary
from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on
  usage_analytics, usage_event_ids, usage_deltas, usage_daily, usage_hourly, usage_visitors, usage_imports
to service_role;
grant select on usage_daily_rows, usage_hourly_rows, daily_usage_summary to service_role;
grant select on
  usage_analytics, usage_deltas, usage_daily, usage_hourly, usage_visitors,
  usage_daily_rows, usage_hourly_rows, daily_usage_summary
to authenticated, tenant;

do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'usage_analytics', 'usage_event_ids', 'usage_deltas', 'usage_daily', 'usage_hourly', 'usage_visitors',
    'usage_imports'
  ] loop
    execute format('drop policy if exists "The platform acts on all usage" on public.%I', v_table);
    execute format(
      'create policy "The platform acts on all usage" on public.%I to service_role '
      'using (true) with check (true)', v_table
    );
    -- Claims and import positions are the platform's own business.
    continue when v_table in ('usage_event_ids', 'usage_imports');
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
