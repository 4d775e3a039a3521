-- One organization with a row in every table; {letter} is a or b, and {place} stands before every id.
insert into auth.users (id, email)
select ('{place}00000000000' || n)::uuid, 'secret-{letter}' || n || '@hotel.example' from generate_series(1, 4) n;

insert into organizations (id, name, slug, email, address, postal_code, city, status)
values ('{place}000000000000', 'Secret {letter}', 'hotel-{letter}', 'secret-{letter}@hotel.example',
  'Secret {letter}', '9008', 'Secret {letter}', 'active');

insert into users (id, organization_id, auth_id, email, name, role)
select ('{place}00000000000' || n)::uuid, '{place}000000000000', ('{place}00000000000' || n)::uuid,
  'secret-{letter}' || n || '@hotel.example', 'Secret {letter}', (array['viewer', 'member', 'admin', 'owner'])[n]
from generate_series(1, 4) n;
insert into users (id, organization_id, email, name, role)
values ('{place}000000000005', '{place}000000000000', 'secret-{letter}5@hotel.example', 'Secret {letter}', 'member');

-- A black pixel each, with something behind it that no reader of pictures minds; the seller's is the same for both.
select app.set_organization_logo('{place}000000000000', pixel || 'secret-{letter}', 1, 1),
  app.set_seller_logo('default', pixel, 1, 1)
from decode(
  '89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550'
  '000000a49444154789c636000000002000148afa4710000000049454e44ae426082', 'hex'
) as pixel;

insert into invitations (id, organization_id, invited_by, email, name, token_hash, expires_at)
values ('{place}000000000060', '{place}000000000000', '{place}000000000004', 'secret-{letter}9@hotel.example', 'Secret {letter}',
  encode(sha256('secret-{letter}'), 'hex'), now() + interval '7 days');

insert into api_keys (id, organization_id, created_by, key, name, scopes)
values ('{place}000000000010', '{place}000000000000', '{place}000000000004', generate_api_key(), 'Secret {letter}',
  '["aurora:read", "analytics:read", "widgets:embed"]');

insert into subscriptions (
  id, organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end
) values (
  '{place}000000000020', '{place}000000000000', 'premium', 'Secret {letter}', 7000,
  date_trunc('month', now()), date_trunc('month', now()) + interval '1 month'
);

insert into coupons (id, percent) values (upper('SECRET-{letter}'), 10);
select app.redeem_coupon('{place}000000000000', upper('SECRET-{letter}'));

-- A draft may still be renamed; only then is it issued.
select app.bill_subscription('{place}000000000020', current_date);
update invoices set id = '{place}000000000030' where organization_id = '{place}000000000000';
select app.issue_invoice('{place}000000000030');
insert into billed_months (
  subscription_id, billed_at, organization_id, period_start, billable, usage_amount, base_amount
) values (
  '{place}000000000020', now(), '{place}000000000000', now() - interval '1 month', 1, 50, 50
);
insert into subscription_adjustments (
  organization_id, subscription_id, kind, reason, description, quantity, unit_price, amount, currency, period_start,
  period_end
) values (
  '{place}000000000000', '{place}000000000020', 'credit', 'change', 'Secret {letter}', 1, 1, 1, 'NOK', now(),
  now() + interval '1 day'
);

-- A part of it is credited, and a part is paid.
select app.draft_credit_note('{place}000000000030', 'Secret {letter}', p_amount => 1000);
update credit_notes set id = '{place}000000000031' where organization_id = '{place}000000000000';
select app.issue_credit_note('{place}000000000031');
insert into payments (id, organization_id, received_on, amount, currency, reference)
values ('{place}000000000032', '{place}000000000000', current_date, 100, 'NOK', 'secret-{letter}');
select app.allocate('{place}000000000030', '{place}000000000032');
select app.exempt_organization('{place}000000000000', null, 'Secret {letter}');
insert into overdue_steps (organization_id, invoice_id, kind, place, days_late, amount_due)
values ('{place}000000000000', '{place}000000000030', 'reminder', 1, 7, 1);
insert into billing_profiles (organization_id, order_reference) values ('{place}000000000000', 'Secret {letter}');

insert into notifications (organization_id, user_id, type, title, message)
select '{place}000000000000', ('{place}00000000000' || n)::uuid, 'usage_limit', 'Secret {letter}', 'Secret {letter}'
from generate_series(1, 4) n;

insert into widget_instances (organization_id, id, api_key_id, widget_type, instance_id, origin)
values ('{place}000000000000', '{place}000000000040', '{place}000000000010', 'forecast', 'secret-{letter}',
  'https://secret-{letter}.example');

-- Folded usage of a closed day; unfolded.sql adds what is not folded.
select track_usage('{place}000000000000', '{place}000000000010', '/secret-{letter}', p_event_id => 'one',
  p_ip_address => '192.0.2.1', p_timestamp => now() - interval '2 days', p_response_time_ms => 5);
select track_usage('{place}000000000000', '{place}000000000010', '/secret-{letter}', p_event_id => 'wrong');
select app.reverse_usage(jsonb_build_array(jsonb_build_object(
  'ordinal', 0, 'organization_id', '{place}000000000000', 'event_key', app.usage_event_key(null, 'back'), 'digest', 1,
  'event_id', 'back', 'reverses', app.usage_event_key(null, 'wrong'), 'timestamp', now(), 'metadata', '{}'::jsonb
)));
select app.quarantine_usage(jsonb_build_array(jsonb_build_object(
  'ordinal', 0, 'organization_id', '{place}000000000000', 'event_key', app.usage_event_key(null, 'old'), 'digest', 1,
  'reason', 'secret-{letter}', 'timestamp', now() - interval '90 days', 'event', '{"id": "secret-{letter}"}'::jsonb
)), 10);
select app.fold_usage();
select app.count_closed_visitors();
insert into usage_imports (organization_id, file_key, file_name)
values ('{place}000000000000', 'secret-{letter}', 'secret-{letter}.log');

select app.lease_requests('{place}000000000000', '{place}000000000010', 1000, null, 1, 1);

insert into replies (caller, key_digest, request_digest, sealed)
values ('key:{place}000000000010', sha256('secret-{letter}'), sha256('secret-{letter}'), 'secret-{letter}');
