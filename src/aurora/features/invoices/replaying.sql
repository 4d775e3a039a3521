-- An issued invoice, computed anew from the facts as they are stored now.

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
  else
    -- What somebody wrote is itself the fact: only its arithmetic is done again.
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
    'tax_amount_nok', case when p_invoice.currency = 'NOK' then v_tax else v_tax_nok end::numeric(14, 2));
end
$$;
comment on function app.replay_invoice(public.invoices) is
  'Lines, VAT, and sums of an issued invoice as the stored facts give them now; equal to what it says unless a fact changed.';
