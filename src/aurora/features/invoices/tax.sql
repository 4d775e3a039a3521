-- VAT and currencies: which rate a sale has, why, and what lines add up to.

-- mval sections 5-1 to 5-3 (25, 15, 12 %), chapter 6 (0 %), 6-22 (buyers outside the VAT area). The days say from
-- when these rows answer, not when a rate began; an older document is refused rather than guessed. Another
-- rate is another row with a later day. Codes of the books: SAF-T Financial, Norwegian standard tax codes.
-- Who sells at the reduced rates checks their dates, sections, and SAF-T codes (31, 33) against the
-- regulation first: they were not read from it. The same holds for 5, 6, 51, and 52 in the books.
insert into tax_rates (code, valid_from, category, rate, saft_code, reason, reason_en, source) values
  ('standard', '2005-01-01', 'S', 25, '3', null, null, 'mval § 5-1'),
  ('reduced_15', '2022-01-01', 'S', 15, '31', null, null, 'mval § 5-2'),
  ('reduced_12', '2022-01-01', 'S', 12, '33', null, null, 'mval § 5-3 ff.'),
  ('zero', '2022-01-01', 'Z', 0, '5', 'Nullsats, mval. kap. 6', 'Zero-rated, Norwegian VAT Act chapter 6', 'mval chapter 6'),
  ('export', '2005-01-01', 'G', 0, '52',
    'Fritatt for merverdiavgift: mottaker utenfor avgiftsområdet, mval. § 6-22 (2)',
    'Exempt from VAT: recipient outside the Norwegian VAT area, mval. § 6-22 (2)', 'mval § 6-22'),
  ('export_eu', '2005-01-01', 'G', 0, '52',
    'Fritatt for merverdiavgift: mottaker utenfor avgiftsområdet, mval. § 6-22 (2); art. 196 i direktiv 2006/112/EF',
    'Exempt from Norwegian VAT, mval. § 6-22 (2); reverse charge, Article 196 of Directive 2006/112/EC', 'mval § 6-22'),
  ('reverse_charge', '2005-01-01', 'AE', 0, '51', 'Omvendt avgiftsplikt',
    'Omvendt avgiftsplikt (domestic reverse charge)', 'mval § 11-1'),
  ('exempt', '2005-01-01', 'E', 0, '6', null, null, 'as entered for the organization'),
  ('not_registered', '2005-01-01', 'O', 0, '6',
    'Selger er ikke registrert i Merverdiavgiftsregisteret',
    'The seller is not registered for VAT in Norway', 'mval § 15-11')
on conflict (code, valid_from) do nothing;

create or replace function app.check_currency(p_currency text) returns void
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- Amounts of documents have two decimals at most.
  if coalesce(app.currency_digits(p_currency), 9) > 2 then
    perform app.refuse('currency_unknown', format('Aurora does not invoice in %s.', coalesce(p_currency, 'no currency')));
  end if;
end
$$;
comment on function app.check_currency(text) is 'Refuses a currency that cannot be invoiced.';

create or replace function app.buyer_snapshot(p_organization_id uuid) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'name', o.name, 'org_number', o.org_number, 'vat_number', o.vat_number,
    'address', o.address, 'postal_code', o.postal_code, 'city', o.city, 'country', o.country,
    'email', coalesce(o.billing_email, o.email), 'reference', o.invoice_reference,
    'order_reference', b.order_reference,
    'vat_area', coalesce(b.vat_area, case o.country when 'NO' then 'mainland' when 'SJ' then 'svalbard' else 'abroad' end),
    'vat_treatment', coalesce(b.vat_treatment, 'standard'), 'exemption_reason', b.exemption_reason,
    'einvoice', coalesce(b.einvoice, 'when_possible'), 'customer_number', left(o.id::text, 8),
    'logo_sha256', o.logo_sha256
  ))
  from public.organizations o left join public.billing_profiles b on b.organization_id = o.id
  where o.id = p_organization_id
$$;
comment on function app.buyer_snapshot(uuid) is 'Who buys, as it stands now: what an invoice keeps of it.';

create or replace function app.seller_snapshot(p_seller public.legal_entities) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A logo is named; a copy on every invoice would be most of the database.
  select jsonb_strip_nulls(
    to_jsonb(p_seller)
    - '{id,created_at,updated_at,time_zone,invoice_prefix,credit_note_prefix,payment_days}'::text[]
  )
$$;
comment on function app.seller_snapshot(public.legal_entities) is 'Who sells, as it stands now: what an invoice keeps of it.';

create or replace function app.tax_code_of(p_registered boolean, p_buyer jsonb, p_code text) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    -- Who is not in the register may not charge VAT at all (mval section 15-11).
    when not p_registered then 'not_registered'
    when p_buyer ->> 'vat_area' <> 'mainland' then
      case when p_buyer ->> 'vat_area' = 'abroad' and p_buyer ->> 'vat_number' is not null and p_buyer ->> 'country' in (
        'AT', 'BE', 'BG', 'CY', 'CZ', 'DE', 'DK', 'EE', 'ES', 'FI', 'FR', 'GR', 'HR', 'HU', 'IE', 'IT', 'LT', 'LU', 'LV',
        'MT', 'NL', 'PL', 'PT', 'RO', 'SE', 'SI', 'SK'
      ) then 'export_eu' else 'export' end
    when p_buyer ->> 'vat_treatment' = 'exempt' then 'exempt'
    when p_buyer ->> 'vat_treatment' = 'reverse_charge' and p_code <> 'zero' then 'reverse_charge'
    else p_code
  end;
end
$$;
comment on function app.tax_code_of(boolean, jsonb, text) is
  'Which code of tax_rates a sale has: by the seller''s registration, the buyer''s VAT residence and treatment, and what is sold.';

create or replace function app.tax_rate_on(p_code text, p_date date) returns public.tax_rates
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_rate public.tax_rates;
begin
  select r.* into v_rate from public.tax_rates r
  where r.code = p_code and r.valid_from <= p_date order by r.valid_from desc limit 1;
  if not found then
    perform app.refuse('tax_rate_missing', format('No VAT rate %s is entered for %s.', p_code, p_date));
  end if;
  return v_rate;
end
$$;
comment on function app.tax_rate_on(text, date) is 'The VAT rate of a code on a day.';

create or replace function app.exchange_rate_on(p_currency text, p_date date) returns public.exchange_rates
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_rate public.exchange_rates;
begin
  -- Central banks publish none on weekends and holidays; then the last one counts. A week is the longest Easter.
  select r.* into v_rate from public.exchange_rates r
  where r.currency = p_currency and r.valid_on between p_date - 7 and p_date order by r.valid_on desc limit 1;
  if not found then
    perform app.refuse('exchange_rate_missing', format(
      'VAT is stated in NOK, and no rate of %s is entered for %s or the seven days before: use aurora billing exchange-rate.',
      p_currency, p_date
    ));
  end if;
  return v_rate;
end
$$;
comment on function app.exchange_rate_on(text, date) is 'The rate of a currency on a day, or the last one of the week before.';

create or replace function app.lines_with_tax(p_lines jsonb, p_registered boolean, p_buyer jsonb, p_date date)
returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_line jsonb;
  v_rate public.tax_rates;
  v_lines jsonb := '[]'::jsonb;
  v_code text;
begin
  for v_line in select l from jsonb_array_elements(p_lines) l loop
    v_code := app.tax_code_of(p_registered, p_buyer, coalesce(v_line ->> 'tax_code', 'standard'));
    if v_rate.code is distinct from v_code then
      v_rate := app.tax_rate_on(v_code, p_date);
    end if;
    v_lines := v_lines || jsonb_build_array(jsonb_strip_nulls(v_line) || jsonb_build_object(
      'line', jsonb_array_length(v_lines) + 1, 'tax_code', v_code, 'tax_category', v_rate.category,
      'tax_rate', v_rate.rate
    ));
  end loop;
  return v_lines;
end
$$;
comment on function app.lines_with_tax(jsonb, boolean, jsonb, date) is 'Lines of a bill, numbered, each with its VAT category and rate.';

create or replace function app.tax_lines_of(p_lines jsonb, p_currency text, p_nok numeric, p_date date, p_exemption text)
returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- VAT is rounded once a category and rate, never a line (EN 16931, BR-CO-17).
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'category', g.category, 'rate', g.rate, 'taxable', g.taxable, 'tax', g.tax,
    'tax_nok', case when p_nok is not null then round(g.tax * p_nok, 2) end,
    'saft_code', r.saft_code, 'reason', coalesce(r.reason, case g.category when 'E' then p_exemption end),
    'reason_en', coalesce(r.reason_en, case g.category when 'E' then p_exemption end)
  )) order by g.rate desc, g.category), '[]')
  from (
    select l ->> 'tax_category' as category, (l ->> 'tax_rate')::numeric as rate, min(l ->> 'tax_code') as code,
      sum((l ->> 'amount')::numeric) as taxable,
      app.round_money(sum((l ->> 'amount')::numeric) * (l ->> 'tax_rate')::numeric / 100, p_currency) as tax
    from jsonb_array_elements(p_lines) l
    group by 1, 2
  ) g, app.tax_rate_on(g.code, p_date) r
$$;
comment on function app.tax_lines_of(jsonb, text, numeric, date, text) is
  'What lines add up to by VAT category and rate: taxable, tax, tax in NOK, and the reason where there is none.';

create or replace function app.late_interest(p_invoice_id uuid, p_until date) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_amount numeric;
begin
  select i.* into strict v_invoice from public.invoices i where i.id = p_invoice_id;
  if v_invoice.amount_due = 0 or p_until <= v_invoice.due_date then
    return 0;
  end if;
  if not exists (select from public.late_interest_rates r where r.valid_from <= v_invoice.due_date + 1) then
    perform app.refuse('late_interest_rate_missing', format(
      'No late interest is entered for %s: use aurora billing late-interest.', v_invoice.due_date + 1
    ));
  end if;
  -- Simple interest on what is due, from the day after the due date, days over 365; each day by its own rate.
  select sum(v_invoice.amount_due * r.yearly_rate / 100 * (
      least(p_until, case when isfinite(r.until) then r.until - 1 else p_until end) - greatest(v_invoice.due_date, r.valid_from - 1)
    ) / 365) into v_amount
  from (
    select valid_from, yearly_rate, coalesce(lead(valid_from) over (order by valid_from), 'infinity'::date) as until
    from public.late_interest_rates
  ) r
  where r.valid_from <= p_until and r.until > v_invoice.due_date + 1;
  return app.round_money(v_amount, v_invoice.currency);
end
$$;
comment on function app.late_interest(uuid, date) is
  'Late interest on what an invoice still owes, from the day after its due date up to and including a day.';
