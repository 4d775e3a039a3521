-- The room limits: leases keep to a key's limits; included impressions are counted from anchor to
-- anchor, and warned of once.
begin;
select plan(17);

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

create function pg_temp.lease(p_per_hour integer, p_per_second integer, p_waiting integer, p_wanted integer)
returns table (granted integer, remaining integer, retry_after_ms bigint) language sql as $$
  select l.granted, l.remaining, l.retry_after_ms
  from app.lease_requests(
    'aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000003', p_per_hour, p_per_second,
    p_waiting, p_wanted
  ) l
$$;
select is((select granted from pg_temp.lease(100, null, 3, 80)), 12, 'beyond what waits, an eighth of what is left');
select is((select granted from pg_temp.lease(100, null, 84, 84)), 84, 'what waits is granted whole');
select is((select granted from pg_temp.lease(100, null, 1, 50)), 1, 'near the limit one at a time');
select is((select remaining from pg_temp.lease(100, null, 9, 9)), 0, 'and never more than is left');
select ok(
  (select retry_after_ms between 3600000 and 3617000 from pg_temp.lease(100, null, 1, 1)),
  'who is refused may come again after an hour, and at most 17 seconds more'
);
select is((select granted from pg_temp.lease(50, null, 1, 1)), 0, 'a smaller limit keeps the count');
select is((select granted from pg_temp.lease(1000, 7, 20, 20)), 7, 'of a second''s share no more than it');
select is(
  app.return_requests(
    array['aaaaaaaa-0000-4000-8000-000000000000']::uuid[], array['aaaaaaaa-0000-4000-8000-000000000003']::uuid[],
    array[5], array[app.now() + interval '1 second']
  ), 5, 'what is unused is taken back'
);
select ok(
  not has_table_privilege('tenant', 'rate_limit_windows', 'select')
  and not has_table_privilege('authenticated', 'rate_limit_windows', 'select'), 'no client sees what was granted'
);

select * from finish();
rollback;
