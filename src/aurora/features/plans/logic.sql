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
