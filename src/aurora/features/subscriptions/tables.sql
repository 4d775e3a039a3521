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
