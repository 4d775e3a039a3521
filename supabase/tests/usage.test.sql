-- The room usage: an event counts once, and only its organization sees it.
begin;
select plan(5);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
select ok(track_usage('aaaaaaaa-0000-4000-8000-000000000000', null, '/x', p_event_id => 'one'), 'an event counts');
select ok(not track_usage('aaaaaaaa-0000-4000-8000-000000000000', null, '/x', p_event_id => 'one'), 'and only once');
select ok(not has_schema_privilege('authenticated', 'usage_partitions', 'usage'), 'months are not entered');

set local role tenant;
select app.set_organization('aaaaaaaa-0000-4000-8000-000000000000');
select is((select sum(total_requests)::int from public.daily_usage_summary), 1, 'its organization sees it');
select app.set_organization('bbbbbbbb-0000-4000-8000-000000000000');
select is_empty('select from public.daily_usage_summary', 'another one does not');

select * from finish();
rollback;
