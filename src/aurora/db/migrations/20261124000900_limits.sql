-- Rate limits (data plane): what each key was granted in the last hour, one row a key, one lock a grant.

create table rate_limit_windows (
  organization_id uuid not null,
  api_key_id uuid not null,

  seen_at timestamptz not null,
  ahead interval not null default '0',

  first_bucket bigint not null,
  counts integer[] not null,
  first_slot bigint not null,
  slots integer[] not null,

  constraint rate_limit_windows_pkey primary key (organization_id, api_key_id),
  constraint rate_limit_windows_counts_check check (array_length(counts, 1) = 362),
  constraint rate_limit_windows_slots_check check (array_length(slots, 1) = 12)
) with (fillfactor = 65, autovacuum_vacuum_scale_factor = 0.05);
alter table rate_limit_windows enable row level security;
comment on table rate_limit_windows is
  'Requests granted to a key by ten seconds (counts) and tenth of a second (slots). Logged: a crash must not open a window.';
comment on column rate_limit_windows.seen_at is 'The key''s own time at its last grant; it never goes back.';
comment on column rate_limit_windows.ahead is
  'How far PostgreSQL''s clock runs ahead of the key''s time, where it was seen to jump.';
comment on column rate_limit_windows.first_bucket is 'Number of the ten seconds, counted from 1970, of the first of counts.';

-- Leases: never more than a limit in any rolling hour or second, on any number of processes.
--
-- A grant at the key's time t lives for at most a second and is counted in the ten seconds of
-- t + life + five seconds. It stops being counted when the ten seconds of the present are the 361st
-- after those: after more than an hour since it was last used, and at most 17 seconds more. The five
-- seconds pay for a clock that is not quite even. docs/decisions/ has the proof.

create or replace function app.limit_number(p_at timestamptz, p_size_ms integer) returns bigint
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$ select floor(extract(epoch from p_at) * 1000 / p_size_ms)::bigint $$;
comment on function app.limit_number(timestamptz, integer) is
  'Number of the stretch of so many milliseconds, counted from 1970, that holds the moment.';

create or replace function app.limit_slide(p_counts integer[], p_by bigint) returns integer[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_by <= 0 then p_counts
    when p_by >= cardinality(p_counts) then array_fill(0, array[cardinality(p_counts)])
    else p_counts[p_by::integer + 1:] || array_fill(0, array[p_by::integer])
  end
$$;
comment on function app.limit_slide(integer[], bigint) is 'The counts after so many stretches have left at the front.';

create or replace function app.limit_wait(
  p_counts integer[], p_first bigint, p_size_ms integer, p_at timestamptz, p_leaving bigint
) returns bigint
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_missing bigint := p_leaving;
  v_leave bigint := cardinality(p_counts);
  v_stretch record;
begin
  if p_leaving <= 0 then
    return 0;
  end if;
  -- Most stretches of most keys are empty; what is counted in the others is looked at in their order.
  for v_stretch in
    select u.place, u.counted from unnest(p_counts) with ordinality as u (counted, place)
    where u.counted > 0 order by u.place
  loop
    v_missing := v_missing - v_stretch.counted;
    if v_missing <= 0 then
      v_leave := v_stretch.place;
      exit;
    end if;
  end loop;
  -- The stretch numbered n has left once the present one is n + cardinality - 1.
  return ((p_first + v_leave + cardinality(p_counts) - 2) * p_size_ms - extract(epoch from p_at) * 1000)::bigint;
end
$$;
comment on function app.limit_wait(integer[], bigint, integer, timestamptz, bigint) is
  'Milliseconds until so many are not counted any more: when enough stretches have left at the front.';

create or replace function app.limit_add(p_counts integer[], p_place bigint, p_by integer) returns integer[]
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- What has left is not counted any more, and nothing can be taken from it.
  if p_place between 1 and cardinality(p_counts) then
    p_counts[p_place::integer] := greatest(p_counts[p_place::integer] + p_by, 0);
  end if;
  return p_counts;
end
$$;
comment on function app.limit_add(integer[], bigint, integer) is
  'The counts with so many more, or fewer, in one place.';

create or replace function app.limit_time(p_clock timestamptz, p_expected timestamptz) returns timestamptz
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_expected is null or abs(extract(epoch from p_clock - p_expected)) <= 2 then p_clock
    else p_expected
  end
$$;
comment on function app.limit_time(timestamptz, timestamptz) is
  'The clock, unless it is two seconds off what a process expects by its own steady clock: then that.';

create or replace function app.lock_rate_limit(p_organization_id uuid, p_api_key_id uuid)
returns public.rate_limit_windows
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_window public.rate_limit_windows;
  v_now constant timestamptz := app.now();
begin
  -- Twice would do, were it not for a window that is forgotten in between.
  for attempt in 1..4 loop
    select * into v_window from public.rate_limit_windows w
    where w.organization_id = p_organization_id and w.api_key_id = p_api_key_id for update;
    exit when found;
    insert into public.rate_limit_windows (
      organization_id, api_key_id, seen_at, first_bucket, counts, first_slot, slots
    ) values (
      p_organization_id, p_api_key_id, v_now, app.limit_number(v_now, 10000) - 360,
      array_fill(0, array[362]), app.limit_number(v_now, 100) - 10, array_fill(0, array[12])
    ) on conflict (organization_id, api_key_id) do nothing;
  end loop;
  return v_window;
end
$$;
comment on function app.lock_rate_limit(uuid, uuid) is
  'A key''s window, made where it is missing, locked until the transaction ends.';

create or replace function app.lease_requests(
  p_organization_id uuid,
  p_api_key_id uuid,
  p_per_hour integer,
  p_per_second integer,
  p_waiting integer,
  p_wanted integer,
  p_returned integer default 0,
  p_returned_end timestamptz default null,
  p_expected timestamptz default null
) returns table (
  granted integer, life_ms integer, ends_at timestamptz, key_time timestamptz, remaining integer,
  reset_ms bigint, retry_after_ms bigint
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  w public.rate_limit_windows := app.lock_rate_limit(p_organization_id, p_api_key_id);
  v_clock constant timestamptz := app.now() - w.ahead;
  v_time constant timestamptz := app.limit_time(v_clock, p_expected);
  v_first bigint;
  v_slot bigint;
  v_counted bigint;
  v_second bigint;
  v_left bigint;
begin
  key_time := greatest(v_time, w.seen_at);
  v_first := app.limit_number(key_time, 10000) - 360;
  v_slot := app.limit_number(key_time, 100) - 10;
  w.counts := app.limit_slide(w.counts, v_first - w.first_bucket);
  w.slots := app.limit_slide(w.slots, v_slot - w.first_slot);
  if p_returned > 0 then
    w.counts := app.limit_add(
      w.counts, app.limit_number(p_returned_end + interval '5 seconds', 10000) - v_first + 1, -p_returned
    );
    w.slots := app.limit_add(w.slots, app.limit_number(p_returned_end, 100) - v_slot + 1, -p_returned);
  end if;

  v_counted := (select sum(c) from unnest(w.counts) as c);
  v_second := (select sum(c) from unnest(w.slots) as c);
  remaining := greatest(p_per_hour - v_counted, 0);
  v_left := least(remaining, case when p_per_second is not null then greatest(p_per_second - v_second, 0) end);
  -- What waits is used at once. Beyond it a process gets an eighth of what is left, for the others.
  granted := least(v_left, greatest(p_waiting, least(p_wanted, v_left / 8)));
  -- Where seconds count too, nobody may hold a second's share for a second.
  life_ms := case when p_per_second is null then 1000 else 100 end;
  ends_at := key_time + make_interval(secs => life_ms / 1000.0);
  remaining := remaining - granted;
  w.counts := app.limit_add(w.counts, app.limit_number(ends_at + interval '5 seconds', 10000) - v_first + 1, granted);
  if p_per_second is not null then
    w.slots := app.limit_add(w.slots, app.limit_number(ends_at, 100) - v_slot + 1, granted);
  end if;
  if granted > 0 or p_returned > 0 or v_time <> v_clock then
    -- A jump is remembered, so that a process which did not see it goes on in the key's time too.
    update public.rate_limit_windows r
    set seen_at = key_time, ahead = w.ahead + (v_clock - v_time), first_bucket = v_first, counts = w.counts,
      first_slot = v_slot, slots = w.slots
    where r.organization_id = w.organization_id and r.api_key_id = w.api_key_id;
  end if;

  reset_ms := app.limit_wait(w.counts, v_first, 10000, key_time, 1);
  if granted < p_waiting then
    retry_after_ms := greatest(
      app.limit_wait(w.counts, v_first, 10000, key_time, v_counted + granted - p_per_hour + 1),
      case when p_per_second is not null then
        app.limit_wait(w.slots, v_slot, 100, key_time, v_second + granted - p_per_second + 1) end
    );
  end if;
  return next;
end
$$;
comment on function app.lease_requests(
  uuid, uuid, integer, integer, integer, integer, integer, timestamptz, timestamptz
) is
  'Grants a process requests of a key for a short life, those that wait first, and takes unused ones back. Never more than the limits in any rolling hour and second.';

create or replace function app.return_requests(
  p_organization_ids uuid[], p_api_key_ids uuid[], p_counts integer[], p_ends timestamptz[]
) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_lease record;
  w public.rate_limit_windows;
  v_returned integer := 0;
begin
  -- In the order of the keys: two processes that return the same ones wait in turn, never in a circle.
  for v_lease in
    select * from unnest(p_organization_ids, p_api_key_ids, p_counts, p_ends) as l (organization_id, api_key_id, unused, ends_at)
    order by 1, 2
  loop
    w := app.lock_rate_limit(v_lease.organization_id, v_lease.api_key_id);
    w.counts := app.limit_add(
      w.counts, app.limit_number(v_lease.ends_at + interval '5 seconds', 10000) - w.first_bucket + 1, -v_lease.unused
    );
    w.slots := app.limit_add(w.slots, app.limit_number(v_lease.ends_at, 100) - w.first_slot + 1, -v_lease.unused);
    update public.rate_limit_windows r set counts = w.counts, slots = w.slots
    where r.organization_id = v_lease.organization_id and r.api_key_id = v_lease.api_key_id;
    v_returned := v_returned + v_lease.unused;
  end loop;
  return v_returned;
end
$$;
comment on function app.return_requests(uuid[], uuid[], integer[], timestamptz[]) is
  'Takes back what leases did not use; each may be returned once, and not after its process used it.';

create or replace function app.forget_rate_limits(p_limit integer default 10000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_forgotten integer;
begin
  -- A day, where an hour would do: a clock that is set forward by a while must not open every window.
  delete from public.rate_limit_windows r
  using (
    select organization_id, api_key_id from public.rate_limit_windows
    where seen_at < app.now() - interval '25 hours' limit p_limit
  ) idle
  where r.organization_id = idle.organization_id and r.api_key_id = idle.api_key_id;
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end
$$;
comment on function app.forget_rate_limits(integer) is
  'Forgets windows of keys that were not used for a day; returns how many.';

revoke execute on function app.limit_number(timestamptz, integer), app.limit_slide(integer[], bigint),
  app.limit_wait(integer[], bigint, integer, timestamptz, bigint), app.limit_add(integer[], bigint, integer),
  app.limit_time(timestamptz, timestamptz), app.lock_rate_limit(uuid, uuid),
  app.lease_requests(uuid, uuid, integer, integer, integer, integer, integer, timestamptz, timestamptz),
  app.return_requests(uuid[], uuid[], integer[], timestamptz[]), app.forget_rate_limits(integer)
from public;
grant execute on function app.limit_number(timestamptz, integer), app.limit_slide(integer[], bigint),
  app.limit_wait(integer[], bigint, integer, timestamptz, bigint), app.limit_add(integer[], bigint, integer),
  app.limit_time(timestamptz, timestamptz), app.lock_rate_limit(uuid, uuid),
  app.lease_requests(uuid, uuid, integer, integer, integer, integer, integer, timestamptz, timestamptz),
  app.return_requests(uuid[], uuid[], integer[], timestamptz[]), app.forget_rate_limits(integer)
to service_role;

revoke all on rate_limit_windows from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on rate_limit_windows to service_role;
drop policy if exists "The platform counts what it granted" on rate_limit_windows;
create policy "The platform counts what it granted" on rate_limit_windows
  to service_role using (true) with check (true);

-- Quotas: how much of the month's included impressions is used, and the warnings at 80 and 100 %.

create or replace function app.quota_month(p_anchor date, p_time_zone text, p_at timestamptz)
returns table (month_start timestamptz, month_end timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_local constant date := (p_at at time zone p_time_zone)::date;
  v_months integer := (extract(year from v_local)::integer - extract(year from p_anchor)::integer) * 12
    + extract(month from v_local)::integer - extract(month from p_anchor)::integer;
begin
  if app.billing_moment(p_anchor, v_months, p_time_zone) > p_at then
    v_months := v_months - 1;
  end if;
  return query select app.billing_moment(p_anchor, v_months, p_time_zone),
    app.billing_moment(p_anchor, v_months + 1, p_time_zone);
end
$$;
comment on function app.quota_month(date, text, timestamptz) is
  'The month of a subscription (anchor to anchor) that holds the moment; included impressions are monthly.';

create or replace function app.quota_state(p_organization_id uuid)
returns table (
  used bigint, included bigint, quota_mode text, period_start timestamptz, period_end timestamptz
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription public.subscriptions;
  v_month record;
begin
  select * into v_subscription from public.subscriptions s
  where s.organization_id = p_organization_id and s.status in ('trialing', 'active', 'past_due');
  if not found then
    return;
  end if;
  select * into v_month
  from app.quota_month(v_subscription.billing_anchor, v_subscription.time_zone, app.now());
  return query select
    app.count_billable(p_organization_id, v_month.month_start, v_month.month_end),
    v_subscription.included_impressions, v_subscription.quota_mode, v_month.month_start, v_month.month_end;
end
$$;
comment on function app.quota_state(uuid) is
  'Billable impressions used and included in the running month; no row without a running subscription.';

create or replace function app.warn_of_quota(p_organization_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_quota record;
  v_threshold integer;
  v_told integer := 0;
begin
  select * into v_quota from app.quota_state(p_organization_id);
  if not found or v_quota.included is null or v_quota.included = 0 then
    return 0;
  end if;
  foreach v_threshold in array array[80, 100] loop
    exit when v_quota.used * 100 < v_quota.included * v_threshold;
    v_told := v_told + app.notify_members(
      p_organization_id,
      'usage_limit',
      format('%s %% of the included impressions are used', v_threshold),
      format('%s of %s impressions of the period that ends on %s are used.', v_quota.used, v_quota.included,
        to_char(v_quota.period_end at time zone 'Europe/Oslo', 'YYYY-MM-DD')),
      case v_threshold when 100 then 'critical' else 'warning' end,
      format('quota:%s:%s', v_threshold, to_char(v_quota.period_start at time zone 'UTC', 'YYYY-MM-DD')),
      '/usage', 'View usage'
    );
  end loop;
  return v_told;
end
$$;
comment on function app.warn_of_quota(uuid) is
  'Tells members at 80 and 100 % of the included impressions, once a period; returns how many were told.';

create or replace function app.warn_of_quotas() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization_id uuid;
  v_told integer := 0;
begin
  for v_organization_id in
    select s.organization_id from public.subscriptions s
    where s.status in ('trialing', 'active', 'past_due') and s.included_impressions > 0
  loop
    v_told := v_told + app.warn_of_quota(v_organization_id);
  end loop;
  return v_told;
end
$$;
comment on function app.warn_of_quotas() is 'app.warn_of_quota() for every running subscription.';

revoke execute on function app.quota_month(date, text, timestamptz), app.quota_state(uuid),
  app.warn_of_quota(uuid), app.warn_of_quotas() from public;
grant execute on function app.quota_month(date, text, timestamptz), app.quota_state(uuid),
  app.warn_of_quota(uuid), app.warn_of_quotas() to service_role;
