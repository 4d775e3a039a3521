-- The catalogue: what can be bought, each version of its terms, and coupons. A subscription copies what it
-- bought, so a change here never reaches it.

create table plans (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  name text not null,
  sort_order integer not null,
  is_active boolean not null default true,
  version integer not null default 1,

  price_monthly numeric(14, 2),
  price_yearly numeric(14, 2),
  currency text not null default 'NOK',

  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null default 'per_begun_1000',
  price_model jsonb,
  quota_mode text not null default 'soft',

  rate_limit_tier text not null default 'basic',
  rate_limit_per_hour integer not null default 10000,
  features jsonb not null default '{}',

  constraint plans_id_check check (id ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint plans_version_check check (version >= 1),
  constraint plans_price_monthly_check
    check (price_monthly >= 0 and price_monthly = app.round_money(price_monthly, currency)),
  constraint plans_price_yearly_check
    check (price_yearly >= 0 and price_yearly = app.round_money(price_yearly, currency)),
  constraint plans_currency_check check (coalesce(app.currency_digits(currency), 9) <= 2),
  constraint plans_included_impressions_check check (included_impressions >= 0),
  constraint plans_overage_rate_check check (overage_rate >= 0),
  constraint plans_overage_model_check check (overage_model in ('per_begun_1000', 'pro_rata', 'price_model')),
  constraint plans_price_model_check check (
    (overage_model = 'price_model') = (price_model is not null) and (price_model is null or overage_rate is null)
  ),
  constraint plans_quota_mode_check check (quota_mode in ('soft', 'hard')),
  constraint plans_rate_limit_per_hour_check check (rate_limit_per_hour >= 0),
  constraint plans_features_check check (jsonb_typeof(features) = 'object')
);
alter table plans enable row level security;
comment on table plans is 'The catalogue of plans with the terms sold now; null price means by agreement.';
comment on column plans.version is 'Counts up with every change of the terms; plan_versions keeps each of them.';
comment on column plans.overage_rate is 'Price of 1000 impressions beyond the included ones; null: none is billed.';
comment on column plans.price_model is
  'What usage beyond the included impressions costs where one rate does not say it: see app.rate().';

create table plan_versions (
  plan_id text not null references plans (id) on delete cascade,
  version integer not null,
  created_at timestamptz not null default app.now(),
  name text not null,
  price_monthly numeric(14, 2),
  price_yearly numeric(14, 2),
  currency text not null,
  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null,
  price_model jsonb,
  quota_mode text not null,
  rate_limit_tier text not null,
  rate_limit_per_hour integer not null,
  features jsonb not null,
  constraint plan_versions_pkey primary key (plan_id, version)
);
alter table plan_versions enable row level security;
comment on table plan_versions is 'Every terms a plan was ever sold on; written by a trigger on plans, never changed.';

create table coupons (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  description text not null default '',
  percent numeric(6, 3),
  amount numeric(14, 2),
  currency text,
  periods integer,
  max_redemptions integer,
  redemptions integer not null default 0,
  redeem_until timestamptz,
  is_active boolean not null default true,
  constraint coupons_id_check check (id ~ '^[A-Z0-9][A-Z0-9_-]{0,39}$'),
  constraint coupons_value_check check (
    (percent is null) <> (amount is null) and (amount is null) = (currency is null)
  ),
  constraint coupons_percent_check check (percent > 0 and percent <= 100),
  constraint coupons_amount_check check (amount > 0 and amount = app.round_money(amount, currency)),
  constraint coupons_currency_check check (currency is null or coalesce(app.currency_digits(currency), 9) <= 2),
  constraint coupons_periods_check check (periods between 1 and 1200),
  constraint coupons_max_redemptions_check check (max_redemptions >= 1),
  constraint coupons_redemptions_check
    check (redemptions >= 0 and redemptions <= coalesce(max_redemptions, redemptions))
);
alter table coupons enable row level security;
comment on table coupons is 'Discounts that may be redeemed: percent of a bill, or an amount of one currency a bill.';
comment on column coupons.id is 'The code that is redeemed.';
comment on column coupons.periods is 'On how many bills a redemption works; null: on all of them.';
