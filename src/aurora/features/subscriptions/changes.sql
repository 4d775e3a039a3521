-- Changing what was bought: at once with what it gives back and asks for, or when the paid period ends.

create or replace function app.planned_terms(
  p_subscription public.subscriptions, p_plan_id text, p_billing_period text, p_overrides jsonb
) returns public.subscription_terms
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_plan public.plans;
  v_terms public.subscription_terms := app.terms_of(p_subscription, p_subscription.current_period_start);
begin
  select * into v_plan from public.plans p where p.id = p_plan_id and p.is_active;
  if not found then
    perform app.refuse('plan_not_found', format('There is no plan %L that can be bought.', left(p_plan_id, 63)));
  end if;
  if v_plan.currency <> p_subscription.currency then
    perform app.refuse('currency_fixed', format(
      'The subscription is billed in %s and the plan in %s: end the one and start another.', p_subscription.currency, v_plan.currency));
  end if;
  v_terms.plan_id := v_plan.id; v_terms.plan_version := v_plan.version; v_terms.plan_name := v_plan.name;
  v_terms.billing_period := coalesce(p_billing_period, p_subscription.billing_period);
  v_terms.price_monthly := coalesce((p_overrides ->> 'price_monthly')::numeric, v_plan.price_monthly,
    case v_terms.billing_period when 'yearly' then 0 end);
  v_terms.price_yearly := coalesce((p_overrides ->> 'price_yearly')::numeric, v_plan.price_yearly);
  if app.terms_fee(v_terms) is null then
    perform app.refuse('price_by_agreement', 'This plan''s price is by agreement: name the price.');
  end if;
  -- The columns would round what has too many digits, and nobody would be told.
  if app.terms_fee(v_terms) < 0 or app.terms_fee(v_terms) <> app.round_money(app.terms_fee(v_terms), v_terms.currency)
    or exists (
      select from unnest(array['price_monthly', 'price_yearly']) f
      where (p_overrides ->> f)::numeric <> app.round_money((p_overrides ->> f)::numeric, v_terms.currency)
    )
  then
    perform app.refuse('price_invalid', 'A price is zero or more, in the digits of its currency.');
  end if;
  v_terms.included_impressions := case when p_overrides ? 'included_impressions'
    then (p_overrides ->> 'included_impressions')::bigint else v_plan.included_impressions end;
  if p_overrides -> 'price_model' is not null and p_overrides -> 'price_model' <> 'null' then
    perform app.check_price_model(p_overrides -> 'price_model');
    v_terms.price_model := p_overrides -> 'price_model';
    v_terms.overage_rate := null; v_terms.overage_model := 'price_model';
  elsif p_overrides ? 'overage_rate' then
    v_terms.price_model := null;
    v_terms.overage_rate := (p_overrides ->> 'overage_rate')::numeric;
    v_terms.overage_model := coalesce(p_overrides ->> 'overage_model', nullif(v_plan.overage_model, 'price_model'), 'per_begun_1000');
  else
    v_terms.price_model := v_plan.price_model; v_terms.overage_rate := v_plan.overage_rate;
    v_terms.overage_model := v_plan.overage_model;
  end if;
  v_terms.quota_mode := coalesce(p_overrides ->> 'quota_mode', v_plan.quota_mode);
  v_terms.features := v_plan.features;
  return v_terms;
end
$$;
comment on function app.planned_terms(public.subscriptions, text, text, jsonb) is
  'The terms a subscription would have on a plan of the catalogue, with agreed ones in place of the plan''s.';

create or replace function app.coupon_factor(p_subscription_id uuid, p_at timestamptz) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_factor numeric := 1;
  v_percent numeric;
begin
  for v_percent in
    select r.percent from public.coupon_redemptions r join public.subscriptions s on s.id = r.subscription_id
    where r.subscription_id = p_subscription_id and r.percent is not null and app.redemption_place(r, s, p_at) is not null
  loop
    v_factor := v_factor * (1 - v_percent / 100);
  end loop;
  return v_factor;
end
$$;
comment on function app.coupon_factor(uuid, timestamptz) is 'What percent coupons leave of a fee that is charged at a billing moment.';

create or replace function app.redemption_place(
  p_redemption public.coupon_redemptions, p_subscription public.subscriptions, p_at timestamptz
) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_place integer;
begin
  if p_at < p_redemption.starts_at or p_at >= coalesce(p_redemption.ended_at, 'infinity') then
    return null;
  end if;
  v_place := app.moment_index(p_subscription.billing_anchor, p_subscription.time_zone, p_at)
    - app.moment_index(p_subscription.billing_anchor, p_subscription.time_zone, p_redemption.starts_at);
  return case when p_redemption.periods is null or v_place < p_redemption.periods then v_place end;
end
$$;
comment on function app.redemption_place(public.coupon_redemptions, public.subscriptions, timestamptz) is
  'Which of its bills (0 is the first) a redemption meets at a moment; null where it does not work.';

create or replace function app.paid_price(
  p_subscription public.subscriptions, p_terms public.subscription_terms, p_at timestamptz
) returns table (price numeric, source jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_charge public.subscription_adjustments;
  v_start timestamptz;
begin
  -- Charged by an earlier change, or by the bill of the moment at which the fee's period began.
  select * into v_charge from public.subscription_adjustments a
  where a.subscription_id = p_subscription.id and a.kind = 'charge' and a.reason <> 'late_usage'
    and a.period_start = p_terms.starts_at and a.period_end > p_at
  order by a.created_at desc, a.id desc limit 1;
  if found then
    price := v_charge.unit_price;
    source := jsonb_build_object('adjustment_id', v_charge.id, 'billed_at', v_charge.billed_at);
  else
    select greatest(f.period_start, p_terms.starts_at) into v_start from app.fee_period(p_terms, p_at) f;
    price := app.net_fee(p_subscription.organization_id, v_start);
    source := jsonb_build_object('adjustment_id', null, 'billed_at', v_start);
  end if;
  return next;
end
$$;
comment on function app.paid_price(public.subscriptions, public.subscription_terms, timestamptz) is
  'What a whole period''s fee under these terms costs after coupons, and which bill or adjustment charged it.';

create or replace function app.change_lines(
  p_subscription public.subscriptions, p_old public.subscription_terms, p_new public.subscription_terms,
  p_at timestamptz, p_reason text
) returns setof public.subscription_adjustments
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_index constant integer := app.moment_index(p_old.billing_anchor, p_old.time_zone, p_at);
  v_moment constant timestamptz := app.billing_moment(p_old.billing_anchor, v_index, p_old.time_zone);
  v_billed constant boolean := p_subscription.months_billed > v_index;
  v_line public.subscription_adjustments;
  v_period record;
  v_paid record;
begin
  v_line.organization_id := p_subscription.organization_id; v_line.subscription_id := p_subscription.id;
  v_line.created_at := app.now();
  v_line.reason := p_reason; v_line.unit := 'day'; v_line.currency := p_old.currency; v_line.period_start := p_at;
  v_line.tax_code := 'standard';
  -- Whose bill has yet to be made, gets its lines there; what was billed is corrected by documents of its own.
  v_line.billed_at := case when not v_billed then v_moment end;

  select * into strict v_period from app.fee_period(p_old, p_at);
  -- Before the bill of a month, what began at its moment was charged by nothing yet; what began later in it was.
  if app.terms_fee(p_old) > 0
    and (v_billed or (v_period.period_start < p_at and (p_old.starts_at < p_at or v_moment < p_at)))
  then
    select * into strict v_paid from app.paid_price(p_subscription, p_old, p_at);
    v_line.id := gen_random_uuid(); v_line.kind := 'credit'; v_line.description := format('%s: unused days', p_old.plan_name);
    v_line.quantity := app.local_days(p_at, v_period.period_end, p_old.time_zone);
    v_line.unit_price := v_paid.price; v_line.base_quantity := v_period.days;
    v_line.amount := app.prorate(v_paid.price, v_line.quantity::integer, v_period.days, p_old.currency);
    v_line.period_end := v_period.period_end;
    v_line.facts := jsonb_build_object(
      'plan_id', p_old.plan_id, 'plan_version', p_old.plan_version, 'list_price', app.terms_fee(p_old)::text,
      'days', v_line.quantity, 'of_days', v_period.days, 'fee_period_start', v_period.period_start,
      'source', v_paid.source);
    if v_line.amount > 0 then return next v_line; end if;
  end if;

  select * into strict v_period from app.fee_period(p_new, p_at);
  if app.terms_fee(p_new) > 0 and (v_billed or v_moment < p_at) then
    v_line.id := gen_random_uuid(); v_line.kind := 'charge'; v_line.description := p_new.plan_name;
    v_line.quantity := app.local_days(p_at, v_period.period_end, p_new.time_zone);
    v_line.unit_price := app.round_money(
      app.terms_fee(p_new) * app.coupon_factor(p_subscription.id, v_moment), p_new.currency);
    v_line.base_quantity := v_period.days;
    v_line.amount := app.prorate(v_line.unit_price, v_line.quantity::integer, v_period.days, p_new.currency);
    v_line.period_end := v_period.period_end;
    v_line.facts := jsonb_build_object(
      'plan_id', p_new.plan_id, 'plan_version', p_new.plan_version, 'list_price', app.terms_fee(p_new)::text,
      'days', v_line.quantity, 'of_days', v_period.days, 'fee_period_start', v_period.period_start);
    if v_line.amount > 0 then return next v_line; end if;
  end if;
end
$$;
comment on function app.change_lines(public.subscriptions, public.subscription_terms, public.subscription_terms, timestamptz, text) is
  'What a change at a local midnight gives back of the old fee and asks for of the new one; changes nothing.';

create or replace function app.apply_terms(
  p_subscription public.subscriptions, p_new public.subscription_terms, p_at timestamptz, p_reason text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_old public.subscription_terms := app.terms_at(p_subscription.id, p_at);
  v_new public.subscription_terms := p_new;
  v_lines public.subscription_adjustments[];
  v_period record;
  v_index integer;
begin
  if v_old.id is null or v_old.billing_anchor <> p_subscription.billing_anchor then
    perform app.refuse('change_out_of_range', 'The subscription had not begun on that day.');
  end if;
  v_index := app.moment_index(v_old.billing_anchor, v_old.time_zone, p_at);
  if v_index < p_subscription.months_billed - 1 or exists (
    select from public.subscription_terms t
    where t.subscription_id = p_subscription.id and t.starts_at > p_at and t.starts_at <= app.now()
  ) then
    perform app.refuse('change_out_of_range', 'What was billed or changed since that day would change with it: choose a later day.');
  end if;
  if p_at <> (p_at at time zone v_old.time_zone)::date::timestamp at time zone v_old.time_zone then
    perform app.refuse('change_out_of_range', 'A change begins with a day.');
  end if;
  v_new.starts_at := p_at; v_new.created_at := app.now();
  v_new.is_adjusted := p_subscription.months_billed > v_index
    and p_at = app.billing_moment(v_old.billing_anchor, v_index, v_old.time_zone);
  delete from public.subscription_terms t where t.subscription_id = p_subscription.id and t.starts_at > p_at;
  v_lines := array(select l from app.change_lines(p_subscription, v_old, v_new, p_at, p_reason) l);
  perform app.insert_terms(v_new);
  select * into strict v_period from app.fee_period(v_new, p_at);
  update public.subscriptions s set
    plan_id = v_new.plan_id, plan_version = v_new.plan_version, plan_name = v_new.plan_name,
    price_monthly = v_new.price_monthly, price_yearly = v_new.price_yearly, billing_period = v_new.billing_period,
    included_impressions = v_new.included_impressions, overage_rate = v_new.overage_rate,
    overage_model = v_new.overage_model, price_model = v_new.price_model, quota_mode = v_new.quota_mode,
    features = v_new.features,
    current_period_start = greatest(v_period.period_start, p_at), current_period_end = v_period.period_end
  where s.id = p_subscription.id;
  -- Last, for the documents made of them take their numbers, and whoever waits for the next one waits the least.
  insert into public.subscription_adjustments select (l).* from unnest(v_lines) l;
end
$$;
comment on function app.apply_terms(public.subscriptions, public.subscription_terms, timestamptz, text) is
  'Puts terms in force from a local midnight on, and records what that gives back and asks for.';

create or replace function app.lock_subscription(p_organization_id uuid, p_statuses text[])
returns public.subscriptions
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription public.subscriptions;
begin
  select * into v_subscription from public.subscriptions s where s.organization_id = p_organization_id for update;
  if not found then
    perform app.refuse('subscription_not_found', 'The organization has no subscription.');
  end if;
  if v_subscription.status <> all (p_statuses) then
    perform app.refuse('subscription_state', format('That cannot be done with a subscription that is %s.', v_subscription.status));
  end if;
  return v_subscription;
end
$$;
comment on function app.lock_subscription(uuid, text[]) is
  'An organization''s subscription, locked; refused unless it has one of the statuses.';

create or replace function app.change_plan(
  p_organization_id uuid, p_plan_id text, p_billing_period text default null, p_overrides jsonb default '{}',
  p_when text default 'auto', p_on date default null, p_preview boolean default false
) returns timestamptz
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions := app.lock_subscription(p_organization_id, '{trialing,active,past_due}');
  v_new public.subscription_terms;
  v_old public.subscription_terms;
  v_at timestamptz;
  v_dearer boolean;
begin
  if v_sub.cancel_at_period_end then
    perform app.refuse('subscription_ending', 'The subscription is cancelled at the end of its period: reactivate it first.');
  end if;
  v_new := app.planned_terms(v_sub, p_plan_id, p_billing_period, p_overrides);
  v_at := coalesce(p_on, (app.now() at time zone v_sub.time_zone)::date)::timestamp at time zone v_sub.time_zone;
  v_old := app.terms_at(v_sub.id, v_at);
  if v_old.id is not null and app.same_terms(to_jsonb(v_old), to_jsonb(v_new)) then
    perform app.refuse('change_empty', 'The subscription has these terms already.');
  end if;
  if v_sub.status = 'trialing' then
    -- Nothing is paid for yet: the trial goes on under other terms.
    update public.subscriptions s set
      plan_id = v_new.plan_id, plan_version = v_new.plan_version, plan_name = v_new.plan_name,
      price_monthly = v_new.price_monthly, price_yearly = v_new.price_yearly, billing_period = v_new.billing_period,
      included_impressions = v_new.included_impressions, overage_rate = v_new.overage_rate,
      overage_model = v_new.overage_model, price_model = v_new.price_model, quota_mode = v_new.quota_mode,
      features = v_new.features
    where s.id = v_sub.id;
    return app.now();
  end if;
  v_dearer := app.terms_fee(v_new) / app.terms_months(v_new)
    > app.terms_fee(app.terms_of(v_sub, v_at)) / case v_sub.billing_period when 'yearly' then 12 else 1 end;
  if p_when = 'period_end' or (p_when = 'auto' and not v_dearer) then
    v_at := v_sub.current_period_end;
  end if;
  if v_at > app.now() and v_at = v_sub.current_period_end then
    v_new.starts_at := v_at; v_new.created_at := app.now();
    delete from public.subscription_terms t where t.subscription_id = v_sub.id and t.starts_at > app.now();
    perform app.insert_terms(v_new);
  elsif v_at > app.now() and not p_preview then
    perform app.refuse('change_in_future', 'A change is made today, for a day not yet billed, or for the end of the paid period.');
  else
    perform app.apply_terms(v_sub, v_new, v_at, 'change');
  end if;
  return v_at;
end
$$;
comment on function app.change_plan(uuid, text, text, jsonb, text, date, boolean) is
  'Moves a subscription to a plan''s present terms: at once if it is dearer, else when its period ends. Returns from when.';

create or replace function app.withdraw_change(p_organization_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions := app.lock_subscription(p_organization_id, '{trialing,active,past_due,paused,unpaid}');
begin
  delete from public.subscription_terms t where t.subscription_id = v_sub.id and t.starts_at > app.now()
    and t.starts_at > v_sub.current_period_start;
  if not found then
    perform app.refuse('no_change_scheduled', 'No change is scheduled.');
  end if;
end
$$;
comment on function app.withdraw_change(uuid) is 'Takes back a change that was meant for the end of the period.';

create or replace function app.pause_subscription(p_organization_id uuid, p_on date default null) returns timestamptz
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions := app.lock_subscription(p_organization_id, '{active,past_due}');
  v_terms public.subscription_terms;
  v_at timestamptz;
begin
  v_at := coalesce(p_on, (app.now() at time zone v_sub.time_zone)::date)::timestamp at time zone v_sub.time_zone;
  if v_at > app.now() then
    perform app.refuse('change_in_future', 'A pause begins today or on a day not yet billed.');
  end if;
  v_terms := app.terms_of(v_sub, v_at);
  v_terms.is_paused := true;
  update public.subscriptions s set status = 'paused' where s.id = v_sub.id;
  update public.organizations o set status = 'suspended' where o.id = p_organization_id and o.status = 'active';
  perform app.apply_terms(v_sub, v_terms, v_at, 'pause');
  return v_at;
end
$$;
comment on function app.pause_subscription(uuid, date) is
  'Sells nothing from a day on: its unused days are given back, and the organization''s keys rest.';

create or replace function app.resume_subscription(p_organization_id uuid, p_on date default null) returns timestamptz
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions := app.lock_subscription(p_organization_id, '{paused}');
  v_terms public.subscription_terms;
  v_at timestamptz;
begin
  v_at := coalesce(p_on, (app.now() at time zone v_sub.time_zone)::date)::timestamp at time zone v_sub.time_zone;
  if v_at > app.now() then
    perform app.refuse('change_in_future', 'A subscription resumes today or on a day not yet billed.');
  end if;
  v_terms := app.terms_of(v_sub, v_at);
  v_terms.is_paused := false;
  update public.subscriptions s set status = 'active' where s.id = v_sub.id;
  update public.organizations o set status = 'active' where o.id = p_organization_id and o.status = 'suspended';
  perform app.apply_terms(v_sub, v_terms, v_at, 'resume');
  return v_at;
end
$$;
comment on function app.resume_subscription(uuid, date) is
  'Sells again from a day on: the rest of the running period is charged by day, and the anchor is kept.';
