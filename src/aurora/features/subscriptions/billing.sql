-- Where a subscription's billing stands: moving past a moment, ending trials, redeeming coupons.

create or replace function app.closing_moment(p_subscription public.subscriptions, p_months integer) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- A day more than the 35 that an event may be late, counted from the moment that ended the last month.
  return ((app.billing_moment(p_subscription.billing_anchor, p_months, p_subscription.time_zone)
    at time zone p_subscription.time_zone)::date + 36)::timestamp at time zone p_subscription.time_zone;
end
$$;
comment on function app.closing_moment(public.subscriptions, integer) is
  'When nothing of an ended subscription''s last month (which ended at anchor + so many months) can come any more.';

create or replace function app.is_closing(p_subscription public.subscriptions) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return p_subscription.status = 'cancelled' and p_subscription.next_billing_at
    <> app.billing_moment(p_subscription.billing_anchor, p_subscription.months_billed, p_subscription.time_zone);
end
$$;
comment on function app.is_closing(public.subscriptions) is
  'Whether all that is left to bill of an ended subscription is what came late.';

create or replace function app.advance_subscription(p_subscription public.subscriptions, p_lines jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_at constant timestamptz := p_subscription.next_billing_at;
  v_next constant integer := p_subscription.months_billed + 1;
  v_ends constant boolean := p_subscription.cancel_at_period_end and v_at >= p_subscription.current_period_end;
  -- The bill of its last month: that of the moment it ends at, or the first after somebody ended it.
  v_last constant boolean := v_ends or (p_subscription.status = 'cancelled' and v_at >= p_subscription.cancelled_at);
  v_terms public.subscription_terms;
  v_period record;
begin
  -- Most bills have neither.
  if p_lines @> '[{"kind": "discount"}]' then
    perform app.record_coupon_uses(p_subscription, v_at, p_lines);
  end if;
  if p_lines @> '[{"kind": "credit"}]' or p_lines @> '[{"kind": "charge"}]' then
    update public.subscription_adjustments a set billed_at = v_at
    where a.id in (
      select (l #>> '{facts,adjustment_id}')::uuid from jsonb_array_elements(p_lines) l where l ->> 'kind' in ('credit', 'charge')
    ) and a.billed_at is null;
  end if;
  if app.is_closing(p_subscription) then
    update public.subscriptions s set closed_at = app.now() where s.id = p_subscription.id;
    return;
  end if;
  v_terms := app.terms_at(p_subscription.id, greatest(v_at, app.now()));
  select * into strict v_period from app.fee_period(v_terms, v_at);
  if not v_last and (
    p_subscription.plan_id, p_subscription.plan_version, p_subscription.plan_name, p_subscription.price_monthly,
    p_subscription.price_yearly, p_subscription.billing_period, p_subscription.included_impressions,
    p_subscription.overage_rate, p_subscription.overage_model, p_subscription.price_model, p_subscription.quota_mode,
    p_subscription.features
  ) is not distinct from (
    v_terms.plan_id, v_terms.plan_version, v_terms.plan_name, v_terms.price_monthly,
    v_terms.price_yearly, v_terms.billing_period, v_terms.included_impressions,
    v_terms.overage_rate, v_terms.overage_model, v_terms.price_model, v_terms.quota_mode,
    v_terms.features
  ) then
    -- Nearly every bill: the terms go on. Triggers that look at terms are not even asked.
    update public.subscriptions s set
      months_billed = v_next, next_billing_at = app.billing_moment(p_subscription.billing_anchor, v_next, p_subscription.time_zone),
      current_period_start = v_period.period_start, current_period_end = v_period.period_end
    where s.id = p_subscription.id;
    return;
  end if;
  update public.subscriptions s set
    months_billed = v_next,
    next_billing_at = case when v_last then app.closing_moment(p_subscription, p_subscription.months_billed)
      else app.billing_moment(s.billing_anchor, v_next, s.time_zone) end,
    current_period_start = case when v_last then s.current_period_start else v_period.period_start end,
    current_period_end = case when v_last then s.current_period_end else v_period.period_end end,
    plan_id = v_terms.plan_id, plan_version = v_terms.plan_version, plan_name = v_terms.plan_name,
    price_monthly = v_terms.price_monthly, price_yearly = v_terms.price_yearly,
    billing_period = v_terms.billing_period, included_impressions = v_terms.included_impressions,
    overage_rate = v_terms.overage_rate, overage_model = v_terms.overage_model, price_model = v_terms.price_model,
    quota_mode = v_terms.quota_mode, features = v_terms.features,
    status = case when v_ends then 'cancelled' else s.status end,
    cancelled_at = case when v_ends then app.now() else s.cancelled_at end
  where s.id = p_subscription.id;
end
$$;
comment on function app.advance_subscription(public.subscriptions, jsonb) is
  'Moves a subscription past the billing moment whose bill has these lines: scheduled terms begin, a cancelled one ends, an ended one is closed.';

create or replace function app.record_coupon_uses(
  p_subscription public.subscriptions, p_at timestamptz, p_lines jsonb
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.coupon_uses (organization_id, subscription_id, redemption_id, billed_at, amount)
  select p_subscription.organization_id, p_subscription.id, (l #>> '{facts,redemption_id}')::uuid, p_at,
    sum(-(l ->> 'amount')::numeric)
  from jsonb_array_elements(p_lines) l
  where l ->> 'kind' = 'discount' group by 3
  on conflict do nothing;
end
$$;
comment on function app.record_coupon_uses(public.subscriptions, timestamptz, jsonb) is
  'Remembers what the coupons took off the bill of a moment.';

create or replace function app.trial_end(p_subscription public.subscriptions) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A trial lasts to the end of its last day, and what follows begins with a day.
  select case when d::timestamp at time zone p_subscription.time_zone = p_subscription.trial_ends_at
    then p_subscription.trial_ends_at else (d + 1)::timestamp at time zone p_subscription.time_zone end
  from (select (p_subscription.trial_ends_at at time zone p_subscription.time_zone)::date as d) day
$$;
comment on function app.trial_end(public.subscriptions) is 'The local midnight at which a trial is over.';

create or replace function app.end_trials(p_until timestamptz default null, p_limit integer default 1000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_anchor date;
  v_ended integer := 0;
begin
  for v_sub in
    select s.* from public.subscriptions s
    where s.status = 'trialing' and s.trial_ends_at <= coalesce(p_until, app.now())
    order by s.trial_ends_at, s.id limit p_limit for update skip locked
  loop
    continue when app.trial_end(v_sub) > coalesce(p_until, app.now());
    v_ended := v_ended + 1;
    v_anchor := (app.trial_end(v_sub) at time zone v_sub.time_zone)::date;
    if v_sub.cancel_at_period_end then
      update public.subscriptions s set status = 'cancelled', cancelled_at = app.now() where s.id = v_sub.id;
      continue;
    end if;
    update public.subscriptions s set
      status = case s.trial_end_action when 'convert' then 'active' else 'paused' end,
      billing_anchor = v_anchor, months_billed = 0, next_billing_at = app.trial_end(v_sub),
      current_period_start = app.trial_end(v_sub),
      current_period_end = app.billing_moment(
        v_anchor, case s.billing_period when 'yearly' then 12 else 1 end, s.time_zone)
    where s.id = v_sub.id;
    update public.organizations o
    set status = case v_sub.trial_end_action when 'convert' then 'active' else 'suspended' end
    where o.id = v_sub.organization_id and o.status = 'trial';
  end loop;
  return v_ended;
end
$$;
comment on function app.end_trials(timestamptz, integer) is
  'Turns trials that are over into paid subscriptions, or suspends them, as each was agreed; returns how many.';

create or replace function app.redeem_coupon(p_organization_id uuid, p_code text) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions := app.lock_subscription(p_organization_id, '{trialing,active,past_due,paused}');
  v_coupon public.coupons;
  v_id uuid;
begin
  select * into v_coupon from public.coupons c where c.id = p_code and c.is_active for update;
  if not found then
    perform app.refuse('coupon_not_found', 'There is no such coupon.');
  end if;
  if v_coupon.redeem_until <= app.now() or v_coupon.redemptions >= v_coupon.max_redemptions then
    perform app.refuse('coupon_exhausted', 'The coupon cannot be redeemed any more.');
  end if;
  if v_coupon.currency <> v_sub.currency then
    perform app.refuse('coupon_currency', format('The coupon is in %s and the subscription in %s.', v_coupon.currency, v_sub.currency));
  end if;
  insert into public.coupon_redemptions (
    organization_id, subscription_id, coupon_code, percent, amount, currency, periods, starts_at
  ) values (
    p_organization_id, v_sub.id, v_coupon.id, v_coupon.percent, v_coupon.amount, v_coupon.currency, v_coupon.periods,
    case v_sub.status when 'trialing' then app.trial_end(v_sub) else v_sub.next_billing_at end
  ) returning id into v_id;
  update public.coupons c set redemptions = c.redemptions + 1 where c.id = p_code;
  return v_id;
end
$$;
comment on function app.redeem_coupon(uuid, text) is
  'Redeems a coupon for an organization''s subscription from its next bill on, each code once.';
