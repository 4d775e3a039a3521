-- The room audit: what was done is chained at the commit, holds no secret, and is only added to.
begin;
select plan(12);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
insert into users (organization_id, auth_id, email, name, role) values
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000001', 'o@hotel.example', 'O', 'owner'),
  ('aaaaaaaa-0000-4000-8000-000000000000', 'aaaaaaaa-0000-4000-8000-000000000002', 'v@hotel.example', 'V', 'viewer');
set constraints all immediate;

select results_eq(
  $$select action from audit_events where organization_id = 'aaaaaaaa-0000-4000-8000-000000000000' order by sequence$$,
  array['organization.created', 'member.added', 'member.added'], 'a chain tells all in order'
);
select is(
  (select h.hash from audit_heads h where h.organization_id = 'aaaaaaaa-0000-4000-8000-000000000000'),
  (select e.hash from audit_events e where e.organization_id = 'aaaaaaaa-0000-4000-8000-000000000000' and sequence = 3),
  'its head is its last event'
);
select is_empty(
  $$select from audit_events e join audit_events p
      on p.organization_id = e.organization_id and p.sequence = e.sequence - 1
    where e.organization_id = 'aaaaaaaa-0000-4000-8000-000000000000' and e.previous_hash <> p.hash$$,
  'each event holds the hash of the one before'
);
select is_empty(
  $$select from audit_events where concat(before, after) like '%@hotel.example%'$$, 'no address enters a chain'
);
select is_empty('select from app.audit_pending', 'nothing waits after the commit');
select throws_ok('delete from audit_events', 'AU000', 'audit_immutable');
select throws_ok($$update audit_events set actor = 'nobody'$$, 'AU000', 'audit_immutable');
select throws_ok('truncate audit_events', 'AU000', 'audit_immutable');
select throws_ok($$select app.audit_table('public.api_keys', 'key', '{key_hash}')$$, 'AU000', 'audit_column_secret');
select table_privs_are('public', 'audit_events', 'service_role', array['SELECT']);

set local role authenticated;
select set_config('request.jwt.claims', '{"sub": "aaaaaaaa-0000-4000-8000-000000000001"}', true);
select is((select count(*)::int from public.audit_events), 3, 'an owner sees his organization''s chain');
select set_config('request.jwt.claims', '{"sub": "aaaaaaaa-0000-4000-8000-000000000002"}', true);
select is_empty('select from public.audit_events', 'a viewer sees none');

select * from finish();
rollback;
