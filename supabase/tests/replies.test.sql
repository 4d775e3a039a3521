-- The room replies: the platform's own, bounded, one row a caller and key.
begin;
select plan(7);

insert into replies (caller, key_digest, request_digest) values ('operator', sha256('k'), sha256('r'));
select throws_ok(
  $$insert into replies (caller, key_digest, request_digest) values ('operator', sha256('k'), sha256('other'))$$,
  '23505', null, 'a key is claimed once'
);
select lives_ok(
  $$insert into replies (caller, key_digest, request_digest) values ('key:1', sha256('k'), sha256('r'))$$,
  'another caller has keys of its own'
);
select throws_ok(
  $$insert into replies (caller, key_digest, request_digest) values ('operator', 'k', sha256('r'))$$,
  '23514', null, 'a key is stored as its digest'
);
select throws_ok(
  $$update replies set sealed = convert_to(repeat('x', 1100001), 'UTF8')$$, '23514', null, 'an answer has a largest size'
);
select is(
  (select count(*) from unnest(array['anon', 'authenticated', 'tenant']) r
   where has_table_privilege(r, 'replies', 'select, insert, update, delete')), 0::bigint,
  'nobody but the platform has rights in it'
);
select ok(not has_column_privilege('service_role', 'replies', 'request_digest', 'update'), 'a claim never changes its request');
select ok((select relrowsecurity from pg_class where oid = 'replies'::regclass), 'row level security is on');

select * from finish();
rollback;
