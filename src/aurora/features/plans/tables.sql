-- The catalogue: what can be bought. A subscription copies what it bought, so a change here never reaches it.

create table plans (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  name text not null,
  sort_order integer not null,
  is_active boolean not null default true,

  price_monthly numeric(14, 2),
  price_yearly numeric(14, 2),
  currency text not null default 'NOK',

  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null default 'per_begun_1000',
  quota_mode text not null default 'soft',

  rate_limit_tier text not null default 'basic',
  rate_limit_per_hour integer not null default 10000,
  features jsonb not null default '{}',

  constraint plans_id_check check (id ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint plans_price_monthly_check check (price_monthly >= 0),
  constraint plans_price_yearly_check check (price_yearly >= 0),
  constraint plans_currency_check check (currency ~ '^[A-Z]{3}$'),
  constraint plans_included_impressions_check check (included_impressions >= 0),
  constraint plans_overage_rate_check check (overage_rate >= 0),
  constraint plans_overage_model_check check (overage_model in ('per_begun_1000', 'pro_rata')),
  constraint plans_quota_mode_check check (quota_mode in ('soft', 'hard')),
  constraint plans_rate_limit_per_hour_check check (rate_limit_per_hour >= 0),
  constraint plans_features_check check (jsonb_typeof(features) = 'object')
);
alter table plans enable row level security;
comment on table plans is 'The catalogue of plans; null price means by agreement.';
comment on column plans.overage_rate is 'Price of 1000 impressions beyond the included ones; null: none is billed.';
