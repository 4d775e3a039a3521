-- The room plans: the platform alone keeps the catalogue, and customers read what is sold.
begin;
select plan(8);

select policies_are('public', 'plans', array[
  'The platform keeps the catalogue', 'Customers read what can be bought', 'Operators read the whole catalogue'
]);
select table_privs_are('public', 'plans', 'anon', array[]::text[]);
select table_privs_are('public', 'plans', 'authenticated', array['SELECT']);
select table_privs_are('public', 'plans', 'tenant', array['SELECT']);
select table_privs_are('public', 'plans', 'service_role', array['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
select throws_ok($$update plans set price_monthly = -1 where id = 'basic'$$, '23514', null, 'no price is negative');
select throws_ok($$update plans set quota_mode = 'none' where id = 'basic'$$, '23514', null, 'a quota is soft or hard');

update plans set is_active = false where id = 'basic';
set local role tenant;
select results_eq(
  'select id from public.plans order by id collate "C"', array['demo', 'enterprise', 'premium', 'premium_plus'],
  'what is no longer sold is hidden'
);

select * from finish();
rollback;
