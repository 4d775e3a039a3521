-- Subscriptions: what an organization bought, frozen, and where its billing stands.

create table subscriptions (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,

  plan_id text not null references plans (id) on delete restrict,
  plan_version integer not null,
  plan_name text not null,

  price_monthly numeric(14, 2) not null,
  price_yearly numeric(14, 2),
  currency text not null default 'NOK',

  billing_period text not null default 'monthly',
  current_period_start timestamptz not null,
  current_period_end timestamptz not null,

  -- Periods are anchor + n months, never the last end + 1 month: 31 Jan, 28 Feb, 31 Mar.
  billing_anchor date not null,
  time_zone text not null default 'Europe/Oslo',
  months_billed integer not null default 0,
  next_billing_at timestamptz not null,

  status text not null default 'active',
  trial_ends_at timestamptz,
  trial_end_action text not null default 'convert',
  cancel_at_period_end boolean not null default false,
  cancelled_at timestamptz,
  closed_at timestamptz,

  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null default 'per_begun_1000',
  price_model jsonb,
  quota_mode text not null default 'soft',
  features jsonb not null default '{}',

  stripe_subscription_id text unique,
  stripe_customer_id text,
  metadata jsonb not null default '{}',

  constraint subscriptions_organization_id_key unique (organization_id),
  constraint subscriptions_organization_id_id_key unique (organization_id, id),
  constraint subscriptions_plan_version_fkey foreign key (plan_id, plan_version)
    references plan_versions (plan_id, version) on delete restrict,
  constraint subscriptions_price_monthly_check
    check (price_monthly >= 0 and price_monthly = app.round_money(price_monthly, currency)),
  constraint subscriptions_price_yearly_check check (
    price_yearly >= 0 and price_yearly = app.round_money(price_yearly, currency)
    and (billing_period <> 'yearly' or price_yearly is not null)
  ),
  constraint subscriptions_currency_check check (coalesce(app.currency_digits(currency), 9) <= 2),
  constraint subscriptions_billing_period_check check (billing_period in ('monthly', 'yearly')),
  constraint subscriptions_current_period_check check (current_period_end > current_period_start),
  constraint subscriptions_months_billed_check check (months_billed >= 0),
  constraint subscriptions_status_check
    check (status in ('trialing', 'active', 'past_due', 'paused', 'cancelled', 'unpaid')),
  constraint subscriptions_trial_end_action_check check (trial_end_action in ('convert', 'suspend')),
  constraint subscriptions_included_impressions_check check (included_impressions >= 0),
  constraint subscriptions_overage_rate_check check (overage_rate >= 0),
  constraint subscriptions_overage_model_check check (overage_model in ('per_begun_1000', 'pro_rata', 'price_model')),
  constraint subscriptions_price_model_check check (
    (overage_model = 'price_model') = (price_model is not null) and (price_model is null or overage_rate is null)
  ),
  constraint subscriptions_quota_mode_check check (quota_mode in ('soft', 'hard')),
  constraint subscriptions_features_check check (jsonb_typeof(features) = 'object'),
  constraint subscriptions_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index subscriptions_next_billing_at_idx on subscriptions (next_billing_at, id)
  where status in ('active', 'past_due', 'paused') or (status = 'cancelled' and closed_at is null);
create index subscriptions_trial_ends_at_idx on subscriptions (trial_ends_at) where status = 'trialing';
create index subscriptions_plan_id_idx on subscriptions (plan_id, plan_version);
create index subscriptions_stripe_customer_id_idx on subscriptions (stripe_customer_id);
alter table subscriptions enable row level security;
comment on table subscriptions is 'What an organization bought: terms copied from the plan, and how far it is billed.';
comment on column subscriptions.months_billed is 'n of the next billing moment: anchor + n months, local midnight.';
comment on column subscriptions.next_billing_at is 'The billing moment that comes next: fee in advance, usage in arrears.';
comment on column subscriptions.closed_at is
  'When all of an ended subscription was billed: its last month, and what may come of it 35 days late. Null until then.';
comment on column subscriptions.trial_end_action is 'What a trial becomes: convert, a paid subscription; suspend, a paused one.';

create table subscription_terms (
  id bigint generated always as identity primary key,
  organization_id uuid not null,
  subscription_id uuid not null,
  starts_at timestamptz not null,
  created_at timestamptz not null default app.now(),

  billing_anchor date not null,
  time_zone text not null,
  is_paused boolean not null default false,
  is_adjusted boolean not null default false,
  plan_id text not null,
  plan_version integer not null,
  plan_name text not null,
  price_monthly numeric(14, 2) not null,
  price_yearly numeric(14, 2),
  currency text not null,
  billing_period text not null,
  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null,
  price_model jsonb,
  quota_mode text not null,
  features jsonb not null default '{}',

  constraint subscription_terms_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint subscription_terms_plan_version_fkey foreign key (plan_id, plan_version)
    references plan_versions (plan_id, version) on delete restrict
);
create index subscription_terms_subscription_idx on subscription_terms (organization_id, subscription_id);
create index subscription_terms_starts_at_idx on subscription_terms (subscription_id, starts_at, id);
create index subscription_terms_plan_version_idx on subscription_terms (plan_id, plan_version);
alter table subscription_terms enable row level security;
comment on table subscription_terms is
  'The terms of a subscription from each moment on, until the next row''s (the later of two that start together): no moment has two, none has none. A row in the future is a scheduled change.';
comment on column subscription_terms.is_adjusted is
  'The moment it starts at was billed on the terms before it; subscription_adjustments hold the difference.';
comment on column subscription_terms.is_paused is 'Nothing is sold from here on: no fee, no usage, until the next row.';

create table subscription_adjustments (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  organization_id uuid not null,
  subscription_id uuid not null,
  kind text not null,
  reason text not null,
  description text not null,
  quantity numeric not null,
  unit text not null default 'day',
  unit_price numeric(14, 2) not null,
  base_quantity numeric not null default 1,
  amount numeric(14, 2) not null,
  currency text not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  tax_code text not null default 'standard',
  facts jsonb not null default '{}',
  billed_at timestamptz,
  settled_at timestamptz,
  constraint subscription_adjustments_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint subscription_adjustments_kind_check check (kind in ('credit', 'charge')),
  constraint subscription_adjustments_reason_check check (reason in ('change', 'pause', 'resume', 'late_usage')),
  constraint subscription_adjustments_amount_check
    check (amount >= 0 and quantity > 0 and unit_price >= 0 and base_quantity > 0),
  constraint subscription_adjustments_period_check check (period_end > period_start),
  constraint subscription_adjustments_settled_check check (billed_at is null or settled_at is null),
  constraint subscription_adjustments_facts_check check (jsonb_typeof(facts) = 'object')
);
create index subscription_adjustments_subscription_idx
  on subscription_adjustments (organization_id, subscription_id, billed_at);
create index subscription_adjustments_open_idx on subscription_adjustments (subscription_id)
  where billed_at is null and settled_at is null;
alter table subscription_adjustments enable row level security;
comment on table subscription_adjustments is
  'What a change within a paid period gives back (credit) and asks for (charge); amounts are positive.';
comment on column subscription_adjustments.billed_at is
  'The moment whose bill or invoice holds it; null: the next bill, unless a document of its own comes first.';
comment on column subscription_adjustments.settled_at is 'When it became a credit note; it comes with no bill any more.';

create table coupon_redemptions (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  organization_id uuid not null,
  subscription_id uuid not null,
  coupon_code text not null references coupons (id) on delete restrict,
  percent numeric(6, 3),
  amount numeric(14, 2),
  currency text,
  periods integer,
  starts_at timestamptz not null,
  ended_at timestamptz,
  constraint coupon_redemptions_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint coupon_redemptions_once_key unique (subscription_id, coupon_code),
  constraint coupon_redemptions_ended_check check (ended_at >= starts_at)
);
create index coupon_redemptions_subscription_idx on coupon_redemptions (organization_id, subscription_id);
create index coupon_redemptions_coupon_code_idx on coupon_redemptions (coupon_code);
alter table coupon_redemptions enable row level security;
comment on table coupon_redemptions is 'A coupon as a subscription redeemed it: its terms, and the billing moment from which it works.';

create table coupon_uses (
  organization_id uuid not null,
  subscription_id uuid not null,
  redemption_id uuid not null references coupon_redemptions (id) on delete restrict,
  billed_at timestamptz not null,
  amount numeric(14, 2) not null,
  constraint coupon_uses_pkey primary key (redemption_id, billed_at),
  constraint coupon_uses_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint coupon_uses_amount_check check (amount > 0)
);
create index coupon_uses_subscription_idx on coupon_uses (organization_id, subscription_id);
alter table coupon_uses enable row level security;
comment on table coupon_uses is
  'How much of a redemption each bill used; the rest is computed from it, so a past bill can be computed again.';

-- Billing periods, what a new subscription says of itself, and which state may follow which.

create or replace function app.billing_moment(p_anchor date, p_months integer, p_time_zone text)
returns timestamptz
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- date + interval clamps at the month's end, from the anchor each time, so no drift:
  -- 31 Jan + 1 month = 28 Feb, 31 Jan + 2 months = 31 Mar.
  return (p_anchor + make_interval(months => p_months)) at time zone p_time_zone;
end
$$;
comment on function app.billing_moment(date, integer, text) is
  'Local midnight of anchor + n months: where one half-open billing period ends and the next begins.';

create or replace function app.fill_subscription_billing() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.plan_version is null then
    select p.version into new.plan_version from public.plans p where p.id = new.plan_id;
    -- Of an unknown plan the foreign key speaks, which fires after this.
    new.plan_version := coalesce(new.plan_version, 0);
  end if;
  new.billing_anchor := coalesce(
    new.billing_anchor, (new.current_period_start at time zone new.time_zone)::date
  );
  new.next_billing_at := coalesce(
    new.next_billing_at, app.billing_moment(new.billing_anchor, new.months_billed, new.time_zone)
  );
  if new.status = 'trialing' then
    new.trial_ends_at := coalesce(new.trial_ends_at, new.current_period_end);
  end if;
  if new.status = 'cancelled' then
    new.closed_at := coalesce(new.closed_at, app.now());
  end if;
  return new;
end
$$;
comment on function app.fill_subscription_billing() is
  'Trigger: a subscription inserted with the seed''s columns alone gets its anchor, first billing moment, and the plan''s version.';

create or replace function app.subscription_transitions()
returns table (from_status text, to_status text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  values
    ('trialing', 'active'), ('trialing', 'paused'), ('trialing', 'cancelled'),
    ('active', 'past_due'), ('active', 'paused'), ('active', 'cancelled'), ('active', 'unpaid'),
    ('past_due', 'active'), ('past_due', 'paused'), ('past_due', 'cancelled'), ('past_due', 'unpaid'),
    ('unpaid', 'active'), ('unpaid', 'past_due'), ('unpaid', 'cancelled'),
    ('paused', 'active'), ('paused', 'cancelled')
$$;
comment on function app.subscription_transitions() is
  'Which status of a subscription may follow which; what was cancelled only begins anew.';

create or replace function app.guard_subscription() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What ended or was only tried begins anew with an anchor of its own and nothing billed.
  v_anew constant boolean := old.status in ('cancelled', 'trialing') and new.months_billed = 0
    and new.current_period_start >= old.current_period_start
    and (old.months_billed = 0 or new.billing_anchor > old.billing_anchor);
begin
  if new.status <> old.status and not v_anew and not exists (
    select from app.subscription_transitions() t where t.from_status = old.status and t.to_status = new.status
  ) then
    perform app.refuse(
      'subscription_transition_invalid', format('A subscription that is %s cannot become %s.', old.status, new.status)
    );
  end if;
  if (new.months_billed < old.months_billed or new.organization_id <> old.organization_id
      or (new.currency <> old.currency and app.currency_digits(new.currency) is not null))
    and not v_anew
  then
    perform app.refuse(
      'subscription_billed', 'What was billed stays billed: a running subscription keeps its organization, currency, and count.'
    );
  end if;
  -- Whoever ends it: its last month is billed, and once more what came late. Where nothing was sold, nothing is.
  if new.status <> 'cancelled' then
    new.closed_at := null;
  elsif old.status <> 'cancelled' then
    new.cancelled_at := coalesce(new.cancelled_at, app.now());
    new.closed_at := case when new.months_billed = 0 then coalesce(new.closed_at, app.now()) else new.closed_at end;
  end if;
  return new;
end
$$;
comment on function app.guard_subscription() is
  'Trigger: a status follows only where app.subscription_transitions() says so, and nothing is billed anew.';

create or replace trigger subscriptions_guard before update on subscriptions
  for each row execute function app.guard_subscription();
create or replace trigger subscriptions_fill_billing before insert on subscriptions
  for each row execute function app.fill_subscription_billing();
create or replace trigger subscriptions_touch_updated_at before update on subscriptions
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.subscriptions', 'subscription',
  '{organization_id,plan_id,plan_version,plan_name,price_monthly,price_yearly,currency,billing_period,current_period_start,current_period_end,billing_anchor,time_zone,months_billed,next_billing_at,status,trial_ends_at,trial_end_action,cancel_at_period_end,cancelled_at,closed_at,included_impressions,overage_rate,overage_model,price_model,quota_mode,features,stripe_subscription_id,stripe_customer_id}',
  p_ignored => '{created_at}',
  p_verbs => '{insert:started,status=cancelled:cancelled,status:status_changed,cancel_at_period_end=true:cancellation_scheduled,cancel_at_period_end=false:cancellation_withdrawn,plan_id:plan_changed,months_billed:billed}'
);

-- SECURITY DEFINER: the plan must be found also where it is no longer sold.
create or replace function app.limit_new_key() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The platform chooses limits itself; the trigger's condition asks who it is, because in here
  -- current_user is the definer.
  select p.rate_limit_tier, p.rate_limit_per_hour into new.rate_limit_tier, new.rate_limit_per_hour
  from public.subscriptions s join public.plans p on p.id = s.plan_id
  where s.organization_id = new.organization_id and s.status in ('trialing', 'active', 'past_due');
  if not found then
    select p.rate_limit_tier, p.rate_limit_per_hour into strict new.rate_limit_tier, new.rate_limit_per_hour
    from public.plans p where p.id = 'demo';
  end if;
  return new;
end
$$;
comment on function app.limit_new_key() is
  'Trigger: a key that a person makes gets the limits of the organization''s plan, or the demo plan''s.';
create or replace trigger api_keys_limit before insert on api_keys
  for each row when (current_user = 'authenticated') execute function app.limit_new_key();

create or replace function app.keep_billed_organization() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.subscriptions s
    where s.organization_id = new.id and s.status in ('active', 'past_due')
  ) then
    perform app.refuse(
      'subscription_running', 'The organization''s subscription runs and would go on being billed: cancel it first.'
    );
  end if;
  return new;
end
$$;
comment on function app.keep_billed_organization() is
  'Trigger: an organization whose subscription runs is not deleted.';

create or replace function app.keep_plan_in_use() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from public.subscriptions s where s.plan_id = old.id)
    or exists (select from public.subscription_terms t where t.plan_id = old.id)
  then
    perform app.refuse('plan_in_use', format('The plan %L was bought: it can be retired, not deleted.', old.id));
  end if;
  return old;
end
$$;
comment on function app.keep_plan_in_use() is 'Trigger: a plan that somebody bought is not deleted.';
create or replace trigger plans_keep_in_use before delete on plans
  for each row execute function app.keep_plan_in_use();

create or replace trigger organizations_keep_while_billed before update of deleted_at on organizations
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function app.keep_billed_organization();

revoke execute on function app.keep_billed_organization(), app.keep_plan_in_use() from public;
revoke execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing(),
  app.limit_new_key(), app.subscription_transitions(), app.guard_subscription() from public;
grant execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing(),
  app.subscription_transitions()
  to service_role;

revoke all on subscriptions from public, anon, authenticated, service_role, tenant;
grant select, insert, update on subscriptions to service_role;
grant select on subscriptions to authenticated, tenant;

drop policy if exists "The platform acts on every subscription" on subscriptions;
create policy "The platform acts on every subscription" on subscriptions
  to service_role using (true) with check (true);
drop policy if exists "Members see their organization's subscription" on subscriptions;
create policy "Members see their organization's subscription" on subscriptions
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('viewer'))) or (select app.is_operator()));
drop policy if exists "An organization sees its subscription" on subscriptions;
create policy "An organization sees its subscription" on subscriptions
  for select to tenant using (organization_id = any (app.visible_organizations()));

-- Terms from each moment on, the periods they are paid for, and what a change of them gives back and asks for.

create or replace function app.terms_of(p_subscription public.subscriptions, p_starts_at timestamptz)
returns public.subscription_terms
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
begin
  -- By name: both tables call the same thing the same.
  v_terms := jsonb_populate_record(
    null::public.subscription_terms, to_jsonb(p_subscription) - '{id,created_at}'::text[]
  );
  v_terms.subscription_id := p_subscription.id;
  v_terms.starts_at := p_starts_at;
  v_terms.created_at := app.now();
  v_terms.is_paused := p_subscription.status = 'paused';
  v_terms.is_adjusted := false;
  return v_terms;
end
$$;
comment on function app.terms_of(public.subscriptions, timestamptz) is 'A subscription''s terms as a row of subscription_terms.';

create or replace function app.terms_at(p_subscription_id uuid, p_at timestamptz)
returns public.subscription_terms
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
begin
  select t.* into v_terms from public.subscription_terms t
  where t.subscription_id = p_subscription_id and t.starts_at <= p_at
  order by t.starts_at desc, t.id desc limit 1;
  return v_terms;
end
$$;
comment on function app.terms_at(uuid, timestamptz) is 'The terms in force at a moment; null before the first.';

create or replace function app.insert_terms(p_terms public.subscription_terms) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into public.subscription_terms (
    organization_id, subscription_id, starts_at, created_at, billing_anchor, time_zone, is_paused, is_adjusted, plan_id,
    plan_version, plan_name, price_monthly, price_yearly, currency, billing_period, included_impressions,
    overage_rate, overage_model, price_model, quota_mode, features
  ) values (
    p_terms.organization_id, p_terms.subscription_id, p_terms.starts_at, p_terms.created_at, p_terms.billing_anchor,
    p_terms.time_zone, p_terms.is_paused, p_terms.is_adjusted, p_terms.plan_id, p_terms.plan_version,
    p_terms.plan_name, p_terms.price_monthly, p_terms.price_yearly, p_terms.currency, p_terms.billing_period,
    p_terms.included_impressions, p_terms.overage_rate, p_terms.overage_model, p_terms.price_model,
    p_terms.quota_mode, p_terms.features
  )
$$;
comment on function app.insert_terms(public.subscription_terms) is 'Adds terms to a subscription from their moment on.';

create or replace function app.same_terms(p_one jsonb, p_other jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select from unnest(
      '{plan_id,plan_version,plan_name,price_monthly,price_yearly,currency,billing_period,included_impressions,overage_rate,overage_model,price_model,quota_mode,features,billing_anchor,time_zone}'::text[]
    ) f where p_one -> f is distinct from p_other -> f
  )
$$;
comment on function app.same_terms(jsonb, jsonb) is 'Whether two rows (subscriptions or subscription_terms) say the same terms.';

create or replace function app.insert_end(p_old public.subscriptions, p_begins timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_made constant boolean := app.is_closing(p_old) or p_old.closed_at is not null;
  v_end public.subscription_terms;
begin
  -- What was never billed (a trial) sold nothing that had to end.
  if p_old.months_billed = 0 then
    return;
  end if;
  -- At its last bill, which asked for no fee; or, where that bill was not made, when the month of it is over.
  v_end := app.terms_of(p_old, least(p_begins, case when v_made
    then app.billing_moment(p_old.billing_anchor, p_old.months_billed - 1, p_old.time_zone) else p_old.next_billing_at end));
  v_end.is_paused := true;
  v_end.is_adjusted := not v_made;
  perform app.insert_terms(v_end);
end
$$;
comment on function app.insert_end(public.subscriptions, timestamptz) is
  'Keeps of an ended subscription that begins anew when nothing was sold any more, and (is_adjusted) that its last month is unbilled.';

create or replace function app.unbilled_month(p_subscription_id uuid, p_at timestamptz)
returns table (period_start timestamptz, period_end timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_end public.subscription_terms;
  v_index integer;
begin
  select t.* into v_end from public.subscription_terms t
  where t.subscription_id = p_subscription_id and t.starts_at <= p_at and t.billing_anchor <> (
    select a.billing_anchor from public.subscription_terms a
    where a.subscription_id = p_subscription_id and a.starts_at <= p_at order by a.starts_at desc, a.id desc limit 1
  )
  order by t.starts_at desc, t.id desc limit 1;
  if v_end.is_paused and v_end.is_adjusted then
    v_index := app.moment_index(v_end.billing_anchor, v_end.time_zone, v_end.starts_at - interval '1 microsecond');
    period_start := app.billing_moment(v_end.billing_anchor, v_index, v_end.time_zone);
    period_end := v_end.starts_at;
    return next;
  end if;
end
$$;
comment on function app.unbilled_month(uuid, timestamptz) is
  'The month that a subscription, begun anew at a moment, left unbilled when it ended; no row where there is none.';

create or replace function app.keep_terms() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
  -- The anchor's midnight, also where somebody wrote a later hour of that day.
  v_begins constant timestamptz :=
    least(new.current_period_start, app.billing_moment(new.billing_anchor, 0, new.time_zone));
begin
  if tg_op = 'INSERT' then
    perform app.insert_terms(app.terms_of(new, v_begins));
    return null;
  end if;
  v_terms := app.terms_at(new.id, greatest(app.now(), new.current_period_start));
  if v_terms.id is not null and app.same_terms(to_jsonb(v_terms), to_jsonb(new)) then
    return null;
  end if;
  if v_terms.id is null or v_terms.billing_anchor <> new.billing_anchor then
    -- It begins anew; what had been meant for later is gone with the old one.
    delete from public.subscription_terms t where t.subscription_id = new.id and t.starts_at >= v_begins;
    perform app.insert_end(old, v_begins);
    perform app.insert_terms(app.terms_of(new, v_begins));
  else
    -- Somebody corrects the row by hand: the terms that run say the same from their beginning.
    update public.subscription_terms t set
      plan_id = new.plan_id, plan_version = new.plan_version, plan_name = new.plan_name,
      price_monthly = new.price_monthly, price_yearly = new.price_yearly, currency = new.currency,
      billing_period = new.billing_period, included_impressions = new.included_impressions,
      overage_rate = new.overage_rate, overage_model = new.overage_model, price_model = new.price_model,
      quota_mode = new.quota_mode, features = new.features, time_zone = new.time_zone
    where t.id = v_terms.id;
  end if;
  return null;
end
$$;
comment on function app.keep_terms() is
  'Trigger: subscription_terms follow the subscription, whoever writes it: a new one, one begun anew, a correction.';
create or replace trigger subscriptions_keep_first_terms after insert on subscriptions
  for each row execute function app.keep_terms();
-- Every bill updates the row, and hardly ever one of these.
create or replace trigger subscriptions_keep_terms after update of
    plan_id, plan_version, plan_name, price_monthly, price_yearly, currency, billing_period, included_impressions,
    overage_rate, overage_model, price_model, quota_mode, features, billing_anchor, time_zone
  on subscriptions for each row when (
    (old.plan_id, old.plan_version, old.plan_name, old.price_monthly, old.price_yearly, old.currency,
      old.billing_period, old.included_impressions, old.overage_rate, old.overage_model, old.price_model,
      old.quota_mode, old.features, old.billing_anchor, old.time_zone)
    is distinct from
    (new.plan_id, new.plan_version, new.plan_name, new.price_monthly, new.price_yearly, new.currency,
      new.billing_period, new.included_impressions, new.overage_rate, new.overage_model, new.price_model,
      new.quota_mode, new.features, new.billing_anchor, new.time_zone)
  ) execute function app.keep_terms();

create or replace function app.terms_months(p_terms public.subscription_terms) returns integer
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case p_terms.billing_period when 'yearly' then 12 else 1 end;
end
$$;
comment on function app.terms_months(public.subscription_terms) is 'How many months a fee is paid for.';

create or replace function app.terms_fee(p_terms public.subscription_terms) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_terms.is_paused then 0
    when p_terms.billing_period = 'yearly' then p_terms.price_yearly else p_terms.price_monthly end;
end
$$;
comment on function app.terms_fee(public.subscription_terms) is 'The fee of one period under these terms, in major units.';

create or replace function app.moment_index(p_anchor date, p_time_zone text, p_at timestamptz) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_local constant date := (p_at at time zone p_time_zone)::date;
  v_months constant integer := (extract(year from v_local)::integer - extract(year from p_anchor)::integer) * 12
    + extract(month from v_local)::integer - extract(month from p_anchor)::integer;
begin
  return case when app.billing_moment(p_anchor, v_months, p_time_zone) > p_at then v_months - 1 else v_months end;
end
$$;
comment on function app.moment_index(date, text, timestamptz) is 'n of the last billing moment at or before a moment.';

create or replace function app.fee_period(p_terms public.subscription_terms, p_at timestamptz)
returns table (period_start timestamptz, period_end timestamptz, days integer)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_months constant integer := app.terms_months(p_terms);
  v_index integer := app.moment_index(p_terms.billing_anchor, p_terms.time_zone, p_at);
begin
  v_index := v_index - ((v_index % v_months) + v_months) % v_months;
  period_start := app.billing_moment(p_terms.billing_anchor, v_index, p_terms.time_zone);
  period_end := app.billing_moment(p_terms.billing_anchor, v_index + v_months, p_terms.time_zone);
  days := app.local_days(period_start, period_end, p_terms.time_zone);
  return next;
end
$$;
comment on function app.fee_period(public.subscription_terms, timestamptz) is
  'The whole period of a fee that holds a moment, and its days: always counted from the anchor.';

create or replace function app.local_days(p_from timestamptz, p_to timestamptz, p_time_zone text) returns integer
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (p_to at time zone p_time_zone)::date - (p_from at time zone p_time_zone)::date;
end
$$;
comment on function app.local_days(timestamptz, timestamptz, text) is
  'Calendar days between two moments in a zone: midnights, so a day of 23 or 25 hours is one.';

create or replace function app.prorate(p_price numeric, p_days integer, p_of_days integer, p_currency text)
returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  if p_of_days is null or p_of_days < 1 or p_days is null or p_days not between 0 and p_of_days
    or p_price is null or not (p_price >= 0 and p_price < 1e15) or app.currency_digits(p_currency) is null
  then
    perform app.refuse('proration_invalid', 'Proration takes a price of zero or more, 0 to all days of a period, and a known currency.');
  end if;
  return app.round_quotient(p_price * p_days, p_of_days, app.currency_digits(p_currency));
end
$$;
comment on function app.prorate(numeric, integer, integer, text) is
  'The price of some days of a period: price * days / days of the whole period, rounded once, halves up.';

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

-- Who may read what was bought, how it changed, and what that gives back.

revoke execute on function
  app.terms_of(public.subscriptions, timestamptz), app.terms_at(uuid, timestamptz),
  app.insert_end(public.subscriptions, timestamptz), app.unbilled_month(uuid, timestamptz),
  app.insert_terms(public.subscription_terms), app.same_terms(jsonb, jsonb), app.keep_terms(),
  app.terms_months(public.subscription_terms), app.terms_fee(public.subscription_terms),
  app.moment_index(date, text, timestamptz), app.fee_period(public.subscription_terms, timestamptz),
  app.local_days(timestamptz, timestamptz, text), app.prorate(numeric, integer, integer, text),
  app.planned_terms(public.subscriptions, text, text, jsonb), app.coupon_factor(uuid, timestamptz),
  app.redemption_place(public.coupon_redemptions, public.subscriptions, timestamptz),
  app.paid_price(public.subscriptions, public.subscription_terms, timestamptz),
  app.change_lines(public.subscriptions, public.subscription_terms, public.subscription_terms, timestamptz, text),
  app.apply_terms(public.subscriptions, public.subscription_terms, timestamptz, text),
  app.lock_subscription(uuid, text[]), app.change_plan(uuid, text, text, jsonb, text, date, boolean),
  app.withdraw_change(uuid), app.pause_subscription(uuid, date), app.resume_subscription(uuid, date),
  app.closing_moment(public.subscriptions, integer), app.is_closing(public.subscriptions),
  app.advance_subscription(public.subscriptions, jsonb), app.record_coupon_uses(public.subscriptions, timestamptz, jsonb),
  app.trial_end(public.subscriptions), app.end_trials(timestamptz, integer), app.redeem_coupon(uuid, text)
from public;
grant execute on function
  app.terms_of(public.subscriptions, timestamptz), app.terms_at(uuid, timestamptz),
  app.insert_end(public.subscriptions, timestamptz), app.unbilled_month(uuid, timestamptz),
  app.insert_terms(public.subscription_terms), app.same_terms(jsonb, jsonb),
  app.terms_months(public.subscription_terms), app.terms_fee(public.subscription_terms),
  app.moment_index(date, text, timestamptz), app.fee_period(public.subscription_terms, timestamptz),
  app.local_days(timestamptz, timestamptz, text), app.prorate(numeric, integer, integer, text),
  app.planned_terms(public.subscriptions, text, text, jsonb), app.coupon_factor(uuid, timestamptz),
  app.redemption_place(public.coupon_redemptions, public.subscriptions, timestamptz),
  app.paid_price(public.subscriptions, public.subscription_terms, timestamptz),
  app.change_lines(public.subscriptions, public.subscription_terms, public.subscription_terms, timestamptz, text),
  app.apply_terms(public.subscriptions, public.subscription_terms, timestamptz, text),
  app.lock_subscription(uuid, text[]), app.change_plan(uuid, text, text, jsonb, text, date, boolean),
  app.withdraw_change(uuid), app.pause_subscription(uuid, date), app.resume_subscription(uuid, date),
  app.closing_moment(public.subscriptions, integer), app.is_closing(public.subscriptions),
  app.advance_subscription(public.subscriptions, jsonb), app.record_coupon_uses(public.subscriptions, timestamptz, jsonb),
  app.trial_end(public.subscriptions), app.end_trials(timestamptz, integer), app.redeem_coupon(uuid, text)
to service_role;

revoke all on subscription_terms, subscription_adjustments, coupon_redemptions, coupon_uses
  from public, anon, authenticated, service_role, tenant;
revoke all on sequence subscription_terms_id_seq from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on subscription_terms to service_role;
grant select, insert, update on subscription_adjustments, coupon_redemptions to service_role;
grant select, insert on coupon_uses to service_role;
grant select on subscription_terms, subscription_adjustments, coupon_redemptions, coupon_uses to authenticated, tenant;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['subscription_terms', 'subscription_adjustments', 'coupon_redemptions', 'coupon_uses'] loop
    execute format('drop policy if exists "The platform acts on all of them" on %I', v_table);
    execute format('create policy "The platform acts on all of them" on %I to service_role using (true) with check (true)', v_table);
    execute format('drop policy if exists "Members see those of their organization" on %I', v_table);
    execute format(
      'create policy "Members see those of their organization" on %I for select to authenticated
       using (organization_id = any (array(select app.my_organizations(''viewer''))) or (select app.is_operator()))', v_table);
    execute format('drop policy if exists "An organization sees its own" on %I', v_table);
    execute format(
      'create policy "An organization sees its own" on %I for select to tenant
       using (organization_id = any (app.visible_organizations()))', v_table);
  end loop;
end
$$;
