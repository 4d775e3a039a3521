-- Invoices that somebody writes: lines as they were entered, priced anew for as long as they are a draft.

create or replace function app.check_entered_line(p_line jsonb, p_number integer) returns void
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_quantity constant numeric := (p_line ->> 'quantity')::numeric;
  v_price constant numeric := (p_line ->> 'unit_price')::numeric;
  v_base constant numeric := coalesce((p_line ->> 'base_quantity')::numeric, 1);
  v_wrong text;
begin
  v_wrong := case
    when coalesce(btrim(p_line ->> 'description'), '') = '' then 'has no description'
    when length(p_line ->> 'description') > 1000 then 'has a description of more than 1,000 characters'
    when length(p_line ->> 'unit') > 40 then 'has a unit of more than 40 characters'
    when v_quantity is null or not v_quantity > 0 then 'needs a quantity above zero'
    when v_price is null or not v_price >= 0 then 'needs a price of zero or more'
    when not v_base > 0 then 'has a price for a quantity that is not above zero'
    -- Infinity and NaN are no figures either: nothing is greater.
    when v_quantity > 1e9 or v_price > 1e10 or v_base > 1e9 or greatest(scale(v_quantity), scale(v_price), scale(v_base)) > 6
      then 'has a figure that is too large, or has more than six decimals'
    when (p_line ->> 'period_end')::date < coalesce((p_line ->> 'period_start')::date, (p_line ->> 'period_end')::date)
      then 'has a period that ends before it starts'
    -- What is sold has a rate; that it is exported, exempt, or reversed is known of the buyer.
    when p_line ->> 'tax_code' in ('export', 'export_eu', 'reverse_charge', 'exempt', 'not_registered')
      then format('has the tax code %s, which follows from who buys: see aurora billing profile', p_line ->> 'tax_code')
  end;
  if v_wrong is not null then
    perform app.refuse('invoice_line_invalid', format('Line %s %s.', p_number, v_wrong));
  end if;
end
$$;
comment on function app.check_entered_line(jsonb, integer) is
  'Refuses a line that somebody wrote and that no invoice can have; the number is its place, from 1.';

create or replace function app.lines_entered(p_lines jsonb, p_currency text, p_date date) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_lines jsonb := '[]'::jsonb;
  v_line jsonb;
  v_sum numeric := 0;
  v_amount numeric;
begin
  perform app.check_currency(p_currency);
  if p_date > (app.now() at time zone 'Europe/Oslo')::date + 366 then
    perform app.refuse('invoice_date_in_future', 'A draft is dated at most a year ahead.');
  end if;
  if coalesce(jsonb_typeof(p_lines), '') <> 'array' or p_lines = '[]' then
    perform app.refuse('invoice_incomplete', 'An invoice has at least one line.');
  elsif jsonb_array_length(p_lines) > 1000 then
    perform app.refuse('invoice_too_long', 'One document takes at most 1000 lines.');
  end if;
  for v_line in select l from jsonb_array_elements(p_lines) l loop
    perform app.check_entered_line(v_line, jsonb_array_length(v_lines) + 1);
    v_amount := app.round_money(
      (v_line ->> 'quantity')::numeric * (v_line ->> 'unit_price')::numeric / coalesce((v_line ->> 'base_quantity')::numeric, 1),
      p_currency
    );
    v_sum := v_sum + v_amount;
    v_lines := v_lines || jsonb_build_array(
      jsonb_build_object('kind', 'manual', 'unit', 'unit',
        'period_start', coalesce((v_line ->> 'period_start')::date, (v_line ->> 'period_end')::date, p_date),
        'period_end', coalesce((v_line ->> 'period_end')::date, (v_line ->> 'period_start')::date, p_date))
      || v_line || jsonb_build_object('quantity', (v_line ->> 'quantity')::numeric,
        'unit_price', (v_line ->> 'unit_price')::numeric, 'amount', v_amount)
    );
  end loop;
  if v_sum = 0 or v_sum >= 1e11 then
    perform app.refuse('invoice_line_invalid', 'The lines together come to nothing, or to more than an invoice holds.');
  end if;
  return v_lines;
end
$$;
comment on function app.lines_entered(jsonb, text, date) is
  'Lines that somebody wrote, as a document of a day holds them: [{"description", "quantity", "unit_price"}], and where they differ unit, base_quantity, tax_code, and period.';

create or replace function app.draft_manual_invoice(
  p_organization_id uuid, p_lines jsonb, p_currency text default 'NOK', p_date date default null, p_notes jsonb default '[]'
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_date constant date := coalesce(p_date, (app.now() at time zone 'Europe/Oslo')::date);
begin
  return (app.insert_invoice(
    p_organization_id, app.lines_entered(p_lines, p_currency, v_date), p_currency, v_date, p_notes => p_notes,
    p_terms => jsonb_build_object('entered', jsonb_strip_nulls(jsonb_build_object('lines', p_lines, 'on', p_date)))
  )).id;
end
$$;
comment on function app.draft_manual_invoice(uuid, jsonb, text, date, jsonb) is
  'A draft of lines somebody wrote, dated the day it is issued unless a day is named; returns its id.';

create or replace function app.price_draft(
  p_invoice public.invoices, p_entered jsonb, p_currency text, p_notes jsonb
) returns public.invoices
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_date constant date := coalesce((p_entered ->> 'on')::date, (app.now() at time zone 'Europe/Oslo')::date);
  v_sale record;
  v_invoice public.invoices;
begin
  -- Who sells, who buys, VAT, and rates are those of now: the draft waited, and none of them did.
  select * into strict v_sale from app.sale_of(
    p_invoice.organization_id, app.lines_entered(p_entered -> 'lines', p_currency, v_date), p_currency, v_date);
  update public.invoices i set
    legal_entity_id = v_sale.legal_entity_id, invoice_date = v_date, due_date = v_sale.due_date,
    period_start = (select min((l ->> 'period_start')::date) from jsonb_array_elements(v_sale.line_items) l),
    period_end = (select max((l ->> 'period_end')::date) from jsonb_array_elements(v_sale.line_items) l),
    subtotal = v_sale.subtotal, tax_amount = v_sale.tax_amount, total = v_sale.subtotal + v_sale.tax_amount,
    tax_rate = case when jsonb_array_length(v_sale.tax_lines) = 1 then (v_sale.tax_lines #>> '{0,rate}')::numeric end,
    currency = p_currency, tax_amount_nok = case when p_currency = 'NOK' then v_sale.tax_amount else v_sale.tax_amount_nok end,
    exchange_rate = v_sale.nok, exchange_rate_on = v_sale.nok_on, exchange_rate_source = v_sale.nok_source,
    line_items = v_sale.line_items, tax_lines = v_sale.tax_lines, seller = v_sale.seller, buyer = v_sale.buyer,
    terms = jsonb_build_object('entered', p_entered), notes = p_notes, language = v_sale.language
  where i.id = p_invoice.id returning * into v_invoice;
  return v_invoice;
end
$$;
comment on function app.price_draft(public.invoices, jsonb, text, jsonb) is
  'Computes a locked draft anew from lines that somebody wrote, with parties, VAT, and rates as they are now.';

create or replace function app.change_draft(p_invoice_id uuid, p_changes jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
begin
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for no key update;
  if not found or v_invoice.status <> 'draft' then
    perform app.refuse('invoice_not_draft', 'Only a draft can be changed; an issued invoice is corrected by a credit note.');
  elsif not v_invoice.terms ? 'entered' then
    perform app.refuse('invoice_not_entered', 'The lines of this draft follow from its subscription; only what somebody wrote can be changed.');
  end if;
  perform app.price_draft(
    v_invoice, jsonb_strip_nulls((v_invoice.terms -> 'entered') || (p_changes - '{currency,notes}'::text[])),
    coalesce(p_changes ->> 'currency', v_invoice.currency), coalesce(p_changes -> 'notes', v_invoice.notes)
  );
end
$$;
comment on function app.change_draft(uuid, jsonb) is
  'Changes what is named of a draft that somebody wrote: lines, on (null: the day it is issued), currency, notes.';
