-- Taking events once, and keeping the months that hold them.

create or replace function app.has_usage_partition(p_name text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  -- A query, not to_regclass(): that may still remember from before a lock was waited for.
  return exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'usage_partitions' and c.relname = p_name
  );
end
$$;
comment on function app.has_usage_partition(text) is 'Whether a month of usage_analytics is there, seen anew.';

create or replace function app.ensure_usage_partitions(p_from date, p_to date) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_month date := date_trunc('month', p_from)::date;
  v_name text;
  v_made integer := 0;
begin
  if p_to < p_from or p_to - p_from > 3700 then
    perform app.refuse('date_range_invalid', 'Partitions are made for at most ten years, from a day to a later one.');
  end if;
  while v_month <= p_to loop
    v_name := 'usage_analytics_' || to_char(v_month, 'YYYY_MM');
    if not app.has_usage_partition(v_name) then
      -- Only now, so that the usual call, where all is there, waits for nobody.
      perform pg_advisory_xact_lock(hashtextextended('aurora.usage_partitions', 0));
      if not app.has_usage_partition(v_name) then
        -- Attached and not made in place: so readers and writers of other months go on meanwhile.
        execute format(
          'create table usage_partitions.%I '
          '(like public.usage_analytics including defaults including constraints)', v_name
        );
        execute format('alter table usage_partitions.%I enable row level security', v_name);
        execute format(
          'revoke all on usage_partitions.%I from public, anon, authenticated, service_role, tenant', v_name
        );
        -- Appended and never changed: vacuumed for the visibility map and analysed while it grows.
        execute format(
          'alter table usage_partitions.%I set (autovacuum_vacuum_insert_scale_factor = 0.1, '
          'autovacuum_analyze_scale_factor = 0.05)', v_name
        );
        execute format(
          'alter table public.usage_analytics attach partition usage_partitions.%I '
          'for values from (%L) to (%L)', v_name, v_month, (v_month + interval '1 month')::date
        );
        v_made := v_made + 1;
      end if;
    end if;
    v_month := (v_month + interval '1 month')::date;
  end loop;
  return v_made;
end
$$;
comment on function app.ensure_usage_partitions(date, date) is
  'Makes the months of usage_analytics from one day to another that are missing; returns how many it made.';

create or replace function app.usage_event_key(p_source text, p_id text) returns uuid
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Text cannot hold a zero byte, so joined by one the pairs (a, b-c) and (a-b, c) stay apart.
  select encode(substring(sha256(
    convert_to(coalesce(p_source, ''), 'UTF8') || '\x00'::bytea || convert_to(p_id, 'UTF8')
  ) from 1 for 16), 'hex')::uuid
$$;
comment on function app.usage_event_key(text, text) is
  'The identity of an event: its source and id (CloudEvents 1.0, section 3.1.1) as sixteen bytes.';

create or replace function app.is_successful(p_status_code integer) returns boolean
language sql immutable parallel safe
as $$ select p_status_code between 200 and 399 $$;
comment on function app.is_successful(integer) is 'Whether the request was answered: 2xx and 3xx (201, 204, 304 too).';

create or replace function app.open_usage_staging() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('pg_temp.usage_staging') is null then
    create temporary table usage_staging of app.usage_event on commit delete rows;
  elsif exists (select from pg_temp.usage_staging) then
    -- An earlier batch of this transaction: it was taken, and must not be taken for this one.
    truncate pg_temp.usage_staging;
  end if;
end
$$;
comment on function app.open_usage_staging() is
  'Makes or empties this session''s staging table, for events that come of other tables: see ingest_staged_usage().';

create or replace function app.staged_usage() returns app.usage_event[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return (select array_agg(s::app.usage_event) from pg_temp.usage_staging s);
end
$$;
comment on function app.staged_usage() is 'What is staged, in its order.';

create or replace function app.count_usage(p_events app.usage_event[], p_sign integer default 1) returns void
-- One plan for all: for few events PostgreSQL would rather plan anew each time, which costs more than they do. It takes
-- an array for ten rows and would sort them; hashed they cost a twentieth less, in memory that ten thousand do not fill.
language plpgsql
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_sort = off set work_mem = '64MB'
as $$
begin
  insert into public.usage_deltas (
    organization_id, first_hour, last_hour, entries, hours, dimensions, dimension_values, requests, impressions,
    billable, successful, failed, cached, response_time_ms_sum, response_time_count,
    latency_hours, latency_endpoints, latencies
  )
  -- Cut as in app.usage_dimensions(), which says in rows what the grouping sets say here.
  with staged as not materialized (
    select s.organization_id, date_bin('1 hour', s."timestamp", '2000-01-01 00:00+00') as hour,
      coalesce(s.api_key_id, '00000000-0000-0000-0000-000000000000') as api_key_id,
      -- left() counts characters from the first on, for a tenth of this function's time: so only where it may cut.
      case when octet_length(s.endpoint) > 250 then left(s.endpoint, 250) else s.endpoint end as endpoint,
      coalesce(s.widget_type, '') as widget_type,
      s.status_code / 100 as status_class, coalesce(s.country_code, '') as country_code,
      coalesce(case when octet_length(s.origin) > 250 then left(s.origin, 250) else s.origin end, '') as origin,
      s.widget_impression, s.billable, s.cached, s.response_time_ms
    from unnest(p_events) as s
  ), sums as (
    select s.organization_id, s.hour, s.api_key_id, s.endpoint, s.widget_type, s.status_class, s.country_code, s.origin,
      grouping(s.api_key_id, s.endpoint, s.widget_type, s.status_class, s.country_code, s.origin) as summed,
      count(*) as requests, count(*) filter (where s.widget_impression) as impressions,
      count(*) filter (where s.billable) as billable, count(*) filter (where s.status_class in (2, 3)) as successful,
      count(*) filter (where s.status_class >= 4) as failed, count(*) filter (where s.cached) as cached,
      coalesce(sum(s.response_time_ms), 0) as response_time_ms_sum, count(s.response_time_ms) as response_time_count
    from staged s
    group by s.organization_id, s.hour, grouping sets (
      (), (s.api_key_id), (s.endpoint), (s.widget_type), (s.status_class), (s.country_code), (s.origin)
    )
  ), counts as (
    select s.organization_id, min(s.hour) as first_hour, max(s.hour) as last_hour, count(*)::integer as entries,
      array_agg(s.hour) as hours,
      array_agg(case s.summed
        when 63 then 'total' when 31 then 'api_key' when 47 then 'endpoint' when 55 then 'widget_type'
        when 59 then 'status_class' when 61 then 'country' else 'origin'
      end) as dimensions,
      array_agg(case s.summed
        when 63 then '' when 31 then s.api_key_id::text when 47 then s.endpoint when 55 then s.widget_type
        when 59 then s.status_class || 'xx' when 61 then s.country_code else s.origin
      end) as dimension_values,
      array_agg(p_sign * s.requests::integer) as requests, array_agg(p_sign * s.impressions::integer) as impressions,
      array_agg(p_sign * s.billable::integer) as billable, array_agg(p_sign * s.successful::integer) as successful,
      array_agg(p_sign * s.failed::integer) as failed, array_agg(p_sign * s.cached::integer) as cached,
      array_agg(p_sign * s.response_time_ms_sum) as response_time_ms_sum,
      array_agg(p_sign * s.response_time_count::integer) as response_time_count
    from sums s group by s.organization_id
  ), latencies as (
    select l.organization_id, array_agg(l.hour) as hours, array_agg(l.endpoint) as endpoints,
      array_agg(l.list) as lists
    from (
      select s.organization_id, s.hour, s.endpoint,
        row(array_agg((p_sign * app.latency_bucket(s.response_time_ms))::smallint))::app.latency_list as list
      from staged s where s.response_time_ms is not null group by 1, 2, 3
    ) l
    group by l.organization_id
  )
  select c.*, coalesce(l.hours, '{}'), coalesce(l.endpoints, '{}'), coalesce(l.lists, '{}')
  from counts c left join latencies l using (organization_id);
end
$$;
comment on function app.count_usage(app.usage_event[], integer) is
  'Writes what events add to each organization, or with -1 what they take away, as one row to be folded.';

create or replace function app.count_staged_usage(p_sign integer default 1) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.count_usage(app.staged_usage(), p_sign);
end
$$;
comment on function app.count_staged_usage(integer) is 'As app.count_usage(), of what is staged.';

create or replace function app.claim_usage_singly(p_events app.usage_event[], p_today date)
returns table (ordinal integer, digest bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_organizations uuid[];
  v_keys uuid[];
  v_ordinals integer[];
begin
  with claimed as (
    insert into public.usage_event_ids as e (organization_id, event_key, digest, seen_on, date)
    select s.organization_id, s.event_key, s.digest, p_today, (s."timestamp" at time zone 'UTC')::date
    from unnest(p_events) as s
    on conflict (organization_id, event_key) do nothing
    returning e.organization_id, e.event_key
  ), lost as (
    select (s.ordinality - 1)::integer as ordinal, s.organization_id, s.event_key
    from unnest(p_events) with ordinality as s
    where not exists (
      select from claimed c where c.organization_id = s.organization_id and c.event_key = s.event_key
    )
  )
  select array_agg(l.ordinal), array_agg(l.organization_id), array_agg(l.event_key)
  into v_ordinals, v_organizations, v_keys from lost l;
  -- A statement of its own sees also what others committed while the first one waited for them.
  return query
    select l.ordinal, e.digest
    from unnest(v_ordinals, v_organizations, v_keys) as l (ordinal, organization_id, event_key)
      join public.usage_event_ids e using (organization_id, event_key);
end
$$;
comment on function app.claim_usage_singly(app.usage_event[], date) is
  'Claims what nobody claimed before; returns the others by their places from 0, and the digest that was counted.';

create or replace function app.ingest_usage(p_events app.usage_event[])
returns table (ordinal integer, digest bigint)
language plpgsql set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  -- Once and not for every row: that took a quarter of the statement's time.
  v_today constant date := (app.now() at time zone 'UTC')::date;
  v_lost integer[];
  v_digests bigint[];
begin
  -- The day's salt is there before the statement that reads it: another batch may be making it now.
  insert into public.usage_visitor_salts (organization_id, date)
  select distinct s.organization_id, (s."timestamp" at time zone 'UTC')::date
  from unnest(p_events) as s
  where s.ip_address is not null
  order by 1, 2
  on conflict do nothing;

  -- Events come in the order of their identities, so that two batches which share ids wait for each
  -- other in turn and never in a circle. What a batch claims it stores and counts in the same transaction.
  begin
    -- Nearly always all are new. Claimed as plain rows they cost half of what looking first costs.
    insert into public.usage_event_ids (organization_id, event_key, digest, seen_on, date)
    select s.organization_id, s.event_key, s.digest, v_today, (s."timestamp" at time zone 'UTC')::date
    from unnest(p_events) as s;
  exception when unique_violation then
    select array_agg(c.ordinal), array_agg(c.digest) into v_lost, v_digests
    from app.claim_usage_singly(p_events, v_today) c;
    return query select * from unnest(v_lost, v_digests);
    p_events := array(
      select p_events[n] from generate_series(1, cardinality(p_events)) n
      where not exists (select from unnest(v_lost) as l (ordinal) where l.ordinal = n - 1)
      order by n
    );
  end;

  insert into public.usage_analytics (
    timestamp, organization_id, api_key_id, endpoint, method, status_code, response_time_ms, cached,
    widget_type, widget_impression, origin, user_agent, ip_address, country_code, metadata,
    date, billable, event_key, event_id, visitor
  )
  select s."timestamp", s.organization_id, s.api_key_id, s.endpoint, s.method, s.status_code, s.response_time_ms, s.cached,
    s.widget_type, s.widget_impression, s.origin, s.user_agent, s.ip_address, s.country_code, s.metadata,
    (s."timestamp" at time zone 'UTC')::date, s.billable, s.event_key, s.event_id,
    substring(sha256(v.salt || inet_send(s.ip_address)) for 8)
  from unnest(p_events) as s
    left join public.usage_visitor_salts v
      on v.organization_id = s.organization_id and v.date = (s."timestamp" at time zone 'UTC')::date;
  perform app.count_usage(p_events);
end
$$;
comment on function app.ingest_usage(app.usage_event[]) is
  'Claims, stores, and counts events; returns those that were counted before by their places from 0, and the digest that was counted.';

create or replace function app.ingest_staged_usage()
returns table (ordinal integer, digest bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from app.ingest_usage(app.staged_usage());
end
$$;
comment on function app.ingest_staged_usage() is 'As app.ingest_usage(), of what is staged.';

create or replace function track_usage(
  p_organization_id uuid,
  p_api_key_id uuid,
  p_endpoint text,
  p_status_code integer default 200,
  p_method text default 'GET',
  p_response_time_ms integer default null,
  p_cached boolean default false,
  p_widget_type text default null,
  p_widget_impression boolean default false,
  p_origin text default null,
  p_user_agent text default null,
  p_ip_address inet default null,
  p_country_code text default null,
  p_metadata jsonb default '{}',
  p_event_id text default null,
  p_timestamp timestamptz default null
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := app.now();
  v_timestamp constant timestamptz := coalesce(p_timestamp, v_now);
  v_event_id constant text := coalesce(p_event_id, gen_random_uuid()::text);
  v_environment text;
  v_lost integer;
begin
  if v_timestamp < v_now - interval '35 days' or v_timestamp > v_now + interval '1 hour' then
    perform app.refuse('timestamp_out_of_range', 'An event may be 35 days late and one hour early.');
  end if;
  if p_api_key_id is not null then
    select k.environment into v_environment
    from public.api_keys k where k.id = p_api_key_id and k.organization_id = p_organization_id;
    if not found then
      perform app.refuse('api_key_unknown', 'The organization has no such API key.');
    end if;
  elsif not exists (select from public.organizations o where o.id = p_organization_id) then
    perform app.refuse('organization_not_found', 'There is no such organization.');
  end if;

  select count(*) into v_lost from app.ingest_usage(array[row(
    p_organization_id, app.usage_event_key(null, v_event_id),
    hashtextextended(concat_ws(
      '|', p_api_key_id, p_endpoint, p_status_code, p_method, p_widget_type, p_widget_impression,
      extract(epoch from p_timestamp), p_metadata
    ), 0),
    coalesce(p_widget_impression and v_environment = 'production' and app.is_successful(p_status_code), false),
    v_timestamp, p_status_code, coalesce(p_cached, false), coalesce(p_widget_impression, false), p_api_key_id, v_event_id,
    p_endpoint, p_method, p_response_time_ms, p_widget_type, p_origin, p_user_agent, p_ip_address, p_country_code,
    coalesce(p_metadata, '{}')
  )::app.usage_event]);
  return v_lost = 0;
end
$$;
comment on function track_usage(
  uuid, uuid, text, integer, text, integer, boolean, text, boolean, text, text, inet, text, jsonb, text, timestamptz
) is 'Records one event; true when it counted, false when its id had been counted before.';
