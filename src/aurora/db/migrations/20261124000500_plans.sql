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

-- The five plans of the house, and who may read them.

create or replace trigger plans_touch_updated_at before update on plans
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.plans', 'plan',
  '{name,is_active,price_monthly,price_yearly,currency,included_impressions,overage_rate,overage_model,quota_mode,rate_limit_tier,rate_limit_per_hour,features}',
  p_ignored => '{created_at,sort_order}', p_owner => ''
);

insert into plans (
  id, name, sort_order, price_monthly, price_yearly, included_impressions, overage_rate, quota_mode,
  rate_limit_tier, rate_limit_per_hour, features
) values
  ('demo', 'Demo Plan', 1, 0, 0, 1000, null, 'soft', 'demo', 100, '{"badge": true}'),
  ('basic', 'Basic Plan', 2, 3500, 35000, 50000, 50, 'soft', 'basic', 10000, '{}'),
  ('premium', 'Premium Plan', 3, 7000, 70000, 150000, 50, 'soft', 'premium', 50000,
    '{"remove_branding": true}'),
  ('premium_plus', 'Premium Plus Plan', 4, 14000, 140000, 500000, 50, 'soft', 'premium_plus', 200000,
    '{"remove_branding": true, "custom_domain": true}'),
  ('enterprise', 'Enterprise Plan', 5, null, null, null, 50, 'soft', 'premium_plus', 1000000,
    '{"remove_branding": true, "custom_domain": true, "priority_support": true}')
on conflict (id) do nothing;

revoke all on plans from public, anon, authenticated, service_role, tenant;
grant select, insert, update on plans to service_role;
grant select on plans to authenticated, tenant;

drop policy if exists "The platform keeps the catalogue" on plans;
create policy "The platform keeps the catalogue" on plans to service_role using (true) with check (true);
drop policy if exists "Customers read what can be bought" on plans;
create policy "Customers read what can be bought" on plans
  for select to authenticated, tenant using (is_active);
drop policy if exists "Operators read the whole catalogue" on plans;
create policy "Operators read the whole catalogue" on plans
  for select to authenticated using ((select app.is_operator()));
