-- The room subscriptions: periods count from the anchor, terms stay, and only its organization sees one.
begin;
select plan(10);

insert into organizations (id, name, slug, email)
values ('aaaaaaaa-0000-4000-8000-000000000000', 'A', 'pgtap-a', 'a@hotel.example');
insert into subscriptions (
  organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end
) values (
  'aaaaaaaa-0000-4000-8000-000000000000', 'basic', 'Basic Plan', 3500,
  '2026-01-31 00:00+01', '2026-02-28 00:00+01'
);

select is((select billing_anchor from subscriptions), '2026-01-31'::date, 'the anchor is the local day it began');
select is((select next_billing_at from subscriptions), '2026-01-31 00:00+01'::timestamptz, 'and the first bill is then');
select is(app.billing_moment('2026-01-31', 1, 'Europe/Oslo'), '2026-02-28 00:00+01'::timestamptz, 'a short month ends early');
select is(app.billing_moment('2026-01-31', 2, 'Europe/Oslo'), '2026-03-31 00:00+02'::timestamptz, 'and moves no later one');
update plans set price_monthly = 9999 where id = 'basic';
select is((select price_monthly from subscriptions), 3500.00, 'a price in the catalogue reaches nobody who bought');
select throws_ok($$update subscriptions set billing_period = 'yearly'$$, '23514', null, 'a yearly one has a yearly price');
update organizations set status = 'cancelled' where slug = 'pgtap-a';
select throws_ok($$update organizations set deleted_at = now() where slug = 'pgtap-a'$$, 'AU000', 'subscription_running');
select table_privs_are('public', 'subscriptions', 'authenticated', array['SELECT']);

set local role tenant;
select app.set_organization('aaaaaaaa-0000-4000-8000-000000000000');
select results_eq('select plan_id from public.subscriptions', array['basic'], 'its organization sees it');
select app.set_organization('bbbbbbbb-0000-4000-8000-000000000000');
select is_empty('select from public.subscriptions', 'another one does not');

select * from finish();
rollback;
