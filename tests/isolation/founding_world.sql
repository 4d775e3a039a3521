-- One organization of the founding schema with a row in every table.
insert into organizations (id, name, slug, email) values ('{place}000000000000', 'Secret', '{letter}', '{letter}@a.no');
insert into users (id, organization_id, auth_id, email, name, role)
select ('{place}00000000000' || n)::uuid, '{place}000000000000', ('{place}00000000000' || n)::uuid,
  '{letter}' || n || '@a.no', 'Secret', (array['viewer', 'member', 'admin', 'owner'])[n]
from generate_series(1, 4) n;
insert into users (id, organization_id, email, name)
values ('{place}000000000005', '{place}000000000000', '{letter}5@a.no', 'Secret');
insert into api_keys (id, organization_id, key, key_prefix, key_hash, name)
values ('{place}000000000010', '{place}000000000000', 'tro_live_' || repeat('{letter}', 32), 'tro_live_', 'x', 'Secret');
insert into subscriptions (
  id, organization_id, plan_id, plan_name, price_monthly, current_period_start, current_period_end
) values ('{place}000000000020', '{place}000000000000', 'basic', 'Basic', 1, now(), now() + interval '1 month');
insert into invoices (
  organization_id, subscription_id, invoice_number, due_date, period_start, period_end, subtotal, tax_amount, total,
  line_items
) values ('{place}000000000000', '{place}000000000020', '{letter}', now(), now(), now(), 1, 1, 1, '[]');
insert into notifications (organization_id, user_id, type, title, message)
select '{place}000000000000', ('{place}00000000000' || n)::uuid, 'usage_limit', 'Secret', 'Secret'
from generate_series(1, 4) n;
insert into widget_instances (organization_id, api_key_id, widget_type, instance_id, origin)
values ('{place}000000000000', '{place}000000000010', 'forecast', '{letter}', 'https://a.no');
insert into usage_analytics (organization_id, api_key_id, endpoint, status_code)
values ('{place}000000000000', '{place}000000000010', '/', 200);
refresh materialized view daily_usage_summary;
