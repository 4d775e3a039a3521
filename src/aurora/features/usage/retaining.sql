-- What the worker does about retention, a bounded step at a time.

create or replace function app.usage_retention(
  out keep_months integer, out address_days integer, out hourly_days integer, out addresses_truncated_to date
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  select p.keep_months, p.address_days, p.hourly_days, p.addresses_truncated_to
  into keep_months, address_days, hourly_days, addresses_truncated_to
  from app.usage_policy p;
end
$$;
comment on function app.usage_retention() is 'How long usage is kept.';

create or replace function app.set_usage_retention(p_keep_months integer, p_address_days integer, p_hourly_days integer)
returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update app.usage_policy p
  set keep_months = coalesce(p_keep_months, p.keep_months), address_days = coalesce(p_address_days, p.address_days),
    hourly_days = coalesce(p_hourly_days, p.hourly_days);
end
$$;
comment on function app.set_usage_retention(integer, integer, integer) is
  'Says how long usage is kept; null leaves a number as it is. What is gone does not come back.';

create or replace function app.reopen_usage_addresses(p_day date) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update app.usage_policy p set addresses_truncated_to = least(p.addresses_truncated_to, p_day)
  where p.addresses_truncated_to > p_day;
end
$$;
comment on function app.reopen_usage_addresses(date) is
  'Says that rows from this day on may hold whole addresses again: a backfill brought some.';

create or replace function app.truncate_usage_addresses(p_limit integer default 50) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy app.usage_policy;
  v_cutoff date;
  v_day record;
  v_days integer := 0;
begin
  select * into v_policy from app.usage_policy;
  v_cutoff := (app.now() at time zone 'UTC')::date - v_policy.address_days;
  -- A day of an organization at a time, which its primary key finds. The 36 days before are looked at
  -- again, for late events fall on them with whole addresses.
  for v_day in
    select d.organization_id, d.date from public.usage_daily d
    where d.dimension = 'total' and d.date < v_cutoff
      and (v_policy.addresses_truncated_to is null or d.date >= v_policy.addresses_truncated_to - 36)
      and exists (
        select from public.usage_analytics a
        where a.organization_id = d.organization_id and a.date = d.date
          and masklen(a.ip_address) > case family(a.ip_address) when 4 then 24 else 48 end
      )
    limit p_limit
  loop
    update public.usage_analytics a
    set ip_address = network(set_masklen(a.ip_address, case family(a.ip_address) when 4 then 24 else 48 end))
    where a.organization_id = v_day.organization_id and a.date = v_day.date
      and masklen(a.ip_address) > case family(a.ip_address) when 4 then 24 else 48 end;
    v_days := v_days + 1;
  end loop;
  update public.usage_quarantine q
  set event = jsonb_set(q.event, '{ip_address}', to_jsonb(host(network(set_masklen(
    (q.event ->> 'ip_address')::inet, case family((q.event ->> 'ip_address')::inet) when 4 then 24 else 48 end
  )))))
  where q.received_at < app.now() - make_interval(days => v_policy.address_days)
    and q.event ->> 'ip_address' is not null and q.event ->> 'ip_address' not like '%.0'
    and q.event ->> 'ip_address' not like '%::';
  if v_days < p_limit then
    update app.usage_policy p set addresses_truncated_to = v_cutoff;
  end if;
  return v_days;
end
$$;
comment on function app.truncate_usage_addresses(integer) is
  'Truncates the addresses of up to so many days of organizations to /24 and /48; returns how many days.';

create or replace function app.drop_usage_month() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- Waits for no long reader, and makes nobody wait behind it: another night will do.
set lock_timeout = '3s'
as $$
declare
  v_keep_from date;
  v_month record;
begin
  select (date_trunc('month', app.now() at time zone 'UTC') - make_interval(months => p.keep_months))::date
  into v_keep_from from app.usage_policy p;
  select c.relname,
    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([0-9-]+)''\)'))[1]::date as first,
    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([0-9-]+)''\)'))[1]::date as after
  into v_month
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'public.usage_analytics'::regclass
    and (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([0-9-]+)''\)'))[1]::date <= v_keep_from
  order by 2 limit 1;
  -- What is not folded yet would never be counted again by anybody: the fold comes first.
  if not found or exists (
    select from public.usage_deltas d
    where d.last_hour >= v_month.first::timestamp at time zone 'UTC'
      and d.first_hour < v_month.after::timestamp at time zone 'UTC'
  ) then
    return 0;
  end if;
  execute format('alter table public.usage_analytics detach partition usage_partitions.%I', v_month.relname);
  execute format('drop table usage_partitions.%I', v_month.relname);
  delete from public.usage_reversals r where r.date >= v_month.first and r.date < v_month.after;
  return 1;
end
$$;
comment on function app.drop_usage_month() is
  'Detaches and drops the oldest month of raw rows that is kept no longer; returns how many. Sums stay.';

create or replace function app.drop_usage_hours(p_limit integer default 50000) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_before timestamptz;
  v_dropped bigint;
  v_more bigint;
begin
  select date_trunc('day', app.now(), 'UTC') - make_interval(days => p.hourly_days) into v_before from app.usage_policy p;
  delete from public.usage_hourly h
  using (
    select organization_id, dimension, hour, value from public.usage_hourly
    where hour < v_before and dimension <> 'total' limit p_limit
  ) old
  where h.organization_id = old.organization_id and h.dimension = old.dimension and h.hour = old.hour
    and h.value = old.value;
  get diagnostics v_dropped = row_count;
  delete from public.usage_latencies l
  using (
    select organization_id, span, starts_at, endpoint from public.usage_latencies
    where span = 'hour' and starts_at < v_before limit p_limit
  ) old
  where l.organization_id = old.organization_id and l.span = old.span and l.starts_at = old.starts_at
    and l.endpoint = old.endpoint;
  get diagnostics v_more = row_count;
  return v_dropped + v_more;
end
$$;
comment on function app.drop_usage_hours(integer) is
  'Removes hourly sums and percentiles that are kept no longer, a bounded number; those that bills are made from stay.';
