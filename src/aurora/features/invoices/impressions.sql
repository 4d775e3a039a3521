-- Impressions by month, beside what is included, what it comes to, and what was billed for it.

create or replace function app.month_of_impressions(
  p_subscription public.subscriptions, p_organization_id uuid, p_from timestamptz, p_to timestamptz,
  out impressions bigint, out billable bigint, out included bigint, out overage bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
begin
  select coalesce(sum(r.impressions), 0), coalesce(sum(r.billable), 0) into impressions, billable
  from public.usage_hourly_series r
  where r.organization_id = p_organization_id and r.dimension = 'total' and r.hour >= p_from and r.hour < p_to;
  -- As app.bill_usage() cuts the month: each part against its own share, and a pause sells nothing.
  for v_part in
    select p.*, t.is_paused
    from app.usage_parts(p_subscription.id, p_from, p_to) p
      join public.subscription_terms t on t.id = p.terms_id
  loop
    continue when v_part.is_paused;
    included := coalesce(included, 0) + v_part.included;
    overage := coalesce(overage, 0) + greatest(
      0, app.count_billable(p_organization_id, v_part.period_start, v_part.period_end) - v_part.included);
    if v_part.included is null then
      included := null; overage := null;
      return;
    end if;
  end loop;
end
$$;
comment on function app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz) is
  'Impressions of a month, and how many of them are included and beyond; null where nothing limits them.';

create or replace function app.monthly_impressions(
  p_organization_id uuid, p_by text, p_before timestamptz, p_limit integer
) returns table (
  period_start timestamptz, period_end timestamptz, impressions bigint, billable bigint, included bigint, overage bigint,
  usage_amount numeric, billed_amount numeric, currency text
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription public.subscriptions;
  v_zone text;
  v_anchor date;
  v_month integer;
  v_first timestamptz;
begin
  select * into v_subscription from public.subscriptions s where s.organization_id = p_organization_id;
  v_zone := coalesce(v_subscription.time_zone, 'Europe/Oslo');
  v_anchor := case p_by when 'billing_period' then v_subscription.billing_anchor else date '2000-01-01' end;
  if v_anchor is null then
    perform app.refuse('subscription_not_found', 'The organization has no subscription.');
  end if;
  select least(min(r.hour), v_subscription.current_period_start) into v_first
  from public.usage_hourly_series r where r.organization_id = p_organization_id and r.dimension = 'total';
  v_month := app.moment_index(v_anchor, v_zone, least(app.now(), p_before - interval '1 microsecond'));
  for v_index in reverse v_month .. v_month - p_limit + 1 loop
    exit when p_by = 'billing_period' and v_index < 0;
    period_start := app.billing_moment(v_anchor, v_index, v_zone);
    period_end := app.billing_moment(v_anchor, v_index + 1, v_zone);
    exit when p_by = 'calendar_month' and period_end <= coalesce(v_first, app.now());
    select m.impressions, m.billable, m.included, m.overage into impressions, billable, included, overage
    from app.month_of_impressions(v_subscription, p_organization_id, period_start, period_end) m;
    if p_by = 'billing_period' and v_subscription.status <> 'trialing' then
      currency := v_subscription.currency;
      select coalesce(sum(b.amount), 0) into usage_amount
      from app.bill_usage(v_subscription, period_start, period_end) b;
      if v_subscription.next_billing_at > period_end then
        billed_amount := app.billed_usage(v_subscription, period_end);
      else
        billed_amount := null;
      end if;
    end if;
    return next;
  end loop;
end
$$;
comment on function app.monthly_impressions(uuid, text, timestamptz, integer) is
  'Months of impressions, latest first: billing periods with what they come to and what was billed, or the zone''s calendar months.';

revoke execute on function
  app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz),
  app.monthly_impressions(uuid, text, timestamptz, integer)
from public;
grant execute on function
  app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz),
  app.monthly_impressions(uuid, text, timestamptz, integer)
to service_role;
