-- name: bill_next -> BillingStep
-- Bills the next subscription that is due, in one round trip; no row when none is left.
select subscription_id, outcome, id, organization_id, invoice_number, subtotal, tax_amount, total, currency, period_start,
  period_end, state, message, detail, violated, context
from app.bill_next(:as_of::date, :organization_id::uuid, :except_ids::uuid[], :unfolded::boolean);

-- name: insert_invoice_draft
-- Drafts the invoice of a subscription's next billing moment and moves it on; null: nothing was owed.
select app.bill_subscription(:subscription_id::uuid, :as_of::date);

-- name: insert_entered_invoice
-- Drafts an invoice of lines that somebody wrote; returns its id.
select app.draft_manual_invoice(:organization_id::uuid, :lines::jsonb, :currency, :invoice_date::date, :notes::jsonb);

-- name: update_draft
-- Changes what is named of a draft that somebody wrote.
select app.change_draft(:invoice_id::uuid, :changes::jsonb);

-- name: update_draft_issued
-- Gives a draft its number; call it last in the transaction.
select app.issue_invoice(:invoice_id::uuid);

-- name: update_draft_void
-- Puts a draft aside.
select app.void_invoice(:invoice_id::uuid);

-- name: count_subscriptions_due
-- How many subscriptions have a billing moment on or before the day.
select count(*) from subscriptions s
where (s.status in ('active', 'past_due', 'paused') or (s.status = 'cancelled' and s.closed_at is null))
  and s.next_billing_at < (:as_of::date + 1)::timestamp at time zone s.time_zone
  -- The index ends the walk: no zone is further from UTC than twelve hours behind it.
  and s.next_billing_at < (:as_of::date + 2)::timestamp at time zone 'UTC'
  -- What was used in the last minutes of a month has to arrive first; before the first month there is nothing.
  and (s.months_billed = 0 or s.next_billing_at <= app.now() - app.billing_grace())
  and (:organization_id::uuid is null or s.organization_id = :organization_id::uuid);

-- name: list_bill_lines_by_organization -> BillLine
-- What the next bill of an organization says if it were made now.
select line_number, kind, description, quantity, unit, unit_price, base_quantity, amount, period_start, period_end,
  impressions, included, tax_code, facts
from calculate_monthly_bill(:organization_id::uuid);

-- name: find_invoice -> InvoiceRow
-- One invoice by its id.
select id, created_at, organization_id, subscription_id, kind, invoice_number, invoice_date, due_date, issued_at, kid,
  period_start, period_end, subtotal, tax_amount, total, currency, line_items::text as line_items,
  tax_lines::text as tax_lines, seller, buyer, status, paid_at, sent_at, amount_credited,
  amount_settled, amount_due
from invoices
where id = :invoice_id::uuid;

-- name: find_invoice_by_number -> InvoiceRow
-- One issued invoice by its number.
select id, created_at, organization_id, subscription_id, kind, invoice_number, invoice_date, due_date, issued_at, kid,
  period_start, period_end, subtotal, tax_amount, total, currency, line_items::text as line_items,
  tax_lines::text as tax_lines, seller, buyer, status, paid_at, sent_at, amount_credited,
  amount_settled, amount_due
from invoices
where invoice_number = :invoice_number;

-- name: list_invoices_by_organization -> InvoiceRow
-- A page of an organization's invoices (all organizations' when none is named), newest first.
select id, created_at, organization_id, subscription_id, kind, invoice_number, invoice_date, due_date, issued_at, kid,
  period_start, period_end, subtotal, tax_amount, total, currency, line_items::text as line_items,
  tax_lines::text as tax_lines, seller, buyer, status, paid_at, sent_at, amount_credited,
  amount_settled, amount_due
from invoices
where (:organization_id::uuid is null or organization_id = :organization_id::uuid)
  and (:after_created_at::timestamptz is null
    or (created_at, id) < (:after_created_at::timestamptz, :after_id::uuid))
order by created_at desc, id desc
limit :limit;

-- name: deliver_invoice
-- Tells the admins of an organization that an invoice was issued, once, and that it was sent; returns how many were told.
select app.deliver_invoice(:invoice_id::uuid);

-- name: deliver_credit_notes
-- Tells the admins of organizations of credit notes that nobody told them of; returns how many were sent.
select app.deliver_credit_notes(:limit);

-- name: mark_overdue
-- Marks invoices whose due date has passed; returns how many.
select app.mark_overdue(:limit);

-- name: chase_overdue -> Chased
-- Reminds of overdue invoices, suspends who owes them, and reactivates who paid; returns how many.
select reminded, suspended, reactivated from app.chase_overdue(:limit);

-- name: insert_overdue_policy -> OverduePolicy
-- Enters what follows for invoices due from a day on; entered again it is corrected.
insert into overdue_policies as p (valid_from, reminder_days, suspend_days)
values (:valid_from::date, :reminder_days::integer[], :suspend_days::integer)
on conflict (valid_from) do update set reminder_days = excluded.reminder_days, suspend_days = excluded.suspend_days
returning p.valid_from, p.reminder_days, p.suspend_days;

-- name: list_overdue_policies_by_day -> OverduePolicy
-- The policies, the newest first.
select valid_from, reminder_days, suspend_days from overdue_policies order by valid_from desc limit :limit;

-- name: exempt_organization
-- Exempts an organization from reminders and suspension; without a reason that ends.
select app.exempt_organization(:organization_id::uuid, :until::date, :reason::text);

-- name: list_overdue_by_organization -> OverdueInvoice
-- What is overdue, the longest first, with the steps that were taken and whether its organization is exempt.
select o.slug, i.invoice_number, i.due_date, (app.now() at time zone 'Europe/Oslo')::date - i.due_date as days_late,
  i.amount_due, i.currency,
  (select count(*) from overdue_steps s where s.invoice_id = i.id and s.kind = 'reminder') as reminders,
  exists (select from overdue_steps s where s.organization_id = i.organization_id and s.kind = 'suspension'
    and s.ended_at is null) as suspended,
  app.is_exempt(i.organization_id) as exempt
from invoices i join organizations o on o.id = i.organization_id
where i.status = 'overdue' and (:organization_id::uuid is null or i.organization_id = :organization_id::uuid)
order by i.due_date, i.invoice_number limit :limit;

-- name: find_legal_entity -> LegalEntity
-- Who sells.
select id, is_specimen, name, org_number, vat_registered, in_business_register, address, postal_code, city, country,
  email, phone, website, bank_account, iban, bic, payment_days
from legal_entities
where id = :legal_entity_id;

-- name: update_legal_entity -> LegalEntity
-- Enters the real seller in place of the specimen.
update legal_entities set
  is_specimen = false, name = :name, org_number = :org_number, vat_registered = :vat_registered,
  in_business_register = :in_business_register, address = :address, postal_code = :postal_code, city = :city,
  country = :country, email = :email, phone = :phone, website = :website, bank_account = :bank_account, iban = :iban,
  bic = :bic, payment_days = :payment_days
where id = :legal_entity_id
returning id, is_specimen, name, org_number, vat_registered, in_business_register, address, postal_code, city, country,
  email, phone, website, bank_account, iban, bic, payment_days;

-- name: credit_invoice
-- Credits an issued invoice, all of it or a part; returns the credit note's id.
select app.credit_invoice(:invoice_id::uuid, :reason, :lines::jsonb, null, :amount::numeric);

-- name: find_credit_note -> CreditNoteRow
-- One credit note by its id or its number.
select c.id, c.created_at, c.organization_id, c.invoice_id, i.invoice_number, c.credit_note_number, c.credit_note_date,
  c.issued_at, c.reason, c.period_start, c.period_end, c.subtotal, c.tax_amount, c.total, c.currency,
  c.line_items::text as line_items, c.tax_lines::text as tax_lines, c.seller, c.buyer, c.status, c.amount_allocated,
  c.amount_open
from credit_notes c join invoices i on i.organization_id = c.organization_id and i.id = c.invoice_id
where c.id = :credit_note_id::uuid or c.credit_note_number = :credit_note_number::text;

-- name: list_credit_notes_by_organization -> CreditNoteRow
-- A page of credit notes (of one organization, of one invoice, or all), newest first.
select c.id, c.created_at, c.organization_id, c.invoice_id, i.invoice_number, c.credit_note_number, c.credit_note_date,
  c.issued_at, c.reason, c.period_start, c.period_end, c.subtotal, c.tax_amount, c.total, c.currency,
  c.line_items::text as line_items, c.tax_lines::text as tax_lines, c.seller, c.buyer, c.status, c.amount_allocated,
  c.amount_open
from credit_notes c join invoices i on i.organization_id = c.organization_id and i.id = c.invoice_id
where (:organization_id::uuid is null or c.organization_id = :organization_id::uuid)
  and (:invoice_id::uuid is null or c.invoice_id = :invoice_id::uuid)
  and (:after_created_at::timestamptz is null
    or (c.created_at, c.id) < (:after_created_at::timestamptz, :after_id::uuid))
order by c.created_at desc, c.id desc
limit :limit;

-- name: enter_payment
-- Enters money that arrived and sets it off; returns the payment's id.
select app.enter_payment(
  :organization_id::uuid, :amount::numeric, :currency, :received_on::date, :reference, :method, :invoice_id::uuid
);

-- name: find_payment -> Payment
-- One payment by its id.
select id, created_at, organization_id, received_on, amount, currency, method, reference, amount_allocated, amount_open,
  reversed_at, reversal_reason
from payments
where id = :payment_id::uuid;

-- name: list_payments_by_organization -> Payment
-- A page of payments (of one organization, of one invoice, or all), newest first.
select p.id, p.created_at, p.organization_id, p.received_on, p.amount, p.currency, p.method, p.reference,
  p.amount_allocated, p.amount_open, p.reversed_at, p.reversal_reason
from payments p
where (:organization_id::uuid is null or p.organization_id = :organization_id::uuid)
  and (:invoice_id::uuid is null or p.id in (
    select a.payment_id from allocations a where a.invoice_id = :invoice_id::uuid
  ))
  and (:after_created_at::timestamptz is null
    or (p.created_at, p.id) < (:after_created_at::timestamptz, :after_id::uuid))
order by p.created_at desc, p.id desc
limit :limit;

-- name: reverse_payment
-- Takes a payment back.
select app.reverse_payment(:payment_id::uuid, :reason);

-- name: allocate
-- Sets a payment or a credit note off against an invoice; returns how much.
select app.allocate(:invoice_id::uuid, :payment_id::uuid, :credit_note_id::uuid, :amount::numeric);

-- name: list_allocations_by_invoice -> Allocation
-- What settled an invoice, oldest first.
select a.id, a.created_at, a.organization_id, a.invoice_id, i.invoice_number, a.payment_id, a.credit_note_id, a.amount
from allocations a join invoices i on i.organization_id = a.organization_id and i.id = a.invoice_id
where a.invoice_id = :invoice_id::uuid
order by a.id
limit :limit;

-- name: find_document -> DocumentRow
-- An invoice or credit note by its id, as it is printed and sent.
select i.id, i.organization_id, 'invoice' as kind, i.invoice_number as number, i.status, i.invoice_date as issued_on,
  i.due_date as due_on, i.issued_at, i.kid, null::text as credited_number, null::date as credited_on,
  i.period_start, i.period_end, i.subtotal, i.tax_amount, i.total, i.currency, i.tax_amount_nok, i.line_items::text
  as line_items, i.tax_lines::text as tax_lines, i.seller, i.buyer, i.notes, i.language,
  s.content as seller_logo, b.content as buyer_logo
from invoices i
  left join seller_logos s on s.legal_entity_id = i.legal_entity_id and s.sha256 = i.seller_logo_sha256
  left join organization_logos b on b.organization_id = i.organization_id and b.sha256 = i.buyer_logo_sha256
where i.id = :document_id::uuid
union all
select c.id, c.organization_id, 'credit_note', c.credit_note_number, c.status, c.credit_note_date,
  null, c.issued_at, null, i.invoice_number, i.invoice_date,
  c.period_start, c.period_end, c.subtotal, c.tax_amount, c.total, c.currency, c.tax_amount_nok, c.line_items::text,
  c.tax_lines::text, c.seller, c.buyer, jsonb_build_array(c.reason), c.language,
  s.content, b.content
from credit_notes c join invoices i on (i.organization_id, i.id) = (c.organization_id, c.invoice_id)
  left join seller_logos s on s.legal_entity_id = c.legal_entity_id and s.sha256 = c.seller_logo_sha256
  left join organization_logos b on b.organization_id = c.organization_id and b.sha256 = c.buyer_logo_sha256
where c.id = :document_id::uuid;

-- name: find_document_by_number -> DocumentRow
-- An issued invoice or credit note by its number, as it is printed and sent.
select i.id, i.organization_id, 'invoice' as kind, i.invoice_number as number, i.status, i.invoice_date as issued_on,
  i.due_date as due_on, i.issued_at, i.kid, null::text as credited_number, null::date as credited_on,
  i.period_start, i.period_end, i.subtotal, i.tax_amount, i.total, i.currency, i.tax_amount_nok, i.line_items::text
  as line_items, i.tax_lines::text as tax_lines, i.seller, i.buyer, i.notes, i.language,
  s.content as seller_logo, b.content as buyer_logo
from invoices i
  left join seller_logos s on s.legal_entity_id = i.legal_entity_id and s.sha256 = i.seller_logo_sha256
  left join organization_logos b on b.organization_id = i.organization_id and b.sha256 = i.buyer_logo_sha256
where i.invoice_number = :number
union all
select c.id, c.organization_id, 'credit_note', c.credit_note_number, c.status, c.credit_note_date,
  null, c.issued_at, null, i.invoice_number, i.invoice_date,
  c.period_start, c.period_end, c.subtotal, c.tax_amount, c.total, c.currency, c.tax_amount_nok, c.line_items::text,
  c.tax_lines::text, c.seller, c.buyer, jsonb_build_array(c.reason), c.language,
  s.content, b.content
from credit_notes c join invoices i on (i.organization_id, i.id) = (c.organization_id, c.invoice_id)
  left join seller_logos s on s.legal_entity_id = c.legal_entity_id and s.sha256 = c.seller_logo_sha256
  left join organization_logos b on b.organization_id = c.organization_id and b.sha256 = c.buyer_logo_sha256
where c.credit_note_number = :number;

-- name: list_replayed_invoices -> Replayed
-- Issued invoices as they are, and as the stored facts give them now; each as the text of one JSON structure.
select i.id, i.organization_id, i.invoice_number as number, i.kind,
  jsonb_build_object('lines', i.line_items, 'taxes', i.tax_lines, 'subtotal', i.subtotal, 'tax_amount', i.tax_amount,
    'total', i.total, 'tax_amount_nok', i.tax_amount_nok, 'amount_credited', i.amount_credited,
    'amount_settled', i.amount_settled)::text as issued,
  app.replay_invoice(i)::text as replayed
from invoices i
where i.invoice_number is not null
  and (:invoice_id::uuid is null or i.id = :invoice_id::uuid)
  and (:after::uuid is null or i.id > :after::uuid)
order by i.id
limit :limit;

-- name: list_replayed_credit_notes -> Replayed
-- Issued credit notes as they are, and as the stored facts give them now; each as the text of one JSON structure.
select c.id, c.organization_id, c.credit_note_number as number, 'credit_note' as kind,
  jsonb_build_object('lines', c.line_items, 'taxes', c.tax_lines, 'subtotal', c.subtotal, 'tax_amount', c.tax_amount,
    'total', c.total, 'tax_amount_nok', c.tax_amount_nok, 'period_start', c.period_start, 'period_end', c.period_end,
    'currency', c.currency, 'exchange_rate', c.exchange_rate, 'language', c.language, 'seller', c.seller,
    'buyer', c.buyer, 'amount_allocated', c.amount_allocated)::text as issued,
  app.replay_credit_note(c)::text as replayed
from credit_notes c
where c.credit_note_number is not null
  and (:credit_note_id::uuid is null or c.id = :credit_note_id::uuid)
  and (:after::uuid is null or c.id > :after::uuid)
order by c.id
limit :limit;

-- name: get_credited
-- What all issued credit notes took back of a line of an invoice, without VAT.
select coalesce(sum((l ->> 'amount')::numeric), 0)
from credit_notes c cross join lateral jsonb_array_elements(c.line_items) l
where c.invoice_id = :invoice_id::uuid and c.credit_note_number is not null
  and (l ->> 'credits_line')::integer = :line::integer;

-- name: list_billable_days -> DayFigure
-- Billable impressions of [first, until) by UTC day, the days without any left out.
select (r.hour at time zone 'UTC')::date as day, sum(r.billable)::bigint as billable
from usage_hourly_series r
where r.organization_id = :organization_id::uuid and r.dimension = 'total'
  and r.hour >= :first::timestamptz and r.hour < :until::timestamptz
group by 1
having sum(r.billable) <> 0
order by 1;

-- name: list_impression_months_by_organization -> ImpressionMonth
-- Months of impressions that begin before a moment, latest first.
select period_start, period_end, impressions, billable, included, overage, usage_amount, billed_amount, currency
from app.monthly_impressions(:organization_id::uuid, :by, :before::timestamptz, :limit::integer);

-- name: simulate_plan -> SimulatedCustomer
-- What each customer paid in its last months, and would have paid on a plan with these terms.
select organization_id, slug, plan_id, currency, months, billable, fee + usage as paid, new_fee + new_usage as would_pay,
  new_fee + new_usage - fee - usage as difference, fee, usage, new_fee, new_usage
from app.simulate_plan(:plan_id, :overrides::jsonb, :months, :on_plan, :organization_id::uuid);

-- name: insert_exchange_rate -> EnteredRate
-- Enters what a currency was worth in NOK on a day; entered again it is corrected, and documents keep theirs.
insert into exchange_rates as r (currency, valid_on, nok, source)
values (upper(:currency), :valid_on::date, :rate::numeric, :source)
on conflict (currency, valid_on) do update set nok = excluded.nok, source = excluded.source
returning r.currency as what, r.valid_on, r.nok as rate, r.source;

-- name: insert_late_interest_rate -> EnteredRate
-- Enters the late interest from a day on, in percent a year; entered again it is corrected.
insert into late_interest_rates as r (valid_from, yearly_rate, source)
values (:valid_on::date, :rate::numeric, :source)
on conflict (valid_from) do update set yearly_rate = excluded.yearly_rate, source = excluded.source
returning 'late interest' as what, r.valid_from as valid_on, r.yearly_rate as rate, r.source;

-- name: update_billing_profile -> BillingProfile
-- Changes the named fields of how an organization is invoiced and leaves the others; an empty text empties one.
insert into billing_profiles as b (
  organization_id, vat_area, vat_treatment, exemption_reason, einvoice, order_reference, payment_days
) values (
  :organization_id::uuid, nullif(:vat_area::text, ''), coalesce(:vat_treatment::text, 'standard'),
  nullif(:exemption_reason::text, ''), coalesce(:einvoice::text, 'when_possible'), nullif(:order_reference::text, ''),
  :payment_days::integer
)
on conflict (organization_id) do update set
  vat_area = nullif(coalesce(:vat_area::text, b.vat_area), ''),
  vat_treatment = coalesce(:vat_treatment::text, b.vat_treatment),
  -- A reason belongs to an exemption, and goes with it.
  exemption_reason = case when coalesce(:vat_treatment::text, b.vat_treatment) = 'exempt'
    then nullif(coalesce(:exemption_reason::text, b.exemption_reason), '') else nullif(:exemption_reason::text, '') end,
  einvoice = coalesce(:einvoice::text, b.einvoice),
  order_reference = nullif(coalesce(:order_reference::text, b.order_reference), ''),
  payment_days = coalesce(:payment_days::integer, b.payment_days)
returning organization_id, vat_area, vat_treatment, exemption_reason, einvoice, order_reference, payment_days;

-- name: set_seller_logo
-- Gives a seller a logo, or none; what no document shows is removed. Returns the digest.
select app.set_seller_logo(:legal_entity_id, :content::bytea, :width::integer, :height::integer);

-- name: find_seller_logo -> Logo
-- The logo of a seller as it is now.
select l.sha256, l.width, l.height, l.content
from legal_entities e join seller_logos l on l.legal_entity_id = e.id and l.sha256 = e.logo_sha256
where e.id = :legal_entity_id;
