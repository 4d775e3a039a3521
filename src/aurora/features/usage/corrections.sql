-- Taking events back, and keeping those that came out of time.

create or replace function app.open_usage_reversing() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('pg_temp.usage_reversing') is null then
    create temporary table usage_reversing (
      ordinal integer, organization_id uuid, event_key uuid, digest bigint, event_id text, reverses uuid,
      api_key_id uuid, "timestamp" timestamptz, metadata jsonb, outcome text
    ) on commit delete rows;
  else
    truncate pg_temp.usage_reversing;
  end if;
end
$$;
comment on function app.open_usage_reversing() is 'Makes or empties this session''s table of reversals.';

create or replace function app.claim_usage_reversals(p_rows jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into pg_temp.usage_reversing
  select r.*, null from jsonb_to_recordset(p_rows) as r (
    ordinal integer, organization_id uuid, event_key uuid, digest bigint, event_id text, reverses uuid,
    api_key_id uuid, "timestamp" timestamptz, metadata jsonb
  );
  -- In the order of identities, as in app.ingest_staged_usage(): two batches wait in turn, never in a circle.
  with claimed as (
    insert into public.usage_event_ids as e (organization_id, event_key, digest, seen_on, date)
    select r.organization_id, r.event_key, r.digest, (app.now() at time zone 'UTC')::date,
      (r."timestamp" at time zone 'UTC')::date
    from pg_temp.usage_reversing r
    order by 1, 2
    on conflict (organization_id, event_key) do nothing
    returning e.organization_id, e.event_key
  )
  update pg_temp.usage_reversing r set outcome = 'claimed' from claimed c
  where c.organization_id = r.organization_id and c.event_key = r.event_key;
  update pg_temp.usage_reversing r
  set outcome = case when e.digest = r.digest then 'duplicate' else 'conflict' end
  from public.usage_event_ids e
  where r.outcome is null and e.organization_id = r.organization_id and e.event_key = r.event_key;
end
$$;
comment on function app.claim_usage_reversals(jsonb) is
  'Claims the ids of reversals, as of any event, and notes in this session''s table which were claimed before.';

create or replace function app.reverse_usage(p_rows jsonb) returns table (ordinal integer, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform app.open_usage_reversing();
  perform app.open_usage_staging();
  perform app.claim_usage_reversals(p_rows);
  with found as (
    select r.ordinal, a.*
    from pg_temp.usage_reversing r
      join public.usage_event_ids e on e.organization_id = r.organization_id and e.event_key = r.reverses
      join public.usage_analytics a
        on a.organization_id = e.organization_id and a.date = e.date and a.event_key = e.event_key
    where r.outcome = 'claimed'
  ), reversed as (
    insert into public.usage_reversals as x (
      organization_id, event_key, date, reversal_key, reversal_id, api_key_id, timestamp, metadata
    )
    select r.organization_id, r.reverses, f.date, r.event_key, r.event_id, r.api_key_id, r."timestamp", r.metadata
    from pg_temp.usage_reversing r join found f on f.ordinal = r.ordinal
    -- Of two that take the same event back the one that was sent first does.
    order by 1, 2, r.ordinal
    on conflict (organization_id, event_key) do nothing
    returning x.organization_id, x.event_key, x.reversal_key
  ), staged as (
    insert into pg_temp.usage_staging (
      organization_id, "timestamp", api_key_id, endpoint, status_code, response_time_ms, cached, widget_type,
      widget_impression, billable, origin, country_code
    )
    select f.organization_id, f.timestamp, f.api_key_id, f.endpoint, f.status_code, f.response_time_ms, f.cached,
      f.widget_type, f.widget_impression, f.billable, f.origin, f.country_code
    from found f join pg_temp.usage_reversing r on r.ordinal = f.ordinal
      join reversed x on x.organization_id = r.organization_id and x.reversal_key = r.event_key
  )
  update pg_temp.usage_reversing r
  set outcome = case
    when x.reversal_key is not null then 'reversed'
    when f.ordinal is not null then 'already_reversed'
    else 'reverses_unknown'
  end
  from pg_temp.usage_reversing o
    left join found f on f.ordinal = o.ordinal
    left join reversed x on x.organization_id = o.organization_id and x.reversal_key = o.event_key
  where o.ordinal = r.ordinal and r.outcome = 'claimed';
  perform app.count_staged_usage(-1);
  truncate pg_temp.usage_staging;

  -- What took nothing back gives its id free: the same may come again after the event it means.
  delete from public.usage_event_ids e using pg_temp.usage_reversing r
  where r.outcome in ('already_reversed', 'reverses_unknown')
    and e.organization_id = r.organization_id and e.event_key = r.event_key;
  return query select r.ordinal, r.outcome from pg_temp.usage_reversing r;
end
$$;
comment on function app.reverse_usage(jsonb) is
  'Takes events back, each once, with a negative delta in the hour of the event; returns what became of each reversal.';

create or replace function app.quarantine_usage(p_rows jsonb, p_limit integer)
returns table (ordinal integer, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with arrived as (
    select r.*, row_number() over (partition by r.organization_id order by r.ordinal) as place
    from jsonb_to_recordset(p_rows) as r (
      ordinal integer, organization_id uuid, event_key uuid, digest bigint, reason text, "timestamp" timestamptz,
      event jsonb
    )
  ), held as (
    select o.organization_id, (
      select count(*) from (
        select from public.usage_quarantine q where q.organization_id = o.organization_id limit p_limit
      ) few
    ) as events
    from (select distinct a.organization_id from arrived a) o
  ), before as (
    select a.ordinal, q.digest from arrived a join public.usage_quarantine q using (organization_id, event_key)
  ), kept as (
    insert into public.usage_quarantine (organization_id, event_key, digest, reason, timestamp, event)
    select a.organization_id, a.event_key, a.digest, a.reason, a."timestamp", a.event
    from arrived a join held h using (organization_id) left join before b using (ordinal)
    where b.ordinal is null and h.events + a.place <= p_limit
    order by 1, 2
    on conflict (organization_id, event_key) do nothing
  )
  select a.ordinal, case
    when b.digest <> a.digest then 'conflict'
    when b.digest = a.digest or h.events + a.place <= p_limit then 'quarantined'
    else 'quarantine_full'
  end
  from arrived a join held h using (organization_id) left join before b using (ordinal);
end
$$;
comment on function app.quarantine_usage(jsonb, integer) is
  'Keeps events that came out of time, each once and up to a limit an organization; returns what became of each.';

create or replace function app.forget_visitor_salts(p_limit integer default 10000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_forgotten bigint;
begin
  -- No event of that day is taken any more, so nothing is left to be told apart by it.
  delete from public.usage_visitor_salts s
  using (
    select organization_id, date from public.usage_visitor_salts
    where date < (app.now() at time zone 'UTC')::date - 36 limit p_limit
  ) old
  where s.organization_id = old.organization_id and s.date = old.date;
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end
$$;
comment on function app.forget_visitor_salts(integer) is
  'Removes the salts of days that no late event can reach, which makes their visitors'' hashes untraceable; returns how many.';
