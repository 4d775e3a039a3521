-- name: list_entries_by_day -> Entry
-- What is posted of one seller from a first to a last day, both included: documents by VAT line, payments, reversals.
with documents as (
  select i.id, i.organization_id, i.invoice_number as voucher, 'invoice' as kind, i.invoice_date as posted_on, i.issued_at,
    i.currency, i.total, i.tax_lines, i.kid, i.due_date, i.exchange_rate, i.buyer ->> 'name' as customer, 1 as sign
  from invoices i
  where i.legal_entity_id = :legal_entity_id and i.invoice_number is not null
    and i.invoice_date between :first_day::date and :last_day::date
  union all
  select c.id, c.organization_id, c.credit_note_number, 'credit_note', c.credit_note_date, c.issued_at,
    c.currency, c.total, c.tax_lines, null, null, c.exchange_rate, c.buyer ->> 'name', -1
  from credit_notes c
  where c.legal_entity_id = :legal_entity_id and c.credit_note_number is not null
    and c.credit_note_date between :first_day::date and :last_day::date
), money as (
  select p.id, p.organization_id, 'PAY-' || left(p.id::text, 8) as voucher, 'payment' as kind, p.received_on as posted_on,
    p.created_at as issued_at, p.currency, p.amount as total, p.reference, 1 as sign
  from payments p
  where p.legal_entity_id = :legal_entity_id and p.received_on between :first_day::date and :last_day::date
  union all
  select p.id, p.organization_id, 'REV-' || left(p.id::text, 8), 'reversal',
    (p.reversed_at at time zone 'Europe/Oslo')::date, p.reversed_at, p.currency, p.amount, p.reference, -1
  from payments p
  where p.legal_entity_id = :legal_entity_id
    and (p.reversed_at at time zone 'Europe/Oslo')::date between :first_day::date and :last_day::date
)
select d.id, d.organization_id, d.voucher, d.kind, d.posted_on, d.issued_at, d.currency, d.sign, d.customer, d.kid,
  d.due_date, coalesce(d.exchange_rate, r.nok, case d.currency when 'NOK' then 1 end) as nok,
  t.n::integer as part, t.l ->> 'category' as category, (t.l ->> 'rate')::numeric as rate, t.l ->> 'saft_code' as saft_code,
  (t.l ->> 'taxable')::numeric as taxable, (t.l ->> 'tax')::numeric as tax, (t.l ->> 'tax_nok')::numeric as tax_nok,
  null::text as reference
from documents d
cross join lateral jsonb_array_elements(d.tax_lines) with ordinality t(l, n)
left join lateral (
  select x.nok from exchange_rates x
  where x.currency = d.currency and x.valid_on between d.posted_on - 7 and d.posted_on order by x.valid_on desc limit 1
) r on d.currency <> 'NOK'
union all
select m.id, m.organization_id, m.voucher, m.kind, m.posted_on, m.issued_at, m.currency, m.sign, o.name, null, null,
  coalesce(r.nok, case m.currency when 'NOK' then 1 end), 1, null, null, null, m.total, 0, null, m.reference
from money m
join organizations o on o.id = m.organization_id
left join lateral (
  select x.nok from exchange_rates x
  where x.currency = m.currency and x.valid_on between m.posted_on - 7 and m.posted_on order by x.valid_on desc limit 1
) r on m.currency <> 'NOK'
order by 5, 6, 3, 13
limit :limit;

-- name: list_customers_by_ids -> BookedCustomer
-- Who is meant by the customers of a period's entries.
select id, name, org_number, vat_number, address, postal_code, city, country from organizations
where id = any (:ids::uuid[])
order by id;
