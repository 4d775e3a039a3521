-- Issued documents, computed anew from the facts as they are stored now.

create or replace function app.replay_invoice(p_invoice public.invoices) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_lines jsonb;
  v_taxes jsonb;
  v_taxable numeric;
  v_tax numeric;
  v_tax_nok numeric;
begin
  if p_invoice.kind = 'subscription' and p_invoice.billed_at is not null then
    v_lines := app.bill_lines(
      p_invoice.organization_id, p_invoice.billed_at, coalesce(p_invoice.terms ->> 'time_zone', 'Europe/Oslo'));
  elsif p_invoice.terms ? 'entered' then
    -- What somebody wrote is kept as it was entered, beside what the document made of it.
    v_lines := app.lines_entered(p_invoice.terms #> '{entered,lines}', p_invoice.currency, p_invoice.invoice_date);
  else
    -- A document that holds lines and nothing else is itself the fact: only its arithmetic is done again.
    select jsonb_agg((l - '{line,tax_category,tax_rate}'::text[]) || jsonb_build_object('amount', app.round_money(
      (l ->> 'quantity')::numeric * (l ->> 'unit_price')::numeric / coalesce((l ->> 'base_quantity')::numeric, 1),
      p_invoice.currency)) order by n)
    into v_lines from jsonb_array_elements(p_invoice.line_items) with ordinality e(l, n);
  end if;
  -- Seller, buyer, and exchange rate are those on the document; the rates of VAT are looked up by its day.
  v_lines := app.lines_with_tax(
    coalesce(v_lines, '[]'), (p_invoice.seller ->> 'vat_registered')::boolean, p_invoice.buyer, p_invoice.invoice_date);
  v_taxes := app.tax_lines_of(
    v_lines, p_invoice.currency, p_invoice.exchange_rate, p_invoice.invoice_date, p_invoice.buyer ->> 'exemption_reason');
  select sum((t ->> 'taxable')::numeric), sum((t ->> 'tax')::numeric), sum((t ->> 'tax_nok')::numeric)
  into v_taxable, v_tax, v_tax_nok from jsonb_array_elements(v_taxes) t;
  return jsonb_build_object('lines', v_lines, 'taxes', v_taxes,
    'subtotal', v_taxable::numeric(14, 2), 'tax_amount', v_tax::numeric(14, 2),
    'total', (v_taxable + v_tax)::numeric(14, 2),
    'tax_amount_nok', case when p_invoice.currency = 'NOK' then v_tax else v_tax_nok end::numeric(14, 2),
    'amount_credited', (
      select coalesce(sum(c.total), 0)::numeric(14, 2) from public.credit_notes c
      where c.organization_id = p_invoice.organization_id and c.invoice_id = p_invoice.id),
    'amount_settled', (
      select coalesce(sum(a.amount), 0)::numeric(14, 2) from public.allocations a
      where a.organization_id = p_invoice.organization_id and a.invoice_id = p_invoice.id));
end
$$;
comment on function app.replay_invoice(public.invoices) is
  'Lines, VAT, and sums of an issued invoice as the stored facts give them now; equal to what it says unless a fact changed.';

create or replace function app.replay_credit_note(p_note public.credit_notes) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_asked jsonb;
  v_lines jsonb;
  v_taxes jsonb;
  v_taxable numeric;
  v_tax numeric;
  v_tax_nok numeric;
begin
  select i.* into strict v_invoice from public.invoices i
  where i.organization_id = p_note.organization_id and i.id = p_note.invoice_id;
  -- What a change gave back stands in the change itself; what somebody asked for is the fact.
  select p_note.asked || jsonb_build_object('lines', jsonb_agg(coalesce(
    (select app.credit_of_adjustment(a, (l ->> 'line')::integer) from public.subscription_adjustments a
      where a.organization_id = p_note.organization_id and a.id = (l #>> '{facts,adjustment_id}')::uuid), l
  ) order by n)) into v_asked
  from jsonb_array_elements(p_note.asked -> 'lines') with ordinality e(l, n) having count(*) > 0;
  begin
    v_lines := app.lines_of_credit(v_invoice, coalesce(v_asked, p_note.asked), p_note.position);
  exception when sqlstate 'AU000' then
    -- The invoice, or the credits before it, leave no room for what was asked: then it gives no lines at all.
    v_lines := '[]';
  end;
  v_taxes := coalesce(app.tax_to_credit(v_invoice, v_lines, p_note.position), '[]');
  select sum((t ->> 'taxable')::numeric), sum((t ->> 'tax')::numeric), sum((t ->> 'tax_nok')::numeric)
  into v_taxable, v_tax, v_tax_nok from jsonb_array_elements(v_taxes) t;
  return jsonb_build_object('lines', v_lines, 'taxes', v_taxes,
    'subtotal', v_taxable::numeric(14, 2), 'tax_amount', v_tax::numeric(14, 2),
    'total', (v_taxable + v_tax)::numeric(14, 2),
    'tax_amount_nok', case when v_invoice.currency = 'NOK' then v_tax else v_tax_nok end::numeric(14, 2),
    'period_start', (select min((l ->> 'period_start')::date) from jsonb_array_elements(v_lines) l),
    'period_end', (select max((l ->> 'period_end')::date) from jsonb_array_elements(v_lines) l),
    'currency', v_invoice.currency, 'exchange_rate', v_invoice.exchange_rate, 'language', v_invoice.language,
    'seller', v_invoice.seller, 'buyer', v_invoice.buyer,
    'amount_allocated', (
      select coalesce(sum(a.amount), 0)::numeric(14, 2) from public.allocations a
      where a.organization_id = p_note.organization_id and a.credit_note_id = p_note.id));
end
$$;
comment on function app.replay_credit_note(public.credit_notes) is
  'An issued credit note as its invoice, the credits before it, and what was asked give it now; equal to it unless a fact changed.';
