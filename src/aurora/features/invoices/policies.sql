-- Who may see invoices: admins and owners of the organization, and the organization itself.

revoke execute on function
  app.check_currency(text),
  app.buyer_snapshot(uuid),
  app.seller_snapshot(public.legal_entities),
  app.tax_code_of(boolean, jsonb, text),
  app.tax_rate_on(text, date),
  app.exchange_rate_on(text, date),
  app.lines_with_tax(jsonb, boolean, jsonb, date),
  app.tax_lines_of(jsonb, text, numeric, date, text),
  app.late_interest(uuid, date),
  app.replay_invoice(public.invoices),
  app.sale_of(uuid, jsonb, text, date),
  app.insert_invoice(uuid, jsonb, text, date, public.subscriptions, timestamptz, jsonb, boolean, jsonb),
  app.bill_lines(uuid, timestamptz, text),
  app.draft_invoice(public.subscriptions, date, jsonb, boolean, timestamptz),
  app.draft_manual_invoice(uuid, jsonb, text, date, jsonb),
  app.check_entered_line(jsonb, integer),
  app.lines_entered(jsonb, text, date),
  app.price_draft(public.invoices, jsonb, text, jsonb),
  app.change_draft(uuid, jsonb),
  app.bill_subscription(uuid, date),
  app.make_bill(public.subscriptions, date, boolean),
  app.claim_due(date, uuid, uuid[]),
  app.bill_next(date, uuid, uuid[], boolean),
  app.check_parties(jsonb, jsonb, jsonb),
  app.next_number(text, text),
  app.take_number(text, date),
  app.padded(bigint),
  app.issue_invoice(uuid),
  app.complete_invoice(public.invoices),
  app.void_invoice(uuid),
  app.protect_issued_document(),
  app.refuse_history_change(),
  app.creditable_lines(public.invoices, integer),
  app.lines_to_credit(jsonb, jsonb, numeric, text),
  app.tax_to_credit(public.invoices, jsonb, integer),
  app.lines_of_credit(public.invoices, jsonb, integer),
  app.replay_credit_note(public.credit_notes),
  app.credit_of_adjustment(public.subscription_adjustments, integer),
  app.draft_credit_note(uuid, text, jsonb, date, numeric),
  app.issue_credit_note(uuid),
  app.credit_invoice(uuid, text, jsonb, date, numeric),
  app.count_credit(),
  app.find_charged_line(public.subscription_adjustments),
  app.credit_reason(text, text),
  app.settle_credit(),
  app.charging_moment(public.subscriptions),
  app.charge_at_once(),
  app.credit_what_is_over(public.subscriptions, timestamptz),
  app.billed_usage(public.subscriptions, timestamptz),
  app.adjust_late_usage(public.subscriptions),
  app.record_billed_month(public.subscriptions, jsonb),
  app.after_coupons(public.subscriptions, timestamptz, numeric),
  app.insert_late_usage(public.subscriptions, public.billed_months, bigint, numeric),
  app.billing_grace(),
  app.simulate_terms(public.subscriptions, public.subscription_terms, integer),
  app.simulate_plan(text, jsonb, integer, text, uuid),
  app.usage_is_folded(uuid, timestamptz),
  app.enqueue_delivery(uuid),
  app.deliver_invoice(uuid),
  app.deliver_credit_notes(integer),
  app.settle_allocation(),
  app.allocate(uuid, uuid, uuid, numeric),
  app.apply_balance(uuid, uuid),
  app.enter_payment(uuid, numeric, text, date, text, text, uuid),
  app.reverse_payment(uuid, text),
  app.mark_overdue(integer),
  app.rate_usage(public.subscription_terms, bigint, bigint),
  app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz),
  app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, text[]),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.mod10(text), calculate_monthly_bill(uuid, timestamptz)
from public;
grant execute on function
  app.check_currency(text),
  app.buyer_snapshot(uuid),
  app.seller_snapshot(public.legal_entities),
  app.tax_code_of(boolean, jsonb, text),
  app.tax_rate_on(text, date),
  app.exchange_rate_on(text, date),
  app.lines_with_tax(jsonb, boolean, jsonb, date),
  app.tax_lines_of(jsonb, text, numeric, date, text),
  app.late_interest(uuid, date),
  app.replay_invoice(public.invoices),
  app.sale_of(uuid, jsonb, text, date),
  app.insert_invoice(uuid, jsonb, text, date, public.subscriptions, timestamptz, jsonb, boolean, jsonb),
  app.bill_lines(uuid, timestamptz, text),
  app.draft_invoice(public.subscriptions, date, jsonb, boolean, timestamptz),
  app.draft_manual_invoice(uuid, jsonb, text, date, jsonb),
  app.check_entered_line(jsonb, integer),
  app.lines_entered(jsonb, text, date),
  app.price_draft(public.invoices, jsonb, text, jsonb),
  app.change_draft(uuid, jsonb),
  app.bill_subscription(uuid, date),
  app.make_bill(public.subscriptions, date, boolean),
  app.claim_due(date, uuid, uuid[]),
  app.bill_next(date, uuid, uuid[], boolean),
  app.check_parties(jsonb, jsonb, jsonb),
  app.next_number(text, text),
  app.take_number(text, date),
  app.padded(bigint),
  app.issue_invoice(uuid),
  app.complete_invoice(public.invoices),
  app.void_invoice(uuid),
  app.protect_issued_document(),
  app.refuse_history_change(),
  app.creditable_lines(public.invoices, integer),
  app.lines_to_credit(jsonb, jsonb, numeric, text),
  app.tax_to_credit(public.invoices, jsonb, integer),
  app.lines_of_credit(public.invoices, jsonb, integer),
  app.replay_credit_note(public.credit_notes),
  app.credit_of_adjustment(public.subscription_adjustments, integer),
  app.draft_credit_note(uuid, text, jsonb, date, numeric),
  app.issue_credit_note(uuid),
  app.credit_invoice(uuid, text, jsonb, date, numeric),
  app.count_credit(),
  app.find_charged_line(public.subscription_adjustments),
  app.credit_reason(text, text),
  app.settle_credit(),
  app.charging_moment(public.subscriptions),
  app.charge_at_once(),
  app.credit_what_is_over(public.subscriptions, timestamptz),
  app.billed_usage(public.subscriptions, timestamptz),
  app.adjust_late_usage(public.subscriptions),
  app.record_billed_month(public.subscriptions, jsonb),
  app.after_coupons(public.subscriptions, timestamptz, numeric),
  app.insert_late_usage(public.subscriptions, public.billed_months, bigint, numeric),
  app.billing_grace(),
  app.simulate_terms(public.subscriptions, public.subscription_terms, integer),
  app.simulate_plan(text, jsonb, integer, text, uuid),
  app.usage_is_folded(uuid, timestamptz),
  app.enqueue_delivery(uuid),
  app.deliver_invoice(uuid),
  app.deliver_credit_notes(integer),
  app.settle_allocation(),
  app.allocate(uuid, uuid, uuid, numeric),
  app.apply_balance(uuid, uuid),
  app.enter_payment(uuid, numeric, text, date, text, text, uuid),
  app.reverse_payment(uuid, text),
  app.mark_overdue(integer),
  app.rate_usage(public.subscription_terms, bigint, bigint),
  app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz),
  app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, text[]),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.mod10(text), calculate_monthly_bill(uuid, timestamptz)
to service_role;

revoke all on
  legal_entities, invoice_counters, invoices, credit_notes, payments, allocations,
  billing_profiles, tax_rates, exchange_rates, late_interest_rates, billed_months
from public, anon, authenticated, service_role, tenant;
grant select, insert, update on
  legal_entities, invoice_counters, credit_notes, payments, billing_profiles, billed_months,
  tax_rates, exchange_rates, late_interest_rates
to service_role;
grant select, insert on allocations to service_role;
grant select, insert, update, delete on invoices to service_role;
grant select on invoices, credit_notes, payments, allocations, billing_profiles to authenticated, tenant;

drop policy if exists "The platform keeps the sellers" on legal_entities;
create policy "The platform keeps the sellers" on legal_entities to service_role using (true) with check (true);
drop policy if exists "The platform counts invoices" on invoice_counters;
create policy "The platform counts invoices" on invoice_counters to service_role using (true) with check (true);
drop policy if exists "The platform counts what was billed" on billed_months;
create policy "The platform counts what was billed" on billed_months to service_role using (true) with check (true);
drop policy if exists "The platform keeps the VAT rates" on tax_rates;
create policy "The platform keeps the VAT rates" on tax_rates to service_role using (true) with check (true);
drop policy if exists "The platform keeps the exchange rates" on exchange_rates;
create policy "The platform keeps the exchange rates" on exchange_rates to service_role using (true) with check (true);
drop policy if exists "The platform keeps the late interest" on late_interest_rates;
create policy "The platform keeps the late interest" on late_interest_rates to service_role using (true) with check (true);

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

drop policy if exists "The platform acts on every credit notes" on credit_notes;
create policy "The platform acts on every credit notes" on credit_notes to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's issued credit notes" on credit_notes;
create policy "Admins see their organization's issued credit notes" on credit_notes
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))) and status <> 'draft')
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its issued credit notes" on credit_notes;
create policy "An organization sees its issued credit notes" on credit_notes
  for select to tenant
  using (organization_id = any (app.visible_organizations()) and status <> 'draft');

drop policy if exists "The platform acts on every payments" on payments;
create policy "The platform acts on every payments" on payments to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's payments" on payments;
create policy "Admins see their organization's payments" on payments
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its payments" on payments;
create policy "An organization sees its payments" on payments
  for select to tenant
  using (organization_id = any (app.visible_organizations()));

drop policy if exists "The platform acts on every allocations" on allocations;
create policy "The platform acts on every allocations" on allocations to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's allocations" on allocations;
create policy "Admins see their organization's allocations" on allocations
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its allocations" on allocations;
create policy "An organization sees its allocations" on allocations
  for select to tenant
  using (organization_id = any (app.visible_organizations()));

drop policy if exists "The platform acts on every billing profile" on billing_profiles;
create policy "The platform acts on every billing profile" on billing_profiles to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's billing profile" on billing_profiles;
create policy "Admins see their organization's billing profile" on billing_profiles
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its billing profile" on billing_profiles;
create policy "An organization sees its billing profile" on billing_profiles
  for select to tenant
  using (organization_id = any (app.visible_organizations()));
