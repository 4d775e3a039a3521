-- Subscriptions: what an organization bought, frozen, and where its billing stands.

create table subscriptions (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,

  plan_id text not null references plans (id) on delete restrict,
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
  cancel_at_period_end boolean not null default false,
  cancelled_at timestamptz,

  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null default 'per_begun_1000',
  quota_mode text not null default 'soft',
  features jsonb not null default '{}',

  stripe_subscription_id text unique,
  stripe_customer_id text,
  metadata jsonb not null default '{}',

  constraint subscriptions_organization_id_key unique (organization_id),
  constraint subscriptions_organization_id_id_key unique (organization_id, id),
  constraint subscriptions_price_monthly_check check (price_monthly >= 0),
  constraint subscriptions_price_yearly_check
    check (price_yearly >= 0 and (billing_period <> 'yearly' or price_yearly is not null)),
  constraint subscriptions_currency_check check (currency ~ '^[A-Z]{3}$'),
  constraint subscriptions_billing_period_check check (billing_period in ('monthly', 'yearly')),
  constraint subscriptions_current_period_check check (current_period_end > current_period_start),
  constraint subscriptions_months_billed_check check (months_billed >= 0),
  constraint subscriptions_status_check
    check (status in ('trialing', 'active', 'past_due', 'cancelled', 'unpaid')),
  constraint subscriptions_included_impressions_check check (included_impressions >= 0),
  constraint subscriptions_overage_rate_check check (overage_rate >= 0),
  constraint subscriptions_overage_model_check check (overage_model in ('per_begun_1000', 'pro_rata')),
  constraint subscriptions_quota_mode_check check (quota_mode in ('soft', 'hard')),
  constraint subscriptions_features_check check (jsonb_typeof(features) = 'object'),
  constraint subscriptions_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index subscriptions_next_billing_at_idx on subscriptions (next_billing_at)
  where status in ('active', 'past_due');
create index subscriptions_plan_id_idx on subscriptions (plan_id);
create index subscriptions_stripe_customer_id_idx on subscriptions (stripe_customer_id);
alter table subscriptions enable row level security;
comment on table subscriptions is 'What an organization bought: terms copied from the plan, and how far it is billed.';
comment on column subscriptions.months_billed is 'n of the next billing moment: anchor + n months, local midnight.';
comment on column subscriptions.next_billing_at is 'The billing moment that comes next: fee in advance, usage in arrears.';

-- Billing periods, and what a new subscription says of itself.

create or replace function app.billing_moment(p_anchor date, p_months integer, p_time_zone text)
returns timestamptz
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- date + interval clamps at the month's end, from the anchor each time, so no drift:
  -- 31 Jan + 1 month = 28 Feb, 31 Jan + 2 months = 31 Mar.
  select (p_anchor + make_interval(months => p_months)) at time zone p_time_zone
$$;
comment on function app.billing_moment(date, integer, text) is
  'Local midnight of anchor + n months: where one half-open billing period ends and the next begins.';

create or replace function app.fill_subscription_billing() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.billing_anchor := coalesce(
    new.billing_anchor, (new.current_period_start at time zone new.time_zone)::date
  );
  new.next_billing_at := coalesce(
    new.next_billing_at, app.billing_moment(new.billing_anchor, new.months_billed, new.time_zone)
  );
  return new;
end
$$;
comment on function app.fill_subscription_billing() is
  'Trigger: a subscription inserted with the seed''s columns alone gets its anchor and first billing moment.';

create or replace trigger subscriptions_fill_billing before insert on subscriptions
  for each row execute function app.fill_subscription_billing();
create or replace trigger subscriptions_touch_updated_at before update on subscriptions
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.subscriptions', 'subscription',
  '{organization_id,plan_id,plan_name,price_monthly,price_yearly,currency,billing_period,current_period_start,current_period_end,billing_anchor,time_zone,months_billed,next_billing_at,status,cancel_at_period_end,cancelled_at,included_impressions,overage_rate,overage_model,quota_mode,features,stripe_subscription_id,stripe_customer_id}',
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

create or replace trigger organizations_keep_while_billed before update of deleted_at on organizations
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function app.keep_billed_organization();

revoke execute on function app.keep_billed_organization() from public;
revoke execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing(),
  app.limit_new_key() from public;
grant execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing()
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
