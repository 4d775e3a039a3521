-- Who may see invoices: admins and owners of the organization, and the organization itself.

revoke execute on function
  app.tax_for(text, date, boolean), app.mod10(text), calculate_monthly_bill(uuid, timestamptz),
  app.rate_usage(public.subscription_terms, bigint, bigint), app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz), app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, boolean),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
from public;
grant execute on function
  app.tax_for(text, date, boolean), app.mod10(text), calculate_monthly_bill(uuid, timestamptz),
  app.rate_usage(public.subscription_terms, bigint, bigint), app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz), app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, boolean),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
to service_role;

revoke all on legal_entities, invoice_counters, invoices from public, anon, authenticated, service_role, tenant;
grant select, insert, update on legal_entities, invoice_counters to service_role;
grant select, insert, update, delete on invoices to service_role;
grant select on invoices to authenticated, tenant;

drop policy if exists "The platform keeps the sellers" on legal_entities;
create policy "The platform keeps the sellers" on legal_entities to service_role using (true) with check (true);
drop policy if exists "The platform counts invoices" on invoice_counters;
create policy "The platform counts invoices" on invoice_counters to service_role using (true) with check (true);
drop policy if exists "The platform acts on every invoice" on invoices;
create policy "The platform acts on every invoice" on invoices to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's issued invoices" on invoices;
create policy "Admins see their organization's issued invoices" on invoices
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))) and status not in ('draft', 'void'))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its issued invoices" on invoices;
create policy "An organization sees its issued invoices" on invoices
  for select to tenant
  using (organization_id = any (app.visible_organizations()) and status not in ('draft', 'void'));
