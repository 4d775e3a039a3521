-- The room widgets: an instance is one row an organization, which reads it and writes none.
begin;
select plan(8);

insert into widget_instances (organization_id, api_key_id, widget_type, instance_id, origin) values
  ('aaaaaaaa-0000-4000-8000-000000000000', gen_random_uuid(), 'map', 'one', 'https://a.example'),
  ('bbbbbbbb-0000-4000-8000-000000000000', gen_random_uuid(), 'map', 'one', 'https://b.example');

select throws_ok(
  $$insert into widget_instances (organization_id, api_key_id, widget_type, instance_id, origin)
    values ('aaaaaaaa-0000-4000-8000-000000000000', gen_random_uuid(), 'map', 'one', 'https://a.example')$$,
  '23505', null, 'an organization has an instance once'
);
select throws_ok($$update widget_instances set widget_type = 'clock'$$, '23514', null, 'there are three types');
select throws_ok($$update widget_instances set total_impressions = -1$$, '23514', null, 'no count is negative');
select table_privs_are('public', 'widget_instances', 'anon', array[]::text[]);
select table_privs_are('public', 'widget_instances', 'authenticated', array['SELECT']);
select table_privs_are('public', 'widget_instances', 'tenant', array['SELECT']);

set local role tenant;
select app.set_organization('aaaaaaaa-0000-4000-8000-000000000000');
select results_eq('select origin from public.widget_instances', array['https://a.example'], 'an organization sees its own');
select app.set_organization('cccccccc-0000-4000-8000-000000000000');
select is_empty('select from public.widget_instances', 'one without widgets sees none');

select * from finish();
rollback;
