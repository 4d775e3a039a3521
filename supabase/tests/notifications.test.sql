-- The room notifications: a fact is told a person once, and only that person reads and marks it.
begin;
select plan(8);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
insert into users (organization_id, auth_id, email, name, role) values
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000001', 'o@hotel.example', 'O', 'owner'),
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000002', 'v@hotel.example', 'V', 'viewer');

select is(app.notify_members('aaaaaaaa-0000-4000-8000-000000000000', 'quota', 'T', 'M', p_dedupe_key => 'one'), 2, 'every member is told');
select is(app.notify_members('aaaaaaaa-0000-4000-8000-000000000000', 'quota', 'T', 'M', p_dedupe_key => 'one'), 0, 'and only once');
select is(
  app.notify_members('aaaaaaaa-0000-4000-8000-000000000000', 'bill', 'T', 'M', p_dedupe_key => 'two', p_at_least => 'owner'),
  1, 'what is for owners, owners alone are told'
);
select throws_ok('update notifications set read = true', '23514', null, 'read needs a time');
select ok(not has_column_privilege('authenticated', 'notifications', 'message', 'update'), 'people change no message');

set local role authenticated;
select set_config('request.jwt.claims', '{"sub": "aaaaaaaa-0000-4000-8000-000000000002"}', true);
select results_eq('select dedupe_key from public.notifications', array['one'], 'a viewer reads his own alone');
update public.notifications set read = true, read_at = now();
reset role;
select is((select count(*)::int from notifications where read), 1, 'and marks his own alone');
select is_empty(
  $$select r from unnest(array['anon', 'authenticated', 'tenant']) r, pg_proc p
    where p.oid = 'app.notify_members'::regproc and has_function_privilege(r, p.oid, 'execute')$$, 'people tell nobody'
);

select * from finish();
rollback;
