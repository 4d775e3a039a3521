-- The room privacy: who is erased is gone everywhere, and only the platform erases.
begin;
select plan(10);

insert into organizations (id, name, slug, email, billing_email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example', 'v@hotel.example');
insert into auth.users (id, email) values ('aaaaaaaa-0000-4000-8000-000000000002', 'v@hotel.example');
insert into users (organization_id, auth_id, email, name, role) values
  ('aaaaaaaa-0000-4000-8000-000000000000', null, 'o@hotel.example', 'O', 'owner'),
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000002', 'v@hotel.example', 'V', 'viewer');
insert into api_keys (organization_id, key, name)
values ('aaaaaaaa-0000-4000-8000-000000000000', generate_api_key(), 'One');
select app.notify_members('aaaaaaaa-0000-4000-8000-000000000000', 'team', 'T', 'v@hotel.example joined');

select throws_ok($$select app.erase_person('o@hotel.example')$$, 'AU000', 'last_owner');
select is(
  app.erase_person('V@hotel.example'), '{"memberships": 1, "invitations": 0, "contacts": 1}', 'an address is found in any case'
);
select results_eq(
  'select name from users where erased_at is not null', array['Erased person'], 'the membership names nobody'
);
select is_empty($$select from auth.users where email = 'v@hotel.example'$$, 'the account is gone');
select is_empty($$select from organizations where billing_email is not null$$, 'so is the contact');
select is_empty('select from notifications', 'and what colleagues were told of the person');

select lives_ok($$select app.erase_organization('aaaaaaaa-0000-4000-8000-000000000000')$$, 'an organization is erased');
select results_eq('select name, status from api_keys', $$values ('Erased key', 'revoked')$$, 'its keys are dead');
select throws_ok($$select app.erase_organization('bbbbbbbb-0000-4000-8000-000000000000')$$, 'AU000', 'organization_not_found');
select is_empty(
  $$select p.proname, r from pg_proc p, unnest(array['anon', 'authenticated', 'tenant']) r
    where p.pronamespace = 'app'::regnamespace and p.proname in (
      'find_person', 'person_account', 'erase_mail', 'erase_memberships', 'erase_person', 'erase_organization', 'strip_usage'
    ) and has_function_privilege(r, p.oid, 'execute')$$, 'no client finds or erases people'
);

select * from finish();
rollback;
