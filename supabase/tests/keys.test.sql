-- The room keys: a key is hashed when it is written, and nobody reads it back.
begin;
select plan(6);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
insert into api_keys (organization_id, key, name)
values ('aaaaaaaa-0000-4000-8000-000000000000', generate_api_key(), 'One');

select is_empty('select from api_keys where key is not null', 'no key is stored');
select matches((select key_hash from api_keys where name = 'One'), '^[0-9a-f]{64}$', 'its hash is');
select throws_ok(
  $$insert into api_keys (organization_id, key, name)
    values ('aaaaaaaa-0000-4000-8000-000000000000', 'tro_live_wrong', 'Two')$$, 'AU000', 'key_malformed'
);
select ok(not has_column_privilege('authenticated', 'api_keys', 'key_hash', 'select'), 'people read no hash');
select ok(not has_column_privilege('tenant', 'api_keys', 'key_hash', 'select'), 'nor does a tenant');
update api_keys set status = 'revoked' where name = 'One';
select throws_ok($$update api_keys set status = 'active' where name = 'One'$$, 'AU000', 'key_dead');

select * from finish();
rollback;
