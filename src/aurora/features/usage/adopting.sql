-- Taking over a usage_analytics in the founding document's shape, a bounded step at a time.

create or replace function app.check_adoptable(p_table regclass) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_lacking text;
begin
  -- A table and nothing that runs somebody's code when it is read; never our own.
  if not exists (
    select from pg_class c where c.oid = p_table and c.relkind in ('r', 'p') and c.relname !~ '^pg_'
      and p_table not in ('public.usage_analytics'::regclass)
  ) then
    perform app.refuse('usage_table_invalid', 'Name a table of usage in the founding shape, not Aurora''s own.');
  end if;
  select string_agg(n, ', ') into v_lacking
  from unnest('{id,timestamp,organization_id,api_key_id,endpoint,method,status_code,response_time_ms,cached,widget_type,widget_impression,origin,user_agent,ip_address,country_code,metadata}'::text[]) n
  where not exists (
    select from pg_attribute a where a.attrelid = p_table and a.attname = n and a.attnum > 0 and not a.attisdropped
  );
  if v_lacking is not null then
    perform app.refuse('usage_table_invalid', format('The table lacks %s.', v_lacking));
  end if;
  if not exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = p_table and i.indisunique and i.indnkeyatts = 1 and a.attname = 'id'
  ) then
    perform app.refuse('usage_table_invalid', 'The table has no unique index of its id.');
  end if;
end
$$;
comment on function app.check_adoptable(regclass) is 'Refuses what is no table of usage in the founding document''s shape.';

create or replace function app.stage_adopted_usage(p_table regclass, p_after bigint, p_limit integer)
returns table (last_id bigint, looked_at integer, refused integer)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.open_usage_staging();
  -- In the order of identities, as app.ingest_staged_usage() claims them.
  execute format($sql$
    with page as materialized (
      select * from %1$s where id > $1 order by id limit $2
    ), owned as (
      select p.*, o.id is not null and (p.api_key_id is null or k.id is not null)
          and p.status_code between 100 and 599 and coalesce(p.response_time_ms, 0) >= 0
          and coalesce(p.widget_type, 'map') in ('forecast', 'map', 'chat')
          and p."timestamp" >= '2000-01-01 00:00+00' and p."timestamp" <= $3 as is_right,
        k.environment
      from page p left join public.organizations o on o.id = p.organization_id
        left join public.api_keys k on k.id = p.api_key_id and k.organization_id = p.organization_id
    ), staged as (
      insert into pg_temp.usage_staging
      select w.organization_id, app.usage_event_key($4, w.id::text), hashtextextended(w.id::text, 0),
        coalesce(w.widget_impression and w.environment = 'production' and app.is_successful(w.status_code), false),
        w."timestamp", w.status_code, coalesce(w.cached, false), coalesce(w.widget_impression, false), w.api_key_id,
        w.id::text, w.endpoint, w.method, w.response_time_ms, w.widget_type, w.origin, w.user_agent, w.ip_address,
        w.country_code, coalesce(w.metadata, '{}')
      from owned w where w.is_right
      order by 1, 2
    )
    select max(id), count(*)::integer, (count(*) filter (where not is_right))::integer from owned
  $sql$, p_table)
  using p_after, p_limit, app.now() + interval '1 hour', 'adopted:' || p_table::text
  into last_id, looked_at, refused;
  return next;
end
$$;
comment on function app.stage_adopted_usage(regclass, bigint, integer) is
  'Stages the next rows of a table; those of no organization or key here, or that no constraint lets in, are left out and counted.';

create or replace function app.end_adoption(p_table regclass) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_adoption app.usage_adoptions;
  v_rows bigint;
begin
  select * into strict v_adoption from app.usage_adoptions a where a.table_name = p_table::text;
  execute format('select count(*) from %s', p_table) into v_rows;
  if v_rows = v_adoption.accepted + v_adoption.known + v_adoption.refused then
    update app.usage_adoptions a set finished_at = coalesce(a.finished_at, app.now()) where a.table_name = p_table::text;
    return true;
  end if;
  -- Somebody wrote meanwhile, with an id below those that had been looked at. From the front: what was
  -- taken is known by its id, for as long as ids are remembered.
  if v_adoption.started_at < app.now() - interval '90 days' then
    perform app.refuse('usage_adoption_expired', 'It began over 90 days ago, so that its rows are no longer told apart.');
  end if;
  update app.usage_adoptions a set after_id = default, accepted = 0, known = 0, refused = 0 where a.table_name = p_table::text;
  return false;
end
$$;
comment on function app.end_adoption(regclass) is
  'Whether every row of the table was looked at; if not, the next step begins at the front again.';

create or replace function app.adopt_usage(
  p_name text, p_limit integer,
  out looked_at integer, out accepted integer, out known integer, out refused integer, out is_finished boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set work_mem = '64MB'
as $$
declare
  -- Found here: the platform's role does not enter the schema that an old table may be in.
  v_table constant regclass := to_regclass(p_name);
  v_adoption app.usage_adoptions;
  v_last bigint;
  v_month date;
  v_first date;
begin
  if v_table is null then
    perform app.refuse('usage_table_invalid', format('There is no table %s.', p_name));
  end if;
  perform app.check_adoptable(v_table);
  insert into app.usage_adoptions (table_name) values (v_table::text) on conflict do nothing;
  -- Two who adopt the same table take turns; how far it came is written with the rows themselves.
  select * into strict v_adoption from app.usage_adoptions a where a.table_name = v_table::text for update;
  select s.last_id, s.looked_at, s.refused into strict v_last, looked_at, refused
  from app.stage_adopted_usage(v_table, v_adoption.after_id, p_limit) s;
  accepted := 0; known := 0; is_finished := false;
  if looked_at = 0 then
    is_finished := app.end_adoption(v_table);
    return;
  end if;
  for v_month in
    select distinct date_trunc('month', s."timestamp" at time zone 'UTC')::date from pg_temp.usage_staging s order by 1
  loop
    perform app.ensure_usage_partitions(v_month, v_month);
    v_first := coalesce(v_first, v_month);
  end loop;
  select count(*) into known from app.ingest_staged_usage();
  accepted := looked_at - refused - known;
  truncate pg_temp.usage_staging;
  -- Old rows hold whole addresses: they are truncated as all others of their age.
  perform app.reopen_usage_addresses(v_first);
  update app.usage_adoptions a
  set after_id = v_last, accepted = a.accepted + adopt_usage.accepted, known = a.known + adopt_usage.known,
    refused = a.refused + adopt_usage.refused, updated_at = app.now(), finished_at = null
  where a.table_name = v_table::text;
end
$$;
comment on function app.adopt_usage(text, integer) is
  'Takes the next rows of a table in the founding shape over, each once.';
