-- The seed's demo data, with its fixed ids; running it again changes nothing. Where a customer has
-- the slug demo already, it is refused as a whole: these rows would be that customer's.

insert into organizations (id, name, slug, email, status, trial_ends_at, address, postal_code, city)
values (
  '00000000-0000-0000-0000-000000000001', 'Demo Organization', 'demo', 'demo@example.com', 'trial',
  app.now() + interval '30 days', 'Storgata 1', '9008', 'Tromsø'
)
on conflict (id) do nothing;

insert into users (id, organization_id, email, name, role)
values (
  '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'demo@example.com',
  'Kari Nordmann', 'owner'
)
on conflict do nothing;

-- The seed's own demo key breaks the seed's own rule for keys; this one keeps it. It is public, and
-- a test key: what it does never bills.
insert into api_keys (id, organization_id, key, name, environment, scopes, rate_limit_tier, rate_limit_per_hour)
values (
  '00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001',
  'tro_test_DemoKeyForTryingAuroraOut12uJbbW', 'Demo Test Key', 'test',
  '["aurora:read", "analytics:read", "billing:read", "widgets:embed"]', 'demo', 100
)
on conflict do nothing;

-- The website's key has been shown to nobody; it stands behind the year of usage.
insert into api_keys (id, organization_id, key, name, environment, scopes)
values (
  '00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000001',
  generate_api_key('production'), 'Production Website', 'production', '["aurora:read", "widgets:embed"]'
)
on conflict do nothing;

insert into subscriptions (
  organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end, status,
  included_impressions
)
values (
  '00000000-0000-0000-0000-000000000001', 'demo', 'Demo Plan', 0.00, app.now(), app.now() + interval '30 days',
  'trialing', 1000
)
on conflict do nothing;
