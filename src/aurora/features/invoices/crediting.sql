-- Credit notes: what of an invoice can still be credited, and the document that does it.

create or replace function app.creditable_lines(p_invoice public.invoices, p_before integer default null) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(
    l || jsonb_build_object('credits_line', (l ->> 'line')::integer, 'amount', (l ->> 'amount')::numeric - coalesce(c.credited, 0))
    order by (l ->> 'line')::integer
  ), '[]')
  from jsonb_array_elements(p_invoice.line_items) l
  left join (
    select (k ->> 'credits_line')::integer as line, sum((k ->> 'amount')::numeric) as credited
    from public.credit_notes n, jsonb_array_elements(n.line_items) k
    where n.organization_id = p_invoice.organization_id and n.invoice_id = p_invoice.id
      and (p_before is null or n.position < p_before)
    group by 1
  ) c on c.line = (l ->> 'line')::integer
  where (l ->> 'amount')::numeric <> coalesce(c.credited, 0)
$$;
comment on function app.creditable_lines(public.invoices, integer) is
  'The lines of an invoice with the amounts that no credit note took back yet, or none of those before a position.';

create or replace function app.lines_to_credit(p_left jsonb, p_lines jsonb, p_amount numeric, p_currency text)
returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_asked jsonb;
  v_line jsonb;
  v_amount numeric;
  v_lines jsonb := '[]'::jsonb;
  v_sum constant numeric := (
    select sum((l ->> 'amount')::numeric) from jsonb_array_elements(p_left) l
  );
begin
  if p_amount is not null then
    if p_lines is not null or not (p_amount > 0 and p_amount = app.round_money(p_amount, p_currency)) then
      perform app.refuse('credit_invalid', 'Name lines, or one amount above zero in the digits of the currency.');
    end if;
    if p_amount > coalesce(v_sum, 0) then
      perform app.refuse('credit_exceeds_invoice', format('At most %s without VAT can still be credited.', coalesce(v_sum, 0)));
    end if;
    -- By its share of what is left; the running total is rounded, so that the parts are the amount to the øre.
    return (select jsonb_agg(s.l || jsonb_build_object('amount', s.share) order by s.n) from (
      select l, n, app.round_money(p_amount * sum((l ->> 'amount')::numeric) over (order by n) / v_sum, p_currency)
        - app.round_money(p_amount * (sum((l ->> 'amount')::numeric) over (order by n) - (l ->> 'amount')::numeric) / v_sum, p_currency)
        as share
      from jsonb_array_elements(p_left) with ordinality e(l, n)
    ) s where s.share <> 0);
  end if;
  if p_lines is null then
    return p_left;
  end if;
  for v_asked in select value from jsonb_array_elements(p_lines) loop
    select l into v_line from jsonb_array_elements(p_left) l where (l ->> 'line')::integer = (v_asked ->> 'line')::integer;
    v_amount := coalesce((v_asked ->> 'amount')::numeric, (v_line ->> 'amount')::numeric);
    if v_line is null or v_lines @> jsonb_build_array(jsonb_build_object('credits_line', v_line -> 'line')) then
      perform app.refuse('credit_exceeds_invoice', format(
        'Line %s is not on the invoice, was named twice, or is credited in full already.', coalesce(v_asked ->> 'line', '?')
      ));
    end if;
    if v_amount = 0 or v_amount <> app.round_money(v_amount, p_currency) then
      perform app.refuse('credit_invalid', 'An amount is credited in the digits of its currency, and is not zero.');
    end if;
    if sign(v_amount) <> sign((v_line ->> 'amount')::numeric) or abs(v_amount) > abs((v_line ->> 'amount')::numeric) then
      perform app.refuse('credit_exceeds_invoice', format(
        'Of line %s at most %s can still be credited.', v_line ->> 'line', v_line ->> 'amount'
      ));
    end if;
    v_lines := v_lines || jsonb_build_array(
      v_line || (v_asked - '{line,amount}'::text[]) || jsonb_build_object('amount', v_amount)
    );
  end loop;
  return v_lines;
end
$$;
comment on function app.lines_to_credit(jsonb, jsonb, numeric, text) is
  'Of what is left of an invoice: everything, the named lines with their amounts, or an amount spread over all of them.';

create or replace function app.tax_to_credit(p_invoice public.invoices, p_lines jsonb, p_before integer default null)
returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- The credit that takes the last of a category takes the last of its VAT: roundings of parts must not remain.
  select jsonb_agg(
    (t - '{taxable,tax,tax_nok}'::text[]) || jsonb_strip_nulls(jsonb_build_object(
      'taxable', a.taxable, 'tax', a.tax,
      'tax_nok', case
        when p_invoice.exchange_rate is null then null
        when a.taxable = a.left_taxable then (t ->> 'tax_nok')::numeric - a.done_nok
        else round(a.tax * p_invoice.exchange_rate, 2) end
    )) order by n
  )
  from jsonb_array_elements(p_invoice.tax_lines) with ordinality e(t, n)
  cross join lateral (
    select coalesce(sum((k ->> 'taxable')::numeric), 0) as done_taxable, coalesce(sum((k ->> 'tax')::numeric), 0) as done_tax,
      coalesce(sum((k ->> 'tax_nok')::numeric), 0) as done_nok
    from public.credit_notes c, jsonb_array_elements(c.tax_lines) k
    where c.organization_id = p_invoice.organization_id and c.invoice_id = p_invoice.id
      and (p_before is null or c.position < p_before)
      and k ->> 'category' = t ->> 'category' and (k ->> 'rate')::numeric = (t ->> 'rate')::numeric
  ) d
  cross join lateral (
    select sum((l ->> 'amount')::numeric) as taxable, (t ->> 'taxable')::numeric - d.done_taxable as left_taxable
    from jsonb_array_elements(p_lines) l
    where l ->> 'tax_category' = t ->> 'category' and (l ->> 'tax_rate')::numeric = (t ->> 'rate')::numeric
  ) s
  cross join lateral (
    select s.taxable, s.left_taxable, d.done_nok, case
      when s.taxable = s.left_taxable then (t ->> 'tax')::numeric - d.done_tax
      else least(
        app.round_money(s.taxable * (t ->> 'rate')::numeric / 100, p_invoice.currency), (t ->> 'tax')::numeric - d.done_tax
      ) end as tax
  ) a
  where a.taxable is not null
$$;
comment on function app.tax_to_credit(public.invoices, jsonb, integer) is
  'VAT of a credit by category and rate, at the invoice''s rates and after the credits before it.';

create or replace function app.lines_of_credit(p_invoice public.invoices, p_asked jsonb, p_before integer default null)
returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_left constant jsonb := app.creditable_lines(p_invoice, p_before);
  v_lines jsonb;
begin
  if v_left = '[]' then
    perform app.refuse('credit_exceeds_invoice', 'The whole invoice is credited already.');
  end if;
  v_lines := app.lines_to_credit(v_left, p_asked -> 'lines', (p_asked ->> 'amount')::numeric, p_invoice.currency);
  -- A part of a line is one unit of so much: quantity times price has to be the amount (EHF R120).
  select jsonb_agg(
    case when l -> 'amount' = p_invoice.line_items -> ((l ->> 'credits_line')::integer - 1) -> 'amount' then l
    else l || jsonb_build_object('quantity', sign((l ->> 'amount')::numeric), 'unit', 'unit', 'unit_price',
      abs((l ->> 'amount')::numeric)) - '{base_quantity,impressions,included}'::text[] end
    || jsonb_build_object('line', n) order by n
  ) into v_lines from jsonb_array_elements(v_lines) with ordinality e(l, n);
  return v_lines;
end
$$;
comment on function app.lines_of_credit(public.invoices, jsonb, integer) is
  'The lines of a credit note: what was asked for of what is left of its invoice; pure, so that it can be computed anew.';

create or replace function app.draft_credit_note(
  p_invoice_id uuid, p_reason text, p_lines jsonb default null, p_date date default null, p_amount numeric default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_asked constant jsonb := case when p_lines is null then '{}' else jsonb_build_object('lines', p_lines) end
    || case when p_amount is null then '{}' else jsonb_build_object('amount', p_amount) end;
  v_lines jsonb;
  v_tax jsonb;
  v_taxable numeric;
  v_tax_amount numeric;
  v_id uuid;
begin
  -- Whoever credits the same invoice waits here, and then sees what this one took.
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for no key update;
  if not found or v_invoice.status in ('draft', 'void') then
    perform app.refuse('invoice_not_issued', 'Only an issued invoice can be credited.');
  end if;
  v_lines := app.lines_of_credit(v_invoice, v_asked);
  v_tax := app.tax_to_credit(v_invoice, v_lines);
  select sum((t ->> 'taxable')::numeric), sum((t ->> 'tax')::numeric) into v_taxable, v_tax_amount
  from jsonb_array_elements(v_tax) t;
  if v_taxable <= 0 then
    perform app.refuse('credit_invalid', 'A credit note takes back more than it asks for.');
  end if;
  insert into public.credit_notes (
    organization_id, invoice_id, legal_entity_id, credit_note_date, reason, position, asked, period_start, period_end,
    subtotal, tax_amount, total, currency, tax_amount_nok, exchange_rate, exchange_rate_on, exchange_rate_source,
    line_items, tax_lines, seller, buyer, language
  )
  select v_invoice.organization_id, v_invoice.id, v_invoice.legal_entity_id,
    greatest(coalesce(p_date, (app.now() at time zone 'Europe/Oslo')::date), v_invoice.invoice_date), p_reason,
    (select coalesce(max(c.position), 0) + 1 from public.credit_notes c
      where c.organization_id = v_invoice.organization_id and c.invoice_id = v_invoice.id),
    v_asked, min((l ->> 'period_start')::date), max((l ->> 'period_end')::date), v_taxable, v_tax_amount,
    v_taxable + v_tax_amount, v_invoice.currency,
    case when v_invoice.currency = 'NOK' then v_tax_amount
      else (select sum((t ->> 'tax_nok')::numeric) from jsonb_array_elements(v_tax) t) end,
    v_invoice.exchange_rate, v_invoice.exchange_rate_on, v_invoice.exchange_rate_source, v_lines, v_tax,
    v_invoice.seller, v_invoice.buyer, v_invoice.language
  from jsonb_array_elements(v_lines) l
  returning id into v_id;
  return v_id;
end
$$;
comment on function app.draft_credit_note(uuid, text, jsonb, date, numeric) is
  'A credit note without number for what is left of an invoice, for [{"line": 1, "amount": 12.50}], or for an amount without VAT.';

create or replace function app.issue_credit_note(p_credit_note_id uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_note public.credit_notes;
  v_series text;
  v_number text;
begin
  select * into v_note from public.credit_notes c where c.id = p_credit_note_id for update;
  if not found or v_note.status <> 'draft' then
    perform app.refuse('invoice_not_draft', 'Only a draft can be issued.');
  end if;
  select e.credit_note_prefix || '-' || to_char(v_note.credit_note_date, 'YYYY') into strict v_series
  from public.legal_entities e where e.id = v_note.legal_entity_id;
  v_number := v_series || '-' || app.padded(app.next_number(v_note.legal_entity_id, v_series));
  update public.credit_notes set status = 'issued', issued_at = app.now(), credit_note_number = v_number
  where id = p_credit_note_id;
  -- First what the invoice itself still asks for; the rest waits for the customer's next one.
  perform app.allocate(v_note.invoice_id, null, p_credit_note_id);
  return v_number;
end
$$;
comment on function app.issue_credit_note(uuid) is
  'Gives a credit note the next number of its series and sets it off against its invoice; call it last, before invoices are issued.';

create or replace function app.credit_invoice(
  p_invoice_id uuid, p_reason text, p_lines jsonb default null, p_date date default null, p_amount numeric default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant uuid := app.draft_credit_note(p_invoice_id, p_reason, p_lines, p_date, p_amount);
begin
  perform app.issue_credit_note(v_id);
  return v_id;
end
$$;
comment on function app.credit_invoice(uuid, text, jsonb, date, numeric) is
  'Credits an issued invoice: all that is left, lines of it ([{"line": 1, "amount": 12.50}]), or an amount without VAT; returns the credit note''s id.';

create or replace function app.count_credit() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- invoices_credited_check refuses what is more than the invoice; the update takes the row's lock.
  update public.invoices i set amount_credited = i.amount_credited + new.total where i.id = new.invoice_id;
  return null;
end
$$;
comment on function app.count_credit() is 'Trigger: an invoice knows how much of it is credited, and refuses more.';

create or replace trigger credit_notes_count_credit after insert on credit_notes
  for each row execute function app.count_credit();
