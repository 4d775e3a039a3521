-- The five plans of the house, what keeps their versions, and who may read them.

create or replace function app.count_plan_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What a subscription freezes; a plan may be sorted otherwise or retired without a new version.
  v_terms constant text[] :=
    '{name,price_monthly,price_yearly,currency,included_impressions,overage_rate,overage_model,price_model,quota_mode,rate_limit_tier,rate_limit_per_hour,features}'::text[];
begin
  if new.price_model is not null then
    perform app.check_price_model(new.price_model);
  end if;
  if tg_op = 'INSERT' then
    new.version := 1;
  elsif new.id <> old.id then
    perform app.refuse('plan_id_fixed', 'A plan keeps its id: subscriptions and versions are known by it.');
  else
    new.version := old.version + (exists (
      select from unnest(v_terms) t where to_jsonb(new) -> t is distinct from to_jsonb(old) -> t
    ))::integer;
  end if;
  return new;
end
$$;
comment on function app.count_plan_version() is
  'Trigger: a change of a plan''s terms makes a new version, whoever makes it; its price model is checked.';

create or replace function app.keep_plan_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.plan_versions (
    plan_id, version, name, price_monthly, price_yearly, currency, included_impressions, overage_rate, overage_model,
    price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features
  ) values (
    new.id, new.version, new.name, new.price_monthly, new.price_yearly, new.currency, new.included_impressions,
    new.overage_rate, new.overage_model, new.price_model, new.quota_mode, new.rate_limit_tier,
    new.rate_limit_per_hour, new.features
  ) on conflict do nothing;
  return null;
end
$$;
comment on function app.keep_plan_version() is 'Trigger: plan_versions keeps the terms of each version.';

create or replace function app.refuse_version_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.refuse('plan_version_fixed', 'A version of a plan is never changed; a change of the plan makes a new one.');
  return null;
end
$$;
comment on function app.refuse_version_change() is 'Trigger: what somebody may have bought stays as it was.';

create or replace trigger plans_count_version before insert or update on plans
  for each row execute function app.count_plan_version();
create or replace trigger plans_keep_version after insert or update on plans
  for each row execute function app.keep_plan_version();
create or replace trigger plan_versions_refuse_change before update on plan_versions
  for each row execute function app.refuse_version_change();
create or replace trigger plans_touch_updated_at before update on plans
  for each row execute function app.touch_updated_at();
create or replace trigger coupons_touch_updated_at before update on coupons
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.plans', 'plan',
  '{name,is_active,version,price_monthly,price_yearly,currency,included_impressions,overage_rate,overage_model,price_model,quota_mode,rate_limit_tier,rate_limit_per_hour,features}',
  p_ignored => '{created_at,sort_order}', p_owner => ''
);
select app.audit_table(
  'public.coupons', 'coupon',
  '{id,description,percent,amount,currency,periods,max_redemptions,redeem_until,is_active}',
  p_ignored => '{created_at,redemptions}', p_owner => ''
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

revoke execute on function
  app.model_number(jsonb, text, numeric), app.check_model_tiers(jsonb), app.check_price_model(jsonb),
  app.usage_price_model(numeric, text, jsonb), app.rate_tiers(jsonb, numeric), app.rate_blocks(jsonb, numeric),
  app.rate_plain(jsonb, numeric, numeric[]), app.rate(jsonb, numeric, numeric[]),
  app.spread(numeric, numeric[], integer), app.count_plan_version(), app.keep_plan_version(),
  app.refuse_version_change()
from public;
grant execute on function
  app.model_number(jsonb, text, numeric), app.check_model_tiers(jsonb), app.check_price_model(jsonb),
  app.usage_price_model(numeric, text, jsonb), app.rate_tiers(jsonb, numeric), app.rate_blocks(jsonb, numeric),
  app.rate_plain(jsonb, numeric, numeric[]), app.rate(jsonb, numeric, numeric[]),
  app.spread(numeric, numeric[], integer)
to service_role;

revoke all on plans, plan_versions, coupons from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on plans to service_role;
grant select, insert on plan_versions to service_role;
grant select, insert, update on coupons to service_role;
grant select on plans to authenticated, tenant;

drop policy if exists "The platform keeps the catalogue" on plans;
create policy "The platform keeps the catalogue" on plans to service_role using (true) with check (true);
drop policy if exists "Customers read what can be bought" on plans;
create policy "Customers read what can be bought" on plans
  for select to authenticated, tenant using (is_active);
drop policy if exists "Operators read the whole catalogue" on plans;
create policy "Operators read the whole catalogue" on plans
  for select to authenticated using ((select app.is_operator()));
drop policy if exists "The platform keeps every version" on plan_versions;
create policy "The platform keeps every version" on plan_versions to service_role using (true) with check (true);
drop policy if exists "The platform keeps the coupons" on coupons;
create policy "The platform keeps the coupons" on coupons to service_role using (true) with check (true);
