-- The room organizations: who may see and change customers and memberships.
begin;
select plan(8);

select policies_are('public', 'organizations', array[
  'The platform acts on every organization', 'People see the organizations they belong to',
  'Admins keep their organization''s contact and billing details', 'An organization sees itself'
]);
select table_privs_are('public', 'organizations', 'anon', array[]::text[]);
select table_privs_are('public', 'users', 'tenant', array[]::text[]);
select ok(not has_column_privilege('authenticated', 'organizations', 'status', 'update'), 'status is the platform''s');
select ok(not has_column_privilege('authenticated', 'organizations', 'slug', 'update'), 'the slug is the platform''s');

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
insert into users (organization_id, auth_id, email, name, role) values
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000001', 'o@hotel.example', 'O', 'owner');
select throws_ok($$update users set role = 'admin' where email = 'o@hotel.example'$$, 'AU000', 'last_owner');

set local role authenticated;
select set_config('request.jwt.claims', '{"sub": "aaaaaaaa-0000-4000-8000-000000000001"}', true);
select results_eq('select slug from public.organizations', array['pgtap-a'], 'an owner sees his organization alone');
select set_config('request.jwt.claims', '{"sub": "aaaaaaaa-0000-4000-8000-000000000002"}', true);
select is_empty('select slug from public.organizations', 'a stranger sees none');

select * from finish();
rollback;
