-- The room usage: an event counts once, and only its organization sees it.
begin;
select plan(20);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
select ok(track_usage('aaaaaaaa-0000-4000-8000-000000000000', null, '/x', p_event_id => 'one'), 'an event counts');
select ok(not track_usage('aaaaaaaa-0000-4000-8000-000000000000', null, '/x', p_event_id => 'one'), 'and only once');
select ok(not has_schema_privilege('authenticated', 'usage_partitions', 'usage'), 'months are not entered');

-- Folded or not, every figure is the same.
select is((select sum(requests)::int from usage_daily_series where dimension = 'total'), 1, 'it is counted before it is folded');
select cmp_ok(app.fold_usage(), '>', 0::bigint, 'deltas are folded');
select is(app.fold_usage(), 0::bigint, 'each once');
select is((select sum(requests)::int from usage_daily_series where dimension = 'total'), 1, 'and it is counted after');
select is_empty(
  $$select from app.verify_usage_counts('aaaaaaaa-0000-4000-8000-000000000000', current_date - 1, current_date + 1)$$,
  'a recount finds no difference'
);
-- What is out of range or nobody's is refused.
select throws_ok(
  $$select track_usage('aaaaaaaa-0000-4000-8000-000000000000', null, '/x', p_timestamp => now() - interval '36 days')$$,
  'AU000', 'timestamp_out_of_range'
);
select throws_ok($$select track_usage(gen_random_uuid(), null, '/x')$$, 'AU000', 'organization_not_found');
select throws_ok(
  $$select track_usage('aaaaaaaa-0000-4000-8000-000000000000', gen_random_uuid(), '/x')$$, 'AU000', 'api_key_unknown'
);
select throws_ok('select app.forget_usage_event_ids(35)', 'AU000', 'retention_invalid');
-- A table in the founding shape.
create table public.old_usage (
  id bigint primary key, timestamp timestamptz, organization_id uuid, api_key_id uuid, endpoint text, method text,
  status_code integer, response_time_ms integer, cached boolean, widget_type text, widget_impression boolean, origin text,
  user_agent text, ip_address inet, country_code text, metadata jsonb
);
insert into public.old_usage (id, timestamp, organization_id, endpoint, method, status_code)
select n, now() - interval '1 day', 'aaaaaaaa-0000-4000-8000-000000000000', '/x', 'GET', 200 from generate_series(1, 3) n;
select results_eq(
  $$select looked_at, accepted, is_finished from app.adopt_usage('public.old_usage', 2)$$, $$values (2, 2, false)$$,
  'a step takes as many rows as it may'
);
select results_eq(
  $$select looked_at, accepted, is_finished from app.adopt_usage('public.old_usage', 2)$$, $$values (1, 1, false)$$,
  'the next one goes on'
);
select results_eq(
  $$select looked_at, accepted, is_finished from app.adopt_usage('public.old_usage', 2)$$, $$values (0, 0, true)$$,
  'and there is an end'
);
select throws_ok($$select app.adopt_usage('public.usage_analytics', 2)$$, 'AU000', 'usage_table_invalid');
select throws_ok($$select app.adopt_usage('public.nothing', 2)$$, 'AU000', 'usage_table_invalid');
select function_privs_are(
  'app', 'adopt_usage', array['text', 'integer'], 'authenticated', array[]::text[], 'nobody but the platform adopts'
);

set local role tenant;
select app.set_organization('aaaaaaaa-0000-4000-8000-000000000000');
select is((select sum(total_requests)::int from public.daily_usage_summary), 4, 'its organization sees it');
select app.set_organization('bbbbbbbb-0000-4000-8000-000000000000');
select is_empty('select from public.daily_usage_summary', 'another one does not');

select * from finish();
rollback;
