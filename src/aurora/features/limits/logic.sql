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
