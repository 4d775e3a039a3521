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
