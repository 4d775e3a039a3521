-- The room gate: whatever a cached decision stands on is noted in the transaction that changes it.
begin;
select plan(7);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
delete from gate_changes;
insert into api_keys (organization_id, key, name)
values ('aaaaaaaa-0000-4000-8000-000000000000', generate_api_key(), 'One');

select results_eq(
  'select key_hash from gate_changes', 'select key_hash from api_keys where name = ''One''', 'a new key is noted'
);
delete from gate_changes;
update api_keys set last_used_at = now(), name = 'Two';
select is_empty('select from gate_changes', 'a use and a name are not');
update api_keys set status = 'revoked';
select is((select count(*) from gate_changes), 1::bigint, 'a revocation is');
delete from gate_changes;
update organizations set status = 'suspended' where slug = 'pgtap-a';
select results_eq(
  'select organization_id, key_hash from gate_changes',
  $$values ('aaaaaaaa-0000-4000-8000-000000000000'::uuid, null::text)$$, 'a suspended organization is, with all its keys'
);
select is(
  (select transaction_id from gate_changes limit 1), pg_current_xact_id(), 'by the transaction that makes it'
);
select is(app.fold_gate_changes(interval '10 minutes'), 0, 'nothing is folded that was not seen');
select ok(not has_table_privilege('authenticated', 'gate_changes', 'select'), 'people do not read it');

select * from finish();
rollback;
