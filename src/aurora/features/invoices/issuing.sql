-- Drafting, numbering, and what protects an issued document.

create or replace function app.draft_invoice(p_subscription public.subscriptions, p_invoice_date date)
returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_seller public.legal_entities;
  v_buyer public.organizations;
  v_tax record;
  v_lines jsonb;
  v_subtotal numeric;
  v_tax_amount numeric;
  v_start date;
  v_end date;
  v_id uuid;
begin
  select * into strict v_buyer from public.organizations o where o.id = p_subscription.organization_id;
  select * into v_seller from public.legal_entities e where e.id = 'default';
  if not found then
    perform app.refuse('seller_missing', 'No seller is entered: use aurora invoice seller.');
  end if;
  select * into strict v_tax from app.tax_for(v_buyer.country, p_invoice_date, v_seller.vat_registered);

  select
    jsonb_agg(
      jsonb_build_object(
        'kind', b.kind, 'description', b.description, 'quantity', b.quantity, 'unit', b.unit,
        'unit_price', b.unit_price, 'base_quantity', b.base_quantity, 'amount', b.amount, 'tax_category', v_tax.category, 'tax_rate', v_tax.rate,
        'period_start', (b.period_start at time zone p_subscription.time_zone)::date,
        'period_end', (b.period_end at time zone p_subscription.time_zone)::date - 1,
        'impressions', b.impressions, 'included', b.included, 'facts', b.facts
      ) order by b.line_number
    ),
    sum(b.amount),
    min((b.period_start at time zone p_subscription.time_zone)::date),
    max((b.period_end at time zone p_subscription.time_zone)::date - 1)
  into v_lines, v_subtotal, v_start, v_end
  from public.calculate_monthly_bill(p_subscription.organization_id, p_subscription.next_billing_at) b
  where b.amount <> 0;
  if v_lines is null then
    return null;
  end if;

  v_tax_amount := round(v_subtotal * v_tax.rate / 100, 2);
  insert into public.invoices (
    organization_id, subscription_id, legal_entity_id, invoice_date, due_date, period_start, period_end, billed_at,
    subtotal, tax_rate, tax_amount, total, currency, line_items, tax_lines, seller, buyer
  ) values (
    p_subscription.organization_id, p_subscription.id, v_seller.id, p_invoice_date,
    p_invoice_date + v_seller.payment_days, v_start, v_end, p_subscription.next_billing_at,
    v_subtotal, v_tax.rate, v_tax_amount, v_subtotal + v_tax_amount, p_subscription.currency, v_lines,
    jsonb_build_array(jsonb_build_object(
      'category', v_tax.category, 'rate', v_tax.rate, 'taxable', v_subtotal, 'tax', v_tax_amount,
      'reason', v_tax.reason
    )),
    to_jsonb(v_seller) - '{id,created_at,updated_at,time_zone,invoice_prefix,payment_days}'::text[],
    jsonb_build_object(
      'name', v_buyer.name, 'org_number', v_buyer.org_number, 'vat_number', v_buyer.vat_number,
      'address', v_buyer.address, 'postal_code', v_buyer.postal_code, 'city', v_buyer.city,
      'country', v_buyer.country, 'email', coalesce(v_buyer.billing_email, v_buyer.email),
      'reference', v_buyer.invoice_reference
    )
  ) returning id into v_id;
  return v_id;
end
$$;
comment on function app.draft_invoice(public.subscriptions, date) is
  'A draft for the subscription''s next billing moment with seller and buyer as they are now; null when nothing is owed.';

create or replace function app.bill_subscription(p_subscription_id uuid, p_as_of date) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_invoice_id uuid;
begin
  select s.* into strict v_sub from public.subscriptions s where s.id = p_subscription_id for update;
  v_invoice_id := app.draft_invoice(v_sub, p_as_of);
  perform app.advance_subscription(v_sub);
  return v_invoice_id;
end
$$;
comment on function app.bill_subscription(uuid, date) is
  'Drafts the invoice of a subscription''s next billing moment (null: nothing owed) and moves the subscription on.';

create or replace function app.issue_invoice(p_invoice_id uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_prefix text;
  v_series text;
  v_number bigint;
  v_reference text;
begin
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for update;
  if not found or v_invoice.status <> 'draft' then
    perform app.refuse('invoice_not_draft', 'Only a draft can be issued.');
  end if;
  select e.invoice_prefix into strict v_prefix from public.legal_entities e where e.id = v_invoice.legal_entity_id;
  v_series := v_prefix || '-' || to_char(v_invoice.invoice_date, 'YYYY');

  -- The counter's row is locked from here to the commit: taken last, so that others wait the least.
  insert into public.invoice_counters as c (legal_entity_id, series, last_number)
  values (v_invoice.legal_entity_id, v_series, 1)
  on conflict (legal_entity_id, series) do update set last_number = c.last_number + 1
  returning c.last_number into v_number;

  v_reference := to_char(v_invoice.invoice_date, 'YYYY') || lpad(v_number::text, 6, '0');
  update public.invoices set
    status = 'sent',
    issued_at = app.now(),
    invoice_number = v_series || '-' || lpad(v_number::text, 6, '0'),
    kid = v_reference || app.mod10(v_reference)
  where id = p_invoice_id;
  return v_series || '-' || lpad(v_number::text, 6, '0');
end
$$;
comment on function app.issue_invoice(uuid) is
  'Gives a draft the next number of its series (INV-2026-000001) and its KID; call it last in the transaction.';

create or replace function app.protect_issued_invoice() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- Payment moves; the document does not.
  v_movable constant text[] :=
    '{status,paid_at,payment_method,stripe_invoice_id,pdf_url,metadata,updated_at}'::text[];
begin
  if old.status in ('draft', 'void') then
    return case tg_op when 'DELETE' then old else new end;
  end if;
  if tg_op = 'DELETE' then
    perform app.refuse('invoice_immutable', 'An issued invoice is never deleted; correct it by a credit note.');
  end if;
  if to_jsonb(old) - v_movable <> to_jsonb(new) - v_movable then
    perform app.refuse('invoice_immutable', 'An issued invoice is never changed; correct it by a credit note.');
  end if;
  if new.status in ('draft', 'void') then
    perform app.refuse('invoice_immutable', 'An issued invoice cannot become a draft or void again.');
  end if;
  return new;
end
$$;
comment on function app.protect_issued_invoice() is
  'Trigger: bokføringsloven section 13 in the database: issued documents are neither changed nor deleted.';

create or replace trigger invoices_protect_issued before update or delete on invoices
  for each row execute function app.protect_issued_invoice();
create or replace trigger invoices_touch_updated_at before update on invoices
  for each row execute function app.touch_updated_at();
create or replace trigger legal_entities_touch_updated_at before update on legal_entities
  for each row execute function app.touch_updated_at();
-- The document itself is immutable and stays; the audit tells what happened to it.
select app.audit_table(
  'public.invoices', 'invoice',
  '{organization_id,subscription_id,legal_entity_id,kind,invoice_number,invoice_date,due_date,issued_at,kid,period_start,period_end,billed_at,subtotal,tax_rate,tax_amount,total,currency,status,paid_at,stripe_invoice_id,payment_method}',
  p_ignored => '{created_at}',
  p_verbs => '{insert:drafted,invoice_number:issued,status=paid:paid,status=overdue:overdue,status=void:voided}'
);
select app.audit_table(
  'public.legal_entities', 'seller',
  '{is_specimen,name,org_number,vat_registered,in_business_register,address,postal_code,city,country,email,phone,website,bank_account,iban,bic,time_zone,invoice_prefix,payment_days}',
  p_ignored => '{created_at}', p_owner => ''
);

-- Until the real seller is entered there is a specimen, and its documents say so in large letters.
insert into legal_entities (
  id, is_specimen, name, org_number, address, postal_code, city, email, website, bank_account
) values (
  'default', true, 'Eksempel AS', '987654325', 'Storgata 1', '9008', 'Tromsø', 'faktura@example.com',
  'https://example.com', '12345678903'
) on conflict (id) do nothing;
