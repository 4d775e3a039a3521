-- Drafting, checking, and numbering of invoices.

create or replace function app.sale_of(p_organization_id uuid, p_lines jsonb, p_currency text, p_date date)
returns table (
  legal_entity_id text, seller jsonb, buyer jsonb, line_items jsonb, tax_lines jsonb, subtotal numeric, tax_amount numeric,
  tax_amount_nok numeric, nok numeric, nok_on date, nok_source text, due_date date, language text
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_known record;
  v_seller public.legal_entities;
  v_rate public.exchange_rates;
begin
  perform app.check_currency(p_currency);
  select b.legal_entity_id, b.payment_days, o.settings ->> 'language' as language into v_known
  from public.organizations o left join public.billing_profiles b on b.organization_id = o.id
  where o.id = p_organization_id;
  select * into v_seller from public.legal_entities e where e.id = coalesce(v_known.legal_entity_id, 'default');
  if not found then
    perform app.refuse('seller_missing', 'No seller is entered: use aurora invoice seller.');
  end if;
  legal_entity_id := v_seller.id;
  seller := app.seller_snapshot(v_seller);
  buyer := app.buyer_snapshot(p_organization_id);
  line_items := app.lines_with_tax(p_lines, v_seller.vat_registered, buyer, p_date);
  -- Without VAT there is nothing to state in NOK, and an export needs no rate.
  if p_currency <> 'NOK' and exists (
    select from jsonb_array_elements(line_items) l where (l ->> 'tax_rate')::numeric > 0
  ) then
    v_rate := app.exchange_rate_on(p_currency, p_date);
    nok := v_rate.nok; nok_on := v_rate.valid_on; nok_source := v_rate.source;
  end if;
  tax_lines := app.tax_lines_of(line_items, p_currency, nok, p_date, buyer ->> 'exemption_reason');
  select sum((l ->> 'taxable')::numeric), sum((l ->> 'tax')::numeric), sum((l ->> 'tax_nok')::numeric)
  into subtotal, tax_amount, tax_amount_nok from jsonb_array_elements(tax_lines) l;
  due_date := p_date + coalesce(v_known.payment_days, v_seller.payment_days);
  language := coalesce(v_known.language, 'nb');
  return next;
end
$$;
comment on function app.sale_of(uuid, jsonb, text, date) is
  'What a sale of these lines on a day is: seller and buyer as they stand, VAT by line and category, and in NOK.';

create or replace function app.insert_invoice(
  p_organization_id uuid, p_lines jsonb, p_currency text, p_date date, p_subscription public.subscriptions default null,
  p_billed_at timestamptz default null, p_notes jsonb default '[]', p_issue boolean default false, p_terms jsonb default '{}'
) returns public.invoices
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sale record;
  v_given record;
  v_id constant uuid := gen_random_uuid();
  v_now constant timestamptz := app.now();
  v_invoice public.invoices;
begin
  if coalesce(jsonb_typeof(p_lines), '') <> 'array' or p_lines = '[]' then
    perform app.refuse('invoice_incomplete', 'An invoice has at least one line.');
  end if;
  select * into strict v_sale from app.sale_of(p_organization_id, p_lines, p_currency, p_date);
  if p_issue then
    perform app.check_parties(v_sale.seller, v_sale.buyer, v_sale.tax_lines);
    perform app.enqueue_delivery(v_id);
    -- From here on others wait: what is written below is all that is left before the commit.
    select * into strict v_given from app.take_number(v_sale.legal_entity_id, p_date);
  else
    select null::text as invoice_number, null::text as kid into v_given;
  end if;
  insert into public.invoices (
    id, created_at, updated_at, organization_id, subscription_id, legal_entity_id, kind, invoice_number, kid,
    issued_at, status, invoice_date, due_date, billed_at, period_start, period_end, subtotal, tax_rate, tax_amount, total, currency, tax_amount_nok,
    exchange_rate, exchange_rate_on, exchange_rate_source, line_items, tax_lines, seller, buyer, terms, notes, language
  )
  select v_id, v_now, v_now, p_organization_id, p_subscription.id, v_sale.legal_entity_id,
    case when p_subscription.id is null then 'manual' else 'subscription' end,
    v_given.invoice_number, v_given.kid, case when p_issue then v_now end,
    case when p_issue then 'issued' else 'draft' end, p_date, v_sale.due_date, p_billed_at,
    min((l ->> 'period_start')::date), max((l ->> 'period_end')::date),
    v_sale.subtotal,
    case when jsonb_array_length(v_sale.tax_lines) = 1 then (v_sale.tax_lines #>> '{0,rate}')::numeric end,
    v_sale.tax_amount, v_sale.subtotal + v_sale.tax_amount, p_currency,
    case when p_currency = 'NOK' then v_sale.tax_amount else v_sale.tax_amount_nok end,
    v_sale.nok, v_sale.nok_on, v_sale.nok_source,
    v_sale.line_items, v_sale.tax_lines, v_sale.seller, v_sale.buyer,
    case when p_subscription.id is null then p_terms else jsonb_strip_nulls(to_jsonb(p_subscription))
      - '{id,created_at,updated_at,organization_id,metadata,stripe_subscription_id,stripe_customer_id}'::text[] end,
    p_notes, v_sale.language
  from jsonb_array_elements(v_sale.line_items) l
  returning * into v_invoice;
  if p_issue then
    -- What the customer has to its credit settles the new invoice first.
    perform app.apply_balance(v_invoice.organization_id, v_invoice.id);
  end if;
  return v_invoice;
end
$$;
comment on function app.insert_invoice(uuid, jsonb, text, date, public.subscriptions, timestamptz, jsonb, boolean, jsonb) is
  'An invoice of these lines with seller, buyer, VAT, and rates as they are now: a draft, or issued at once with the next number, to be delivered.';

create or replace function app.bill_lines(p_organization_id uuid, p_billed_at timestamptz, p_time_zone text)
returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Every column of the bill comes along; dates are the seller's, and the last day is included.
  select jsonb_agg(
    jsonb_strip_nulls(to_jsonb(b)) - 'line_number' || jsonb_build_object(
      'period_start', (b.period_start at time zone p_time_zone)::date,
      'period_end', greatest((b.period_end at time zone p_time_zone)::date - 1, (b.period_start at time zone p_time_zone)::date)
    ) order by b.line_number
  )
  from public.calculate_monthly_bill(p_organization_id, p_billed_at) b
  where b.amount <> 0
$$;
comment on function app.bill_lines(uuid, timestamptz, text) is 'The lines of a bill as a document holds them; null when nothing is owed.';

create or replace function app.draft_invoice(
  p_subscription public.subscriptions, p_invoice_date date, p_lines jsonb, p_issue boolean default false,
  p_billed_at timestamptz default null
) returns public.invoices
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if p_lines is null or (select sum((l ->> 'amount')::numeric) from jsonb_array_elements(p_lines) l) = 0 then
    return null;
  end if;
  return app.insert_invoice(
    p_subscription.organization_id, p_lines, p_subscription.currency, p_invoice_date, p_subscription,
    coalesce(p_billed_at, p_subscription.next_billing_at), p_issue => p_issue
  );
end
$$;
comment on function app.draft_invoice(public.subscriptions, date, jsonb, boolean, timestamptz) is
  'The invoice of these lines for a moment, the subscription''s next billing moment if none is named: a draft or issued at once; null when nothing is owed.';
