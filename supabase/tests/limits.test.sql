-- The room limits: included impressions are counted from anchor to anchor, and warned of once.
begin;
select plan(8);

insert into organizations (id, name, slug, email) values
  ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example'),
  ('bbbbbbbb-0000-4000-8000-000000000000', 'B', 'pgtap-b', 'b@hotel.example');
insert into users (organization_id, email, name, role)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'o@hotel.example', 'O', 'owner');
insert into api_keys (id, organization_id, key, name) values (
  'aaaaaaaa-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000000', generate_api_key(), 'One'
);
insert into subscriptions (
  organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end, included_impressions
) values (
  'aaaaaaaa-0000-4000-8000-000000000000', 'basic', 'Basic Plan', 3500, app.now(), app.now() + interval '1 month', 1
);

select results_eq(
  $$select month_start from app.quota_month('2026-01-31', 'Europe/Oslo', '2026-02-28 00:00+01')$$,
  array['2026-02-28 00:00+01'::timestamptz], 'a month holds its first moment'
);
select results_eq(
  $$select month_end from app.quota_month('2026-01-31', 'Europe/Oslo', '2026-02-27 23:59+01')$$,
  array['2026-02-28 00:00+01'::timestamptz], 'and not its end'
);
select is(app.warn_of_quota('aaaaaaaa-0000-4000-8000-000000000000'), 0, 'nothing used, nothing told');
select track_usage(
  'aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000003', '/x', p_event_id => 'one',
  p_widget_type => 'map', p_widget_impression => true
);
select is((select used from app.quota_state('aaaaaaaa-0000-4000-8000-000000000000')), 1::bigint, 'an impression is used');
select is(app.warn_of_quota('aaaaaaaa-0000-4000-8000-000000000000'), 2, 'the owner is told of 80 and of 100 %');
select is(app.warn_of_quota('aaaaaaaa-0000-4000-8000-000000000000'), 0, 'each once a period');
select is_empty(
  $$select from app.quota_state('bbbbbbbb-0000-4000-8000-000000000000')$$, 'who bought nothing has no quota'
);
select ok(
  not has_function_privilege('authenticated', 'app.quota_state(uuid)', 'execute')
  and not has_function_privilege('tenant', 'app.warn_of_quota(uuid)', 'execute'), 'no client asks for another''s'
);

select * from finish();
rollback;
