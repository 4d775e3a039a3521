-- The room sign_in: of every secret only the hash is kept, nobody reads it, and a link opens once.
begin;
select plan(12);

insert into auth.users (id, email) values ('aaaaaaaa-0000-4000-8000-000000000001', 'o@hotel.example');
insert into sessions (auth_id, token_hash, method, user_agent_family, expires_at)
values ('aaaaaaaa-0000-4000-8000-000000000001', repeat('a', 64), 'password', 'Firefox', app.now() + interval '1 day');

select is(
  (select email from app.use_session(repeat('a', 64), '1 hour', '1 minute')), 'o@hotel.example', 'a session knows whose it is'
);
update sessions set revoked_at = app.now();
select is_empty(
  $$select from app.use_session(repeat('a', 64), '1 hour', '1 minute')$$, 'a revoked one is dead at once'
);
select throws_ok($$update sessions set token_hash = 'plain'$$, '23514', null, 'a token is kept as its hash alone');

select is(
  app.make_sign_in_link('O@hotel.example', 'sign_in', repeat('b', 64), '10 minutes'), 'o@hotel.example',
  'a link goes to the stored address'
);
select is(app.make_sign_in_link('x@hotel.example', 'sign_in', repeat('c', 64), '10 minutes'), null, 'a stranger gets none');
select is(app.use_sign_in_link(repeat('b', 64), 'password_reset'), null, 'a link opens nothing else');
select is(
  app.use_sign_in_link(repeat('b', 64), 'sign_in'), 'aaaaaaaa-0000-4000-8000-000000000001'::uuid, 'it opens its purpose'
);
select is(app.use_sign_in_link(repeat('b', 64), 'sign_in'), null, 'and that once');

select app.take_sign_in_attempt('person', 1, 1, '1 minute');
select is(app.take_sign_in_attempt('person', 1, 1, '1 minute'), 60, 'one attempt too many waits its minute');

select is_empty(
  $$select t, r from unnest(array['sessions', 'sign_in_links', 'service_tokens']) t,
      unnest(array['anon', 'authenticated', 'tenant', 'service_role']) r
    where has_column_privilege(r, t, 'token_hash', 'select')$$, 'no role reads a hash'
);
select is_empty(
  $$select t, r from unnest(array['sessions', 'sign_in_links', 'sign_in_limits', 'service_tokens']) t,
      unnest(array['anon', 'authenticated', 'tenant']) r
    where has_any_column_privilege(r, t, 'select, insert, update') or has_table_privilege(r, t, 'delete')$$,
  'no client touches these tables'
);
select is_empty(
  $$select p.proname, r from pg_proc p, unnest(array['anon', 'authenticated', 'tenant']) r
    where p.pronamespace = 'app'::regnamespace and p.proname in (
      'find_credentials', 'find_person_credentials', 'set_password', 'make_sign_in_link', 'use_sign_in_link',
      'note_sign_in', 'use_session', 'use_service_token'
    ) and has_function_privilege(r, p.oid, 'execute')$$, 'nor calls what looks behind them'
);

select * from finish();
rollback;
