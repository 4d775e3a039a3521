-- Numbers, what is checked before one is given, and what protects the document that has one.

create or replace function app.check_parties(p_seller jsonb, p_buyer jsonb, p_tax_lines jsonb) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_number constant text := p_buyer ->> 'org_number';
  v_norwegian constant boolean := p_buyer ->> 'country' in ('NO', 'SJ');
begin
  -- A specimen is no document yet, so that a new installation can be tried with half-entered customers.
  if not coalesce((p_seller ->> 'is_specimen')::boolean, false)
    and (coalesce(p_buyer ->> 'name', '') = '' or coalesce(p_buyer ->> 'address', v_number, '') = '')
  then
    perform app.refuse('invoice_incomplete',
      'The law asks for the buyer''s name and address or organization number (bokføringsforskriften § 5-1-2).');
  end if;
  if p_seller ->> 'country' = 'NO' and not app.is_org_number(p_seller ->> 'org_number') then
    perform app.refuse('einvoice_blocked', 'The seller''s organization number has a wrong check digit (MOD11).');
  end if;
  if p_buyer ->> 'einvoice' = 'never' then
    return;
  end if;
  if p_buyer ->> 'einvoice' = 'required' and (not v_norwegian or v_number is null) then
    perform app.refuse('einvoice_blocked', 'The buyer wants an e-invoice, and has no Norwegian organization number to send it to.');
  end if;
  if v_norwegian and v_number is not null and not app.is_org_number(v_number) then
    perform app.refuse('einvoice_blocked', format(
      'The buyer''s organization number %s has a wrong check digit (MOD11), so no e-invoice can be made: correct it, or set e-invoices to never.',
      v_number
    ));
  end if;
  if v_norwegian and p_buyer ->> 'vat_number' is not null and not (
    p_buyer ->> 'vat_number' ~ '^NO[0-9]{9}MVA$' and app.is_org_number(substr(p_buyer ->> 'vat_number', 3, 9))
  ) then
    perform app.refuse('einvoice_blocked', 'The buyer''s VAT number is not one of Norway: NO, the organization number, and MVA.');
  end if;
  if p_tax_lines @> '[{"category": "AE"}]' and p_buyer ->> 'vat_number' is null then
    perform app.refuse('einvoice_blocked', 'Reverse charge needs the buyer''s VAT number: the buyer is who accounts for the VAT.');
  end if;
end
$$;
comment on function app.check_parties(jsonb, jsonb, jsonb) is
  'Refuses, before a number is given, what no lawful document or no valid e-invoice could be made of.';

create or replace function app.next_number(p_legal_entity_id text, p_series text) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
  -- The counter's row is locked from here to the commit: taken last, so that others wait the least.
  insert into public.invoice_counters as c (legal_entity_id, series, last_number)
  values (p_legal_entity_id, p_series, 1)
  on conflict (legal_entity_id, series) do update set last_number = c.last_number + 1
  returning c.last_number
$$;
comment on function app.next_number(text, text) is 'The next number of a series, given back if the transaction is.';

create or replace function app.padded(p_number bigint) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- lpad() alone would cut the millionth number to six digits and give out an old one.
  return lpad(p_number::text, greatest(6, length(p_number::text)), '0');
end
$$;
comment on function app.padded(bigint) is 'A number of a series with six digits at least.';

create or replace function app.take_number(p_legal_entity_id text, p_date date, out invoice_number text, out kid text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_series text;
  v_number text;
begin
  select e.invoice_prefix || '-' || to_char(p_date, 'YYYY') into strict v_series
  from public.legal_entities e where e.id = p_legal_entity_id;
  v_number := app.padded(app.next_number(p_legal_entity_id, v_series));
  invoice_number := v_series || '-' || v_number;
  kid := to_char(p_date, 'YYYY') || v_number;
  kid := kid || app.mod10(kid);
end
$$;
comment on function app.take_number(text, date) is
  'The next invoice number of a seller''s series (INV-2026-000001) and its KID; take it last in the transaction.';

create or replace function app.complete_invoice(p_invoice public.invoices) returns public.invoices
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_lines jsonb;
  v_sale record;
  v_invoice public.invoices;
begin
  -- Written with the founding schema's columns alone: who sells, who buys, and the VAT are looked up now.
  select jsonb_agg(
    jsonb_build_object('kind', 'manual', 'unit', 'unit', 'period_start', p_invoice.period_start, 'period_end', p_invoice.period_end) || l
  ) into v_lines from jsonb_array_elements(p_invoice.line_items) l;
  select * into strict v_sale
  from app.sale_of(p_invoice.organization_id, v_lines, p_invoice.currency, p_invoice.invoice_date);
  if (v_sale.subtotal, v_sale.tax_amount) is distinct from (p_invoice.subtotal, p_invoice.tax_amount) then
    perform app.refuse('invoice_incomplete', format(
      'The lines add up to %s and %s VAT, and the invoice says %s and %s.',
      v_sale.subtotal, v_sale.tax_amount, p_invoice.subtotal, p_invoice.tax_amount
    ));
  end if;
  update public.invoices set
    line_items = v_sale.line_items, tax_lines = v_sale.tax_lines, buyer = v_sale.buyer, language = v_sale.language,
    seller = v_sale.seller, exchange_rate = v_sale.nok, exchange_rate_on = v_sale.nok_on,
    exchange_rate_source = v_sale.nok_source,
    tax_amount_nok = case when currency = 'NOK' then tax_amount else v_sale.tax_amount_nok end
  where id = p_invoice.id returning * into v_invoice;
  return v_invoice;
end
$$;
comment on function app.complete_invoice(public.invoices) is
  'Gives a draft that has amounts and lines alone its seller, buyer, and VAT; refuses one whose amounts do not add up.';

create or replace function app.issue_invoice(p_invoice_id uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_given record;
begin
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for no key update;
  if not found or v_invoice.status <> 'draft' then
    perform app.refuse('invoice_not_draft', 'Only a draft can be issued.');
  end if;
  if v_invoice.terms ? 'entered' then
    v_invoice := app.price_draft(v_invoice, v_invoice.terms -> 'entered', v_invoice.currency, v_invoice.notes);
    if v_invoice.invoice_date > (app.now() at time zone 'Europe/Oslo')::date then
      perform app.refuse('invoice_date_in_future', format('The draft is dated %s: issue it then, or change its date.', v_invoice.invoice_date));
    end if;
  elsif v_invoice.buyer = '{}' then
    v_invoice := app.complete_invoice(v_invoice);
  end if;
  perform app.check_parties(v_invoice.seller, v_invoice.buyer, v_invoice.tax_lines);
  if v_invoice.currency <> 'NOK' and v_invoice.tax_amount <> 0 and v_invoice.tax_amount_nok is null then
    perform app.exchange_rate_on(v_invoice.currency, v_invoice.invoice_date);
  end if;
  select * into strict v_given from app.take_number(v_invoice.legal_entity_id, v_invoice.invoice_date);
  update public.invoices set
    status = 'issued', issued_at = app.now(), invoice_number = v_given.invoice_number, kid = v_given.kid
  where id = p_invoice_id;
  -- What the customer has to its credit settles the new invoice first.
  perform app.apply_balance(v_invoice.organization_id, p_invoice_id);
  return v_given.invoice_number;
end
$$;
comment on function app.issue_invoice(uuid) is
  'Gives a draft the next number of its series (INV-2026-000001) and its KID; call it last in the transaction.';

create or replace function app.void_invoice(p_invoice_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update public.invoices i set status = 'void' where i.id = p_invoice_id and i.status = 'draft';
  if not found then
    perform app.refuse('invoice_not_draft', 'Only a draft can be made void; an issued invoice is credited.');
  end if;
end
$$;
comment on function app.void_invoice(uuid) is 'Puts a draft aside; what has a number can only be credited.';

create or replace function app.protect_issued_document() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What happens to a document moves; the document does not. Generated columns are not computed yet.
  v_movable constant text[] := array[
    'status', 'sent_at', 'paid_at', 'payment_method', 'stripe_invoice_id', 'pdf_url', 'metadata', 'updated_at',
    'amount_credited', 'amount_settled', 'amount_allocated', 'amount_due', 'amount_open', 'seller_logo_sha256',
    'buyer_logo_sha256'
  ];
begin
  if old.status in ('draft', 'void') then
    return case tg_op when 'DELETE' then old else new end;
  end if;
  if tg_op = 'DELETE' then
    perform app.refuse('invoice_immutable', 'An issued document is never deleted; an invoice is corrected by a credit note.');
  end if;
  if to_jsonb(old) - v_movable <> to_jsonb(new) - v_movable then
    perform app.refuse('invoice_immutable', 'An issued document is never changed; an invoice is corrected by a credit note.');
  end if;
  if new.status in ('draft', 'void') then
    perform app.refuse('invoice_immutable', 'An issued document cannot become a draft or void again.');
  end if;
  return new;
end
$$;
comment on function app.protect_issued_document() is
  'Trigger: bokføringsloven section 13 in the database: issued documents are neither changed nor deleted.';

create or replace function app.refuse_history_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.refuse('invoice_immutable', 'This row is history; it is neither changed nor deleted.');
  return null;
end
$$;
comment on function app.refuse_history_change() is 'Trigger: rows that are only ever added.';

create or replace trigger invoices_protect_issued before update or delete on invoices
  for each row execute function app.protect_issued_document();
create or replace trigger credit_notes_protect_issued before update or delete on credit_notes
  for each row execute function app.protect_issued_document();
create or replace trigger allocations_refuse_change before update or delete on allocations
  for each row execute function app.refuse_history_change();
create or replace trigger invoices_touch_updated_at before update on invoices
  for each row execute function app.touch_updated_at();
create or replace trigger billing_profiles_touch_updated_at before update on billing_profiles
  for each row execute function app.touch_updated_at();
create or replace trigger legal_entities_touch_updated_at before update on legal_entities
  for each row execute function app.touch_updated_at();
-- The document itself is immutable and stays; the audit tells what happened to it.
select app.audit_table(
  'public.invoices', 'invoice',
  '{organization_id,subscription_id,legal_entity_id,kind,invoice_number,invoice_date,due_date,issued_at,sent_at,kid,period_start,period_end,billed_at,subtotal,tax_rate,tax_amount,total,currency,tax_amount_nok,exchange_rate,status,paid_at,stripe_invoice_id,payment_method,amount_credited,amount_settled}',
  p_ignored => '{created_at,amount_due,seller_logo_sha256,buyer_logo_sha256}',
  p_verbs => '{insert=invoice_number:issued,insert:drafted,invoice_number:issued,status=paid:paid,status=credited:credited,status=sent:sent,status=overdue:overdue,status=void:voided,amount_settled:settled}'
);
select app.audit_table(
  'public.credit_notes', 'credit_note',
  '{organization_id,invoice_id,legal_entity_id,credit_note_number,credit_note_date,issued_at,sent_at,reason,period_start,period_end,subtotal,tax_amount,total,currency,tax_amount_nok,exchange_rate,status,amount_allocated}',
  p_ignored => '{created_at,amount_open,seller_logo_sha256,buyer_logo_sha256}',
  p_verbs => '{insert:drafted,credit_note_number:issued,status=sent:sent,amount_allocated:allocated}'
);
select app.audit_table(
  'public.payments', 'payment',
  '{organization_id,legal_entity_id,received_on,amount,currency,method,reference,amount_allocated,reversed_at,reversal_reason}',
  p_ignored => '{created_at,amount_open}',
  p_verbs => '{insert:entered,reversed_at:reversed,amount_allocated:allocated}'
);
select app.audit_table(
  'public.billing_profiles', 'billing_profile',
  '{organization_id,legal_entity_id,vat_area,vat_treatment,exemption_reason,einvoice,order_reference,payment_days}',
  p_ignored => '{created_at}'
);
select app.audit_table(
  'public.legal_entities', 'seller',
  '{is_specimen,name,org_number,vat_registered,in_business_register,address,postal_code,city,country,email,phone,website,bank_account,iban,bic,time_zone,invoice_prefix,credit_note_prefix,payment_days,logo_sha256}',
  p_ignored => '{created_at}', p_verbs => '{logo_sha256:logo_changed}', p_owner => ''
);

-- Until the real seller is entered there is a specimen, and its documents say so in large letters.
insert into legal_entities (
  id, is_specimen, name, org_number, address, postal_code, city, email, website, bank_account
) values (
  'default', true, 'Eksempel AS', '987654325', 'Storgata 1', '9008', 'Tromsø', 'faktura@example.com',
  'https://example.com', '12345678903'
) on conflict (id) do nothing;
