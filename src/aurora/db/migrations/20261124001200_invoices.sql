-- Invoices: the seller, the counters that number without gaps, and the documents themselves.

create table legal_entities (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  is_specimen boolean not null default false,

  name text not null,
  org_number text not null,
  vat_registered boolean not null default true,
  in_business_register boolean not null default true,
  address text not null,
  postal_code text not null,
  city text not null,
  country text not null default 'NO',
  email text not null,
  phone text,
  website text,
  bank_account text,
  iban text,
  bic text,
  time_zone text not null default 'Europe/Oslo',
  invoice_prefix text not null default 'INV',
  credit_note_prefix text not null default 'CN',
  payment_days integer not null default 14,
  logo_sha256 text,

  -- Two sellers with one prefix would give out the same numbers.
  constraint legal_entities_invoice_prefix_key unique (invoice_prefix),
  constraint legal_entities_credit_note_prefix_key unique (credit_note_prefix),
  constraint legal_entities_credit_note_prefix_check check (credit_note_prefix ~ '^[A-Z]{1,10}$'),
  constraint legal_entities_id_check check (id ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint legal_entities_country_check check (country ~ '^[A-Z]{2}$'),
  constraint legal_entities_email_check check (app.is_email(email)),
  constraint legal_entities_invoice_prefix_check check (invoice_prefix ~ '^[A-Z]{1,10}$'),
  constraint legal_entities_payment_days_check check (payment_days between 0 and 365)
);
alter table legal_entities enable row level security;
comment on table legal_entities is 'Who sells and issues invoices: what the law wants printed, and how numbers look.';
comment on column legal_entities.credit_note_prefix is
  'The series of credit notes; the invoices'' prefix puts both in one series, for both take from the same counter.';
comment on column legal_entities.logo_sha256 is 'The logo of now, which the next documents show.';
comment on column legal_entities.is_specimen is 'True until the real seller is entered; its documents are marked as specimens.';

create table seller_logos (
  legal_entity_id text not null references legal_entities (id) on delete restrict,
  sha256 text not null,
  created_at timestamptz not null default app.now(),
  width integer not null,
  height integer not null,
  content bytea not null,
  constraint seller_logos_pkey primary key (legal_entity_id, sha256),
  -- The name is the content, so a row can be added and removed, and never become another picture.
  constraint seller_logos_sha256_check check (sha256 = encode(sha256(content), 'hex')),
  constraint seller_logos_content_check check (octet_length(content) between 1 and 2000000),
  constraint seller_logos_size_check check (width between 1 and 2000 and height between 1 and 2000)
);
alter table legal_entities add constraint legal_entities_logo_fkey
  foreign key (id, logo_sha256) references seller_logos (legal_entity_id, sha256) on delete restrict;
alter table seller_logos enable row level security;
comment on table seller_logos is
  'Logos of sellers as PNG, drawn anew when they were set. One that a document shows is kept as long as the document.';

create table invoice_counters (
  legal_entity_id text not null references legal_entities (id) on delete restrict,
  series text not null,
  last_number bigint not null default 0,
  constraint invoice_counters_pkey primary key (legal_entity_id, series),
  constraint invoice_counters_last_number_check check (last_number >= 0)
);
alter table invoice_counters enable row level security;
comment on table invoice_counters is
  'The last number given in each series. A sequence would leave gaps at every rollback, which the law forbids.';

create table invoices (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,
  subscription_id uuid,
  legal_entity_id text not null default 'default' references legal_entities (id) on delete restrict,
  kind text not null default 'subscription',

  invoice_number text,
  invoice_date date not null default (app.now() at time zone 'Europe/Oslo')::date,
  due_date date not null,
  issued_at timestamptz,
  sent_at timestamptz,
  kid text,

  period_start date not null,
  period_end date not null,
  billed_at timestamptz,

  subtotal numeric(14, 2) not null,
  tax_rate numeric(5, 2) default 25.00,
  tax_amount numeric(14, 2) not null,
  total numeric(14, 2) not null,
  currency text not null default 'NOK',
  tax_amount_nok numeric(14, 2),
  exchange_rate numeric(18, 8),
  exchange_rate_on date,
  exchange_rate_source text,

  line_items jsonb not null,
  tax_lines jsonb not null default '[]',
  seller jsonb not null default '{}',
  buyer jsonb not null default '{}',
  -- What the snapshots name is kept by PostgreSQL itself.
  seller_logo_sha256 text generated always as (seller ->> 'logo_sha256') stored,
  buyer_logo_sha256 text generated always as (buyer ->> 'logo_sha256') stored,
  terms jsonb not null default '{}',
  notes jsonb not null default '[]',
  language text not null default 'nb',

  amount_credited numeric(14, 2) not null default 0,
  amount_settled numeric(14, 2) not null default 0,
  amount_due numeric(14, 2) generated always as (total - amount_settled) stored,

  status text not null default 'draft',
  paid_at timestamptz,

  stripe_invoice_id text,
  payment_method text,
  pdf_url text,
  metadata jsonb not null default '{}',

  constraint invoices_number_key unique (invoice_number),
  constraint invoices_organization_id_id_key unique (organization_id, id),
  constraint invoices_stripe_invoice_id_key unique (stripe_invoice_id),
  constraint invoices_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint invoices_seller_logo_fkey foreign key (legal_entity_id, seller_logo_sha256)
    references seller_logos (legal_entity_id, sha256) on delete restrict,
  constraint invoices_buyer_logo_fkey foreign key (organization_id, buyer_logo_sha256)
    references organization_logos (organization_id, sha256) on delete restrict,
  constraint invoices_kind_check check (kind in ('subscription', 'manual')),
  constraint invoices_number_check
    check ((status in ('draft', 'void')) = (invoice_number is null) and (invoice_number is null) = (issued_at is null)),
  constraint invoices_due_date_check check (due_date >= invoice_date),
  constraint invoices_period_check check (period_end >= period_start),
  constraint invoices_amounts_check check (total = subtotal + tax_amount),
  constraint invoices_currency_check check (currency ~ '^[A-Z]{3}$'),
  constraint invoices_line_items_check check (jsonb_typeof(line_items) = 'array' and line_items <> '[]'),
  constraint invoices_tax_lines_check check (jsonb_typeof(tax_lines) = 'array'),
  constraint invoices_status_check check (status in ('draft', 'issued', 'sent', 'paid', 'credited', 'overdue', 'void')),
  constraint invoices_paid_check check ((status = 'paid') = (paid_at is not null)),
  constraint invoices_payment_method_check check (payment_method in ('card', 'invoice', 'bank_transfer')),
  -- Whoever writes, and however many at once: the row's lock and these two hold what was promised.
  constraint invoices_credited_check check (amount_credited between 0 and total),
  constraint invoices_settled_check check (amount_settled between 0 and total),
  constraint invoices_nok_check check (
    currency = 'NOK' or tax_amount = 0 or status in ('draft', 'void') or tax_amount_nok is not null
  ),
  constraint invoices_language_check check (language in ('nb', 'en')),
  constraint invoices_terms_check check (jsonb_typeof(terms) = 'object'),
  constraint invoices_notes_check check (jsonb_typeof(notes) = 'array'),
  constraint invoices_metadata_check check (jsonb_typeof(metadata) = 'object')
);
-- One billing moment of a subscription is billed once, however many runs meet it. Who writes an invoice
-- with the seed's columns alone names no moment: its first day stands for it, or nulls would never meet.
create unique index invoices_subscription_billed_key on invoices (
  subscription_id, coalesce(billed_at, period_start::timestamp at time zone 'Europe/Oslo')
) where kind = 'subscription' and status <> 'void';
create index invoices_organization_id_created_at_idx on invoices (organization_id, created_at desc, id desc);
create index invoices_subscription_idx on invoices (organization_id, subscription_id);
create index invoices_legal_entity_id_idx on invoices (legal_entity_id);
create index invoices_seller_logo_idx on invoices (legal_entity_id, seller_logo_sha256) where seller_logo_sha256 is not null;
create index invoices_buyer_logo_idx on invoices (organization_id, buyer_logo_sha256) where buyer_logo_sha256 is not null;
create index invoices_due_date_idx on invoices (due_date) where status in ('issued', 'sent');
create index invoices_overdue_idx on invoices (organization_id, due_date) where status = 'overdue';
alter table invoices enable row level security;
comment on table invoices is 'Sales documents. A draft has no number; an issued one is never changed and never deleted.';
comment on column invoices.terms is
  'From what the lines are computed anew: the subscription''s terms as they were, or under "entered" what somebody wrote.';
comment on column invoices.amount_credited is 'Of all credit notes that name this invoice; never more than its total.';
comment on column invoices.amount_settled is 'Paid or set off: the sum of its allocations.';
comment on column invoices.tax_amount_nok is 'VAT in NOK, which the law asks for in every currency (bokføringsforskriften § 5-1-1).';
comment on column invoices.period_end is 'The last day of the period, inclusive, as it is printed.';
comment on column invoices.billed_at is 'The billing moment: usage before it in arrears, the fee after it in advance. Of an invoice between two bills: when it was made.';

-- What VAT, currencies, and late interest are computed from: dated tables that the operator keeps.

create table tax_rates (
  code text not null,
  valid_from date not null,
  category text not null,
  rate numeric(5, 2) not null,
  saft_code text not null,
  reason text,
  reason_en text,
  source text not null,
  constraint tax_rates_pkey primary key (code, valid_from),
  constraint tax_rates_code_check check (code ~ '^[a-z][a-z0-9_]{0,40}$'),
  constraint tax_rates_category_check check (category in ('S', 'Z', 'E', 'AE', 'G', 'O')),
  constraint tax_rates_rate_check check (rate between 0 and 100 and (rate = 0 or category = 'S'))
);
alter table tax_rates enable row level security;
comment on table tax_rates is 'VAT by date: what is charged, by which category (UNCL5305), and how the books call it (SAF-T).';

create table exchange_rates (
  currency text not null,
  valid_on date not null,
  nok numeric(18, 8) not null,
  source text not null,
  entered_at timestamptz not null default app.now(),
  constraint exchange_rates_pkey primary key (currency, valid_on),
  constraint exchange_rates_currency_check check (currency ~ '^[A-Z]{3}$' and currency <> 'NOK'),
  constraint exchange_rates_nok_check check (nok > 0),
  constraint exchange_rates_source_check check (source ~ '[^[:space:]]' and length(source) <= 200)
);
alter table exchange_rates enable row level security;
comment on table exchange_rates is 'What one unit of a currency was worth in NOK on a day, and who says so.';

create table late_interest_rates (
  valid_from date not null,
  yearly_rate numeric(6, 3) not null,
  source text not null,
  entered_at timestamptz not null default app.now(),
  constraint late_interest_rates_pkey primary key (valid_from),
  constraint late_interest_rates_yearly_rate_check check (yearly_rate between 0 and 100),
  constraint late_interest_rates_source_check check (source ~ '[^[:space:]]' and length(source) <= 200)
);
alter table late_interest_rates enable row level security;
comment on table late_interest_rates is
  'Forsinkelsesrente in percent a year, from each day on. Kept by the operator: the state sets it anew twice a year.';

create table billing_profiles (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references organizations (id) on delete restrict,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  legal_entity_id text not null default 'default' references legal_entities (id) on delete restrict,
  vat_area text,
  vat_treatment text not null default 'standard',
  exemption_reason text,
  einvoice text not null default 'when_possible',
  order_reference text,
  payment_days integer,
  constraint billing_profiles_organization_id_key unique (organization_id),
  constraint billing_profiles_vat_area_check check (vat_area in ('mainland', 'svalbard', 'jan_mayen', 'abroad')),
  constraint billing_profiles_vat_treatment_check
    check (vat_treatment in ('standard', 'reverse_charge', 'exempt')),
  constraint billing_profiles_exemption_check
    check ((vat_treatment = 'exempt') = (exemption_reason is not null) and length(exemption_reason) between 1 and 200),
  constraint billing_profiles_einvoice_check check (einvoice in ('when_possible', 'required', 'never')),
  constraint billing_profiles_order_reference_check check (length(order_reference) between 1 and 200),
  constraint billing_profiles_payment_days_check check (payment_days between 0 and 365)
);
create index billing_profiles_legal_entity_id_idx on billing_profiles (legal_entity_id);
alter table billing_profiles enable row level security;
comment on table billing_profiles is
  'How an organization is invoiced where the usual does not fit: who sells, VAT residence and treatment, e-invoice, days to pay.';
comment on column billing_profiles.vat_area is
  'VAT residence, which is not the country: Svalbard and Jan Mayen are Norway and outside the VAT area. Null: by country.';

-- What corrects and what settles an invoice: credit notes, payments, and how both are set off.

create table credit_notes (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,
  invoice_id uuid not null,
  legal_entity_id text not null references legal_entities (id) on delete restrict,

  credit_note_number text,
  credit_note_date date not null,
  issued_at timestamptz,
  sent_at timestamptz,
  reason text not null,
  position integer not null,
  asked jsonb not null,

  period_start date not null,
  period_end date not null,

  subtotal numeric(14, 2) not null,
  tax_amount numeric(14, 2) not null,
  total numeric(14, 2) not null,
  currency text not null,
  tax_amount_nok numeric(14, 2),
  exchange_rate numeric(18, 8),
  exchange_rate_on date,
  exchange_rate_source text,

  line_items jsonb not null,
  tax_lines jsonb not null,
  seller jsonb not null,
  buyer jsonb not null,
  -- What the snapshots name is kept by PostgreSQL itself.
  seller_logo_sha256 text generated always as (seller ->> 'logo_sha256') stored,
  buyer_logo_sha256 text generated always as (buyer ->> 'logo_sha256') stored,
  language text not null default 'nb',

  status text not null default 'draft',
  amount_allocated numeric(14, 2) not null default 0,
  amount_open numeric(14, 2) generated always as (total - amount_allocated) stored,
  metadata jsonb not null default '{}',

  constraint credit_notes_number_key unique (credit_note_number),
  constraint credit_notes_organization_id_id_key unique (organization_id, id),
  constraint credit_notes_position_key unique (organization_id, invoice_id, position),
  constraint credit_notes_asked_check check (jsonb_typeof(asked) = 'object' and asked - '{lines,amount}'::text[] = '{}'),
  constraint credit_notes_invoice_fkey foreign key (organization_id, invoice_id)
    references invoices (organization_id, id) on delete restrict,
  constraint credit_notes_seller_logo_fkey foreign key (legal_entity_id, seller_logo_sha256)
    references seller_logos (legal_entity_id, sha256) on delete restrict,
  constraint credit_notes_buyer_logo_fkey foreign key (organization_id, buyer_logo_sha256)
    references organization_logos (organization_id, sha256) on delete restrict,
  constraint credit_notes_number_check
    check ((status = 'draft') = (credit_note_number is null) and (credit_note_number is null) = (issued_at is null)),
  constraint credit_notes_status_check check (status in ('draft', 'issued', 'sent')),
  constraint credit_notes_reason_check check (reason ~ '[^[:space:]]' and length(reason) <= 500),
  constraint credit_notes_amounts_check check (total = subtotal + tax_amount and total > 0),
  constraint credit_notes_period_check check (period_end >= period_start),
  constraint credit_notes_line_items_check check (jsonb_typeof(line_items) = 'array' and line_items <> '[]'),
  constraint credit_notes_language_check check (language in ('nb', 'en')),
  constraint credit_notes_allocated_check check (amount_allocated between 0 and total),
  constraint credit_notes_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index credit_notes_organization_id_created_at_idx on credit_notes (organization_id, created_at desc, id desc);
create index credit_notes_seller_logo_idx on credit_notes (legal_entity_id, seller_logo_sha256)
  where seller_logo_sha256 is not null;
create index credit_notes_buyer_logo_idx on credit_notes (organization_id, buyer_logo_sha256)
  where buyer_logo_sha256 is not null;
create index credit_notes_legal_entity_id_idx on credit_notes (legal_entity_id);
-- What is still owed to a customer; empty for most, so asking at every issue costs nothing.
create index credit_notes_open_idx on credit_notes (organization_id) where amount_allocated < total;
create index credit_notes_issued_at_idx on credit_notes (issued_at) where status = 'issued';
alter table credit_notes enable row level security;
comment on table credit_notes is
  'Corrections of issued invoices, with a number of their own; amounts are positive. Never changed, never deleted.';

comment on column credit_notes.position is 'Which one of its invoice, from 1: what came before it was not there to be credited.';
comment on column credit_notes.asked is 'What was asked for: lines, an amount without VAT, or (empty) all that was left; from it the lines are computed anew.';

create table payments (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  organization_id uuid not null references organizations (id) on delete restrict,
  legal_entity_id text not null default 'default' references legal_entities (id) on delete restrict,
  received_on date not null,
  amount numeric(14, 2) not null,
  currency text not null,
  method text not null default 'bank_transfer',
  reference text not null,
  amount_allocated numeric(14, 2) not null default 0,
  amount_open numeric(14, 2) generated always as (amount - amount_allocated) stored,
  reversed_at timestamptz,
  reversal_reason text,
  constraint payments_reference_key unique (organization_id, reference),
  constraint payments_organization_id_id_key unique (organization_id, id),
  constraint payments_amount_check check (amount > 0),
  constraint payments_currency_check check (currency ~ '^[A-Z]{3}$'),
  constraint payments_method_check check (method in ('card', 'invoice', 'bank_transfer')),
  constraint payments_reference_check check (reference ~ '[^[:space:]]' and length(reference) <= 200),
  constraint payments_allocated_check check (amount_allocated between 0 and amount),
  constraint payments_reversed_check check ((reversed_at is null) = (reversal_reason is null))
);
create index payments_organization_id_received_on_idx on payments (organization_id, received_on desc);
create index payments_legal_entity_id_idx on payments (legal_entity_id);
create index payments_open_idx on payments (organization_id) where amount_allocated < amount;
alter table payments enable row level security;
comment on table payments is 'Money that arrived; the reference makes the same arrival count once.';
comment on column payments.legal_entity_id is 'Which seller it was paid to: it settles that one''s invoices, and stands in that one''s books.';

create table allocations (
  id bigint generated always as identity primary key,
  created_at timestamptz not null default app.now(),
  organization_id uuid not null,
  invoice_id uuid not null,
  payment_id uuid,
  credit_note_id uuid,
  amount numeric(14, 2) not null,
  constraint allocations_invoice_fkey foreign key (organization_id, invoice_id)
    references invoices (organization_id, id) on delete restrict,
  constraint allocations_payment_fkey foreign key (organization_id, payment_id)
    references payments (organization_id, id) on delete restrict,
  constraint allocations_credit_note_fkey foreign key (organization_id, credit_note_id)
    references credit_notes (organization_id, id) on delete restrict,
  constraint allocations_source_check check (num_nonnulls(payment_id, credit_note_id) = 1),
  constraint allocations_amount_check check (amount <> 0)
);
create index allocations_invoice_idx on allocations (organization_id, invoice_id);
create index allocations_payment_idx on allocations (organization_id, payment_id);
create index allocations_credit_note_idx on allocations (organization_id, credit_note_id);
alter table allocations enable row level security;
comment on table allocations is
  'Which payment or credit note settled how much of which invoice; append-only, a negative row takes one back.';

create table billed_months (
  subscription_id uuid not null,
  billed_at timestamptz not null,
  organization_id uuid not null,
  period_start timestamptz not null,
  billable bigint not null,
  usage_amount numeric(14, 2) not null,
  base_amount numeric(14, 2) not null,
  constraint billed_months_pkey primary key (subscription_id, billed_at),
  constraint billed_months_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint billed_months_period_check check (billed_at > period_start),
  constraint billed_months_billable_check check (billable >= 0)
);
create index billed_months_subscription_idx on billed_months (organization_id, subscription_id);
alter table billed_months enable row level security;
comment on table billed_months is
  'How many billable impressions the bill of a month counted, and its corrections since: what comes later is the difference.';
comment on column billed_months.usage_amount is 'What they came to, before coupons and VAT.';
comment on column billed_months.base_amount is 'What the bill''s coupons were reckoned of: usage and fee.';

-- What follows when an invoice is not paid: the dated policy, the steps that were taken, who is exempt.

create table overdue_policies (
  id uuid primary key default gen_random_uuid(),
  valid_from date not null,
  reminder_days integer[] not null,
  suspend_days integer,
  entered_at timestamptz not null default app.now(),
  constraint overdue_policies_valid_from_key unique (valid_from),
  constraint overdue_policies_reminder_days_check check (
    cardinality(reminder_days) between 1 and 10 and array_position(reminder_days, null) is null
    and 1 <= all (reminder_days) and 365 >= all (reminder_days)
  ),
  -- Nobody is suspended who was not reminded before.
  constraint overdue_policies_suspend_days_check check (suspend_days <= 730 and suspend_days > all (reminder_days))
);
alter table overdue_policies enable row level security;
comment on table overdue_policies is
  'Days after the due date at which admins are reminded and the organization is suspended; by the due date of the invoice.';
comment on column overdue_policies.suspend_days is 'Null: nobody is suspended for what is owed.';

create table overdue_exemptions (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references organizations (id) on delete restrict,
  until date,
  reason text not null,
  entered_at timestamptz not null default app.now(),
  constraint overdue_exemptions_organization_id_key unique (organization_id),
  constraint overdue_exemptions_reason_check check (reason ~ '[^[:space:]]' and length(reason) <= 200)
);
alter table overdue_exemptions enable row level security;
comment on table overdue_exemptions is 'Organizations that are neither reminded nor suspended, up to and including a day; null: until it is taken back.';

create table overdue_steps (
  organization_id uuid not null,
  invoice_id uuid not null,
  kind text not null,
  place integer not null,
  taken_at timestamptz not null default app.now(),
  days_late integer not null,
  amount_due numeric(14, 2) not null,
  ended_at timestamptz,
  constraint overdue_steps_pkey primary key (invoice_id, kind, place),
  constraint overdue_steps_invoice_fkey foreign key (organization_id, invoice_id)
    references invoices (organization_id, id) on delete restrict,
  constraint overdue_steps_kind_check check (kind in ('reminder', 'suspension')),
  constraint overdue_steps_place_check check (place >= 1),
  constraint overdue_steps_ended_check check (ended_at is null or kind = 'suspension')
);
create index overdue_steps_organization_idx on overdue_steps (organization_id, invoice_id);
create unique index overdue_steps_suspended_key on overdue_steps (organization_id) where kind = 'suspension' and ended_at is null;
alter table overdue_steps enable row level security;
comment on table overdue_steps is 'Reminders and suspensions for an invoice that was not paid, each taken once; a suspension ends when it is paid.';

-- The check digit of a KID.

create or replace function app.mod10(p_digits text) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_sum integer := 0;
  v_digit integer;
begin
  for i in 1..length(p_digits) loop
    v_digit := substr(reverse(p_digits), i, 1)::integer * case when i % 2 = 1 then 2 else 1 end;
    v_sum := v_sum + v_digit / 10 + v_digit % 10;
  end loop;
  return ((10 - v_sum % 10) % 10)::text;
end
$$;
comment on function app.mod10(text) is 'The MOD10 (Luhn) check digit: of a KID, Brukerhåndbok OCR giro.';

-- What a billing moment costs: overage of the month that ended, the fee of the period that begins, changes, coupons.

do $$
begin
  if to_regtype('app.bill_line') is null then
    create type app.bill_line as (
      kind text, description text, quantity numeric, unit text, unit_price numeric, base_quantity numeric,
      amount numeric, period_start timestamptz, period_end timestamptz, impressions bigint, included bigint,
      tax_code text, facts jsonb
    );
  end if;
end
$$;

create or replace function app.rate_usage(p_terms public.subscription_terms, p_used bigint, p_included bigint)
returns setof app.bill_line
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_model constant jsonb := app.usage_price_model(p_terms.overage_rate, p_terms.overage_model, p_terms.price_model);
  v_over constant bigint := greatest(0, p_used - p_included);
  v_rated record;
  v_line app.bill_line;
begin
  -- Without an included number usage has no end, and no price.
  if v_model is null or p_included is null or p_terms.is_paused then
    return;
  end if;
  v_line.impressions := p_used; v_line.included := p_included; v_line.tax_code := 'standard';
  for v_rated in select * from app.rate(v_model, v_over) loop
    v_line.kind := case v_rated.kind when 'usage' then 'overage' else v_rated.kind end;
    v_line.description := format('%s: %s', p_terms.plan_name,
      case v_rated.kind when 'usage' then 'overage' when 'minimum' then 'minimum' else 'flat fee' end);
    v_line.quantity := v_rated.quantity;
    v_line.unit := case
      when v_rated.unit = 'package' and v_model ->> 'package_size' = '1000' then 'thousand'
      when v_rated.unit = 'unit' then 'impression' else v_rated.unit end;
    v_line.unit_price := v_rated.unit_price;
    v_line.base_quantity := v_rated.base_quantity;
    -- The one rounding: a line, in the digits of its currency, halves up.
    v_line.amount := app.round_money(v_rated.amount, p_terms.currency);
    v_line.facts := jsonb_build_object(
      'plan_id', p_terms.plan_id, 'plan_version', p_terms.plan_version, 'over', v_over, 'tier', v_rated.tier,
      'price_model', v_model);
    if v_line.amount <> 0 then
      return next v_line;
    end if;
  end loop;
end
$$;
comment on function app.rate_usage(public.subscription_terms, bigint, bigint) is
  'The lines of so many billable impressions under terms with so many included ones; no periods are set.';

create or replace function app.usage_parts(p_subscription_id uuid, p_from timestamptz, p_to timestamptz)
returns table (terms_id bigint, period_start timestamptz, period_end timestamptz, included bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
  v_terms public.subscription_terms;
  v_days integer;
begin
  for v_part in
    select p.t as terms, greatest((p.t).starts_at, p_from) as part_start, least(p.next_at, p_to) as part_end
    from (
      select t, lead(t.starts_at, 1, 'infinity') over (order by t.starts_at, t.id) as next_at
      from public.subscription_terms t where t.subscription_id = p_subscription_id
    ) p
    where (p.t).starts_at < p_to and p.next_at > greatest(p_from, (p.t).starts_at)
    order by 2
  loop
    v_terms := v_part.terms; terms_id := v_terms.id; period_start := v_part.part_start; period_end := v_part.part_end;
    v_days := app.local_days(p_from, p_to, v_terms.time_zone);
    -- Differences of rounded running shares: the parts of an unchanged number add up to it.
    included := app.round_quotient(
        v_terms.included_impressions::numeric * app.local_days(p_from, period_end, v_terms.time_zone), v_days, 0)
      - app.round_quotient(
        v_terms.included_impressions::numeric * app.local_days(p_from, period_start, v_terms.time_zone), v_days, 0);
    return next;
  end loop;
end
$$;
comment on function app.usage_parts(uuid, timestamptz, timestamptz) is
  'A billing month cut where the terms changed, each part with its share, by day, of the included impressions.';

create or replace function app.bill_usage(p_subscription public.subscriptions, p_from timestamptz, p_to timestamptz)
returns setof app.bill_line
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
  v_terms public.subscription_terms;
  v_line app.bill_line;
begin
  for v_part in select * from app.usage_parts(p_subscription.id, p_from, p_to) loop
    select * into strict v_terms from public.subscription_terms t where t.id = v_part.terms_id;
    continue when v_terms.is_paused or v_part.included is null;
    for v_line in
      select * from app.rate_usage(
        v_terms,
        app.count_billable(p_subscription.organization_id, v_part.period_start, v_part.period_end),
        v_part.included)
    loop
      v_line.period_start := v_part.period_start; v_line.period_end := v_part.period_end;
      v_line.facts := v_line.facts || jsonb_build_object(
        'usage', jsonb_build_object('organization_id', p_subscription.organization_id, 'from', v_part.period_start,
          'to', v_part.period_end, 'billable', v_line.impressions, 'included', v_line.included));
      return next v_line;
    end loop;
  end loop;
end
$$;
comment on function app.bill_usage(public.subscriptions, timestamptz, timestamptz) is
  'The lines of a billing month''s usage, each with the facts it can be followed to.';

create or replace function app.bill_fee(p_subscription public.subscriptions, p_at timestamptz)
returns setof app.bill_line
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
  v_period record;
  v_line app.bill_line;
begin
  -- A change on a day that was billed already came with lines of its own.
  select t.* into v_terms from public.subscription_terms t
  where t.subscription_id = p_subscription.id and (t.starts_at < p_at or (t.starts_at = p_at and not t.is_adjusted))
  order by t.starts_at desc, t.id desc limit 1;
  if v_terms.id is null or v_terms.is_paused
    or (p_subscription.cancel_at_period_end and p_at >= p_subscription.current_period_end)
    or (p_subscription.status = 'cancelled' and p_at >= p_subscription.cancelled_at)
  then
    return;
  end if;
  select * into strict v_period from app.fee_period(v_terms, p_at);
  if p_at <> v_period.period_start and p_at <> v_terms.starts_at then
    return;
  end if;
  v_line.kind := 'fee'; v_line.description := v_terms.plan_name; v_line.unit_price := app.terms_fee(v_terms);
  v_line.period_start := p_at; v_line.period_end := v_period.period_end; v_line.tax_code := 'standard';
  if p_at = v_period.period_start then
    v_line.quantity := 1; v_line.base_quantity := 1;
    v_line.unit := case v_terms.billing_period when 'yearly' then 'year' else 'month' end;
    v_line.amount := app.round_money(v_line.unit_price, v_terms.currency);
  else
    -- A year that begins within the year of the anchor: its days, so that the anchor is kept.
    v_line.quantity := app.local_days(p_at, v_period.period_end, v_terms.time_zone);
    v_line.base_quantity := v_period.days; v_line.unit := 'day';
    v_line.amount := app.prorate(v_line.unit_price, v_line.quantity::integer, v_period.days, v_terms.currency);
  end if;
  v_line.facts := jsonb_build_object('plan_id', v_terms.plan_id, 'plan_version', v_terms.plan_version,
    'fee_period_start', v_period.period_start);
  return next v_line;
end
$$;
comment on function app.bill_fee(public.subscriptions, timestamptz) is
  'The fee of the month or year that begins at a billing moment; no row where none does.';

create or replace function app.bill_adjustments(
  p_subscription_id uuid, p_at timestamptz, p_open text[]
) returns setof app.bill_line
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A credit counts backwards: prices are never negative (EN 16931, BR-27).
  select a.kind, a.description, case a.kind when 'credit' then -a.quantity else a.quantity end, a.unit, a.unit_price,
    a.base_quantity, case a.kind when 'credit' then -a.amount else a.amount end, a.period_start, a.period_end,
    null::bigint, null::bigint, a.tax_code, a.facts || jsonb_build_object('adjustment_id', a.id)
  from public.subscription_adjustments a
  where a.subscription_id = p_subscription_id
    and (a.billed_at = p_at or (a.kind = any (p_open) and a.billed_at is null and a.settled_at is null))
  order by a.created_at, a.kind desc, a.id
$$;
comment on function app.bill_adjustments(uuid, timestamptz, text[]) is
  'The lines of changes that a bill holds, and those of some kinds for which no document was made yet.';

create or replace function app.bill_discounts(
  p_subscription public.subscriptions, p_at timestamptz, p_base numeric, p_from timestamptz, p_to timestamptz
) returns setof app.bill_line
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_redemption public.coupon_redemptions;
  v_place integer;
  v_left numeric := p_base;
  v_used numeric;
  v_line app.bill_line;
begin
  v_line.kind := 'discount'; v_line.quantity := -1; v_line.unit := 'coupon'; v_line.base_quantity := 1;
  v_line.period_start := p_from; v_line.period_end := p_to; v_line.tax_code := 'standard';
  for v_redemption in
    select r.* from public.coupon_redemptions r
    where r.subscription_id = p_subscription.id and r.starts_at <= p_at and coalesce(r.ended_at, 'infinity') > p_at
    order by r.percent is null, r.created_at, r.id
  loop
    exit when v_left <= 0;
    if v_redemption.percent is not null then
      continue when app.redemption_place(v_redemption, p_subscription, p_at) is null;
      v_line.unit_price := app.round_money(v_left * v_redemption.percent / 100, p_subscription.currency);
    else
      -- What a bill was too small for is kept for the next: so much a bill until now, less what was used.
      v_place := app.moment_index(p_subscription.billing_anchor, p_subscription.time_zone, p_at)
        - app.moment_index(p_subscription.billing_anchor, p_subscription.time_zone, v_redemption.starts_at) + 1;
      select coalesce(sum(u.amount), 0) into v_used from public.coupon_uses u
      where u.redemption_id = v_redemption.id and u.billed_at < p_at;
      v_line.unit_price := least(v_left, case when v_redemption.periods is null then v_redemption.amount
        else v_redemption.amount * least(v_place, v_redemption.periods) - v_used end);
    end if;
    continue when v_line.unit_price <= 0;
    v_left := v_left - v_line.unit_price;
    v_line.description := format('Coupon %s', v_redemption.coupon_code);
    v_line.amount := -v_line.unit_price;
    v_line.facts := jsonb_build_object('redemption_id', v_redemption.id, 'coupon', v_redemption.coupon_code,
      'percent', v_redemption.percent);
    return next v_line;
  end loop;
end
$$;
comment on function app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz) is
  'What coupons take off fee and usage of a bill: percents first, then amounts, never more than is there.';

create or replace function calculate_monthly_bill(
  p_organization_id uuid,
  p_billed_at timestamptz default null
) returns table (
  line_number integer, kind text, description text, quantity numeric, unit text, unit_price numeric,
  base_quantity numeric, amount numeric, period_start timestamptz, period_end timestamptz, impressions bigint,
  included bigint, tax_code text, facts jsonb
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_terms public.subscription_terms;
  v_at timestamptz;
  v_index integer;
  v_lines app.bill_line[];
  v_open app.bill_line[];
  v_base numeric;
begin
  select * into v_sub from public.subscriptions s where s.organization_id = p_organization_id;
  if not found then
    perform app.refuse('subscription_not_found', 'The organization has no subscription.');
  end if;
  v_at := coalesce(p_billed_at, v_sub.next_billing_at);
  v_terms := app.terms_at(v_sub.id, v_at);
  v_index := app.moment_index(v_terms.billing_anchor, v_terms.time_zone, v_at);
  if v_terms.id is null or v_index < 0
    or app.billing_moment(v_terms.billing_anchor, v_index, v_terms.time_zone) <> v_at
  then
    -- Between two moments there are only corrections: of what came after an ended subscription's last bill.
    if not (app.is_closing(v_sub) and v_at = v_sub.next_billing_at) and not exists (
      select from public.subscription_adjustments a where a.subscription_id = v_sub.id and a.billed_at = v_at
    ) then
      perform app.refuse('billing_moment_invalid', 'Bills are made for a moment at which a billing month begins.');
    end if;
  else
    -- Usage in arrears: the month that ended at this moment. The fee in advance: what begins at it.
    if v_index > 0 then
      v_lines := array(select l from app.bill_usage(
        v_sub, app.billing_moment(v_terms.billing_anchor, v_index - 1, v_terms.time_zone), v_at) l);
    else
      -- The first bill of one that began anew before its last month was billed asks for that.
      v_lines := array(select l from app.unbilled_month(v_sub.id, v_at) m, app.bill_usage(v_sub, m.period_start, m.period_end) l);
    end if;
    v_lines := v_lines || array(select l from app.bill_fee(v_sub, v_at) l);
  end if;
  v_base := (select sum((l).amount) from unnest(v_lines) l);
  if v_base > 0 then
    v_lines := v_lines || array(select l from app.bill_discounts(v_sub, v_at, v_base,
      (select min((b).period_start) from unnest(v_lines) b), (select max((b).period_end) from unnest(v_lines) b)) l);
  end if;
  -- What a change asks for comes along with the next bill. So does what it gives back of what was never
  -- invoiced; where that is more than the bill, it becomes a credit note instead.
  v_open := array(select b from app.bill_adjustments(v_sub.id, v_at,
    case when v_at = v_sub.next_billing_at then '{credit,charge}'::text[] else '{}' end) b);
  if v_open <> '{}' and v_at = v_sub.next_billing_at and (select sum((l).amount) from unnest(v_lines || v_open) l) < 0 then
    v_open := array(select b from app.bill_adjustments(v_sub.id, v_at, '{charge}') b);
  end if;
  v_lines := v_lines || v_open;
  return query
  select n::integer, b.kind, b.description, b.quantity, b.unit, b.unit_price, b.base_quantity, b.amount,
    b.period_start, b.period_end, b.impressions, b.included, b.tax_code, b.facts
  from unnest(v_lines) with ordinality as b (
    kind, description, quantity, unit, unit_price, base_quantity, amount, period_start, period_end, impressions,
    included, tax_code, facts, n
  ) order by n;
end
$$;
comment on function calculate_monthly_bill(uuid, timestamptz) is
  'The lines of the bill at a billing moment: overage of the month that ended, fee of the period that begins, coupons, changes. Changes nothing.';

create or replace function app.net_fee(p_organization_id uuid, p_at timestamptz) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_fee record;
  v_others numeric;
  v_discount numeric;
  v_currency text;
begin
  select s.currency into v_currency from public.subscriptions s where s.organization_id = p_organization_id;
  select b.unit_price, b.amount into v_fee
  from public.calculate_monthly_bill(p_organization_id, p_at) b where b.kind = 'fee';
  if v_fee.amount is null or v_fee.amount = 0 then
    return 0;
  end if;
  select coalesce(sum(b.amount) filter (where b.kind not in ('fee', 'discount', 'credit', 'charge')), 0),
    coalesce(-sum(b.amount) filter (where b.kind = 'discount'), 0)
  into v_others, v_discount from public.calculate_monthly_bill(p_organization_id, p_at) b;
  return app.round_money(
    v_fee.unit_price
      * (v_fee.amount - (app.spread(v_discount, array[v_fee.amount, v_others], app.currency_digits(v_currency)))[1])
      / v_fee.amount, v_currency);
end
$$;
comment on function app.net_fee(uuid, timestamptz) is
  'The whole period''s fee that the bill of a moment charged, less the fee''s share of its coupons.';

-- Impressions by month, beside what is included, what it comes to, and what was billed for it.

create or replace function app.month_of_impressions(
  p_subscription public.subscriptions, p_organization_id uuid, p_from timestamptz, p_to timestamptz,
  out impressions bigint, out billable bigint, out included bigint, out overage bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_part record;
begin
  select coalesce(sum(r.impressions), 0), coalesce(sum(r.billable), 0) into impressions, billable
  from public.usage_hourly_series r
  where r.organization_id = p_organization_id and r.dimension = 'total' and r.hour >= p_from and r.hour < p_to;
  -- As app.bill_usage() cuts the month: each part against its own share, and a pause sells nothing.
  for v_part in
    select p.*, t.is_paused
    from app.usage_parts(p_subscription.id, p_from, p_to) p
      join public.subscription_terms t on t.id = p.terms_id
  loop
    continue when v_part.is_paused;
    included := coalesce(included, 0) + v_part.included;
    overage := coalesce(overage, 0) + greatest(
      0, app.count_billable(p_organization_id, v_part.period_start, v_part.period_end) - v_part.included);
    if v_part.included is null then
      included := null; overage := null;
      return;
    end if;
  end loop;
end
$$;
comment on function app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz) is
  'Impressions of a month, and how many of them are included and beyond; null where nothing limits them.';

create or replace function app.monthly_impressions(
  p_organization_id uuid, p_by text, p_before timestamptz, p_limit integer
) returns table (
  period_start timestamptz, period_end timestamptz, impressions bigint, billable bigint, included bigint, overage bigint,
  usage_amount numeric, billed_amount numeric, currency text
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription public.subscriptions;
  v_zone text;
  v_anchor date;
  v_month integer;
  v_first timestamptz;
begin
  select * into v_subscription from public.subscriptions s where s.organization_id = p_organization_id;
  v_zone := coalesce(v_subscription.time_zone, 'Europe/Oslo');
  v_anchor := case p_by when 'billing_period' then v_subscription.billing_anchor else date '2000-01-01' end;
  if v_anchor is null then
    perform app.refuse('subscription_not_found', 'The organization has no subscription.');
  end if;
  select least(min(r.hour), v_subscription.current_period_start) into v_first
  from public.usage_hourly_series r where r.organization_id = p_organization_id and r.dimension = 'total';
  v_month := app.moment_index(v_anchor, v_zone, least(app.now(), p_before - interval '1 microsecond'));
  for v_index in reverse v_month .. v_month - p_limit + 1 loop
    exit when p_by = 'billing_period' and v_index < 0;
    period_start := app.billing_moment(v_anchor, v_index, v_zone);
    period_end := app.billing_moment(v_anchor, v_index + 1, v_zone);
    exit when p_by = 'calendar_month' and period_end <= coalesce(v_first, app.now());
    select m.impressions, m.billable, m.included, m.overage into impressions, billable, included, overage
    from app.month_of_impressions(v_subscription, p_organization_id, period_start, period_end) m;
    if p_by = 'billing_period' and v_subscription.status <> 'trialing' then
      currency := v_subscription.currency;
      select coalesce(sum(b.amount), 0) into usage_amount
      from app.bill_usage(v_subscription, period_start, period_end) b;
      if v_subscription.next_billing_at > period_end then
        billed_amount := app.billed_usage(v_subscription, period_end);
      else
        billed_amount := null;
      end if;
    end if;
    return next;
  end loop;
end
$$;
comment on function app.monthly_impressions(uuid, text, timestamptz, integer) is
  'Months of impressions, latest first: billing periods with what they come to and what was billed, or the zone''s calendar months.';

revoke execute on function
  app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz),
  app.monthly_impressions(uuid, text, timestamptz, integer)
from public;
grant execute on function
  app.month_of_impressions(public.subscriptions, uuid, timestamptz, timestamptz),
  app.monthly_impressions(uuid, text, timestamptz, integer)
to service_role;

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

-- The seller's logo: setting it, and who may see it. An organization's own is kept by the room organizations.

create or replace function app.set_seller_logo(
  p_legal_entity_id text, p_content bytea, p_width integer, p_height integer
) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sha256 constant text := encode(sha256(p_content), 'hex');
  v_old text;
begin
  perform from public.legal_entities e where e.id = p_legal_entity_id for no key update;
  if not found then
    perform app.refuse('seller_missing', 'No seller is entered: use aurora invoice seller.');
  end if;
  if p_content is not null then
    insert into public.seller_logos (legal_entity_id, sha256, width, height, content)
    values (p_legal_entity_id, v_sha256, p_width, p_height, p_content)
    on conflict on constraint seller_logos_pkey do nothing;
  end if;
  update public.legal_entities e set logo_sha256 = v_sha256
  where e.id = p_legal_entity_id and e.logo_sha256 is distinct from v_sha256;
  for v_old in
    select l.sha256 from public.seller_logos l
    where l.legal_entity_id = p_legal_entity_id and l.sha256 is distinct from v_sha256
  loop
    begin
      delete from public.seller_logos l where l.legal_entity_id = p_legal_entity_id and l.sha256 = v_old;
    exception when foreign_key_violation or restrict_violation then
      -- A document shows it, so it stays as long as the document.
      null;
    end;
  end loop;
  return v_sha256;
end
$$;
comment on function app.set_seller_logo(text, bytea, integer, integer) is
  'Gives a seller a logo (null: none) and removes those that no document shows; returns the SHA-256 of the new one.';

revoke execute on function app.set_seller_logo(text, bytea, integer, integer) from public;
grant execute on function app.set_seller_logo(text, bytea, integer, integer) to service_role;

revoke all on seller_logos from public, anon, authenticated, service_role, tenant;
grant select, insert, delete on seller_logos to service_role;
grant select on seller_logos to authenticated, tenant;

drop policy if exists "The platform keeps the sellers' logos" on seller_logos;
create policy "The platform keeps the sellers' logos" on seller_logos to service_role using (true) with check (true);
-- Whoever may read a document sees what stands on it, and this stands on all of them.
drop policy if exists "Whoever reads documents sees the seller's logo" on seller_logos;
create policy "Whoever reads documents sees the seller's logo" on seller_logos
  for select to authenticated, tenant using (true);

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

-- What settles invoices: allocations of payments and credit notes, and the status that follows.

create or replace function app.settle_allocation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_paid numeric;
  v_paid_on date;
begin
  -- The checks of the three rows refuse an allocation that is more than any of them has.
  if new.payment_id is not null then
    update public.payments p set amount_allocated = p.amount_allocated + new.amount where p.id = new.payment_id;
  else
    update public.credit_notes c set amount_allocated = c.amount_allocated + new.amount where c.id = new.credit_note_id;
  end if;
  select coalesce(sum(a.amount), 0), max(p.received_on) into v_paid, v_paid_on
  from public.allocations a join public.payments p on p.id = a.payment_id
  where a.organization_id = new.organization_id and a.invoice_id = new.invoice_id;
  update public.invoices i set
    amount_settled = i.amount_settled + new.amount,
    status = case
      when i.amount_settled + new.amount < i.total then case
        when i.due_date < (app.now() at time zone 'Europe/Oslo')::date then 'overdue'
        when i.sent_at is not null then 'sent' else 'issued' end
      when v_paid > 0 then 'paid' else 'credited' end,
    paid_at = case when i.amount_settled + new.amount >= i.total and v_paid > 0 then v_paid_on::timestamp at time zone 'Europe/Oslo' end
  where i.id = new.invoice_id;
  return null;
end
$$;
comment on function app.settle_allocation() is 'Trigger: an invoice''s status follows what was set off against it.';

create or replace trigger allocations_settle after insert on allocations
  for each row execute function app.settle_allocation();

create or replace function app.allocate(
  p_invoice_id uuid, p_payment_id uuid default null, p_credit_note_id uuid default null, p_amount numeric default null
) returns numeric
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_open numeric;
  v_currency text;
  v_seller text;
  v_amount numeric;
begin
  -- Always the invoice first: two that settle the same one wait here, and nobody waits in a circle.
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for no key update;
  if not found or v_invoice.status in ('draft', 'void') then
    perform app.refuse('invoice_not_issued', 'Only an issued invoice can be settled.');
  end if;
  if p_payment_id is not null then
    select p.amount - p.amount_allocated, p.currency, p.legal_entity_id into v_open, v_currency, v_seller from public.payments p
    where p.id = p_payment_id and p.organization_id = v_invoice.organization_id and p.reversed_at is null for update;
  else
    select c.total - c.amount_allocated, c.currency, c.legal_entity_id into v_open, v_currency, v_seller from public.credit_notes c
    where c.id = p_credit_note_id and c.organization_id = v_invoice.organization_id and c.status <> 'draft' for update;
  end if;
  if (v_currency, v_seller) is distinct from (v_invoice.currency, v_invoice.legal_entity_id) then
    perform app.refuse('allocation_invalid', 'A payment or credit note settles invoices of its own customer, seller, and currency.');
  end if;
  v_amount := coalesce(p_amount, least(v_open, v_invoice.total - v_invoice.amount_settled));
  if v_amount < 0 or (v_amount = 0 and p_amount is not null)
    or v_amount > least(v_open, v_invoice.total - v_invoice.amount_settled)
  then
    perform app.refuse('allocation_invalid', format(
      'At most %s can be set off: %s is open on the invoice, %s on the other side.',
      least(v_open, v_invoice.total - v_invoice.amount_settled), v_invoice.total - v_invoice.amount_settled, v_open
    ));
  end if;
  if v_amount > 0 then
    insert into public.allocations (organization_id, invoice_id, payment_id, credit_note_id, amount)
    values (v_invoice.organization_id, p_invoice_id, p_payment_id, p_credit_note_id, v_amount);
  end if;
  return v_amount;
end
$$;
comment on function app.allocate(uuid, uuid, uuid, numeric) is
  'Sets a payment or credit note off against an invoice, as far as both are open or by an amount; returns how much.';

create or replace function app.apply_balance(p_organization_id uuid, p_invoice_id uuid) returns numeric
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_source record;
  v_applied numeric := 0;
  v_currency text;
  v_seller text;
begin
  select i.currency, i.legal_entity_id into v_currency, v_seller from public.invoices i where i.id = p_invoice_id;
  for v_source in
    select c.id as credit_note_id, null::uuid as payment_id, c.issued_at as at from public.credit_notes c
    where c.organization_id = p_organization_id and c.amount_allocated < c.total and c.status <> 'draft'
      and c.currency = v_currency and c.legal_entity_id = v_seller
    union all
    select null, p.id, p.created_at from public.payments p
    where p.organization_id = p_organization_id and p.amount_allocated < p.amount and p.reversed_at is null
      and p.currency = v_currency and p.legal_entity_id = v_seller
    order by 3, 1, 2
  loop
    v_applied := v_applied + app.allocate(p_invoice_id, v_source.payment_id, v_source.credit_note_id);
  end loop;
  return v_applied;
end
$$;
comment on function app.apply_balance(uuid, uuid) is
  'Sets off what a customer has to its credit against an invoice, oldest first; returns how much.';

create or replace function app.enter_payment(
  p_organization_id uuid, p_amount numeric, p_currency text, p_received_on date, p_reference text,
  p_method text default 'bank_transfer', p_invoice_id uuid default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_invoice_id uuid;
  -- Whose account it came to: that of the seller who is paid, or of who would send the next invoice.
  v_seller constant text := coalesce(
    (select i.legal_entity_id from public.invoices i where i.id = p_invoice_id),
    (select i.legal_entity_id from public.invoices i
      where i.organization_id = p_organization_id and i.status in ('issued', 'sent', 'overdue') and i.currency = p_currency
      order by i.due_date, i.invoice_number limit 1),
    (select b.legal_entity_id from public.billing_profiles b where b.organization_id = p_organization_id), 'default');
begin
  if p_received_on > (app.now() at time zone 'Europe/Oslo')::date then
    perform app.refuse('payment_invalid', 'Money is entered once it has arrived: the day lies in the future.');
  end if;
  if coalesce(p_amount, 0) <= 0 or p_amount <> app.round_money(p_amount, p_currency) then
    perform app.refuse('payment_invalid', 'A payment is above zero, in the digits of a known currency.');
  end if;
  insert into public.payments (organization_id, legal_entity_id, amount, currency, received_on, reference, method)
  values (p_organization_id, v_seller, p_amount, p_currency, p_received_on, p_reference, p_method) returning id into v_id;
  if p_invoice_id is not null then
    perform app.allocate(p_invoice_id, v_id);
  end if;
  -- What is left pays the oldest invoices, as a bank would expect.
  for v_invoice_id in
    select i.id from public.invoices i
    where i.organization_id = p_organization_id and i.status in ('issued', 'sent', 'overdue') and i.currency = p_currency
      and i.legal_entity_id = v_seller
    order by i.due_date, i.invoice_number
  loop
    exit when (select p.amount_allocated = p.amount from public.payments p where p.id = v_id);
    perform app.allocate(v_invoice_id, v_id);
  end loop;
  return v_id;
end
$$;
comment on function app.enter_payment(uuid, numeric, text, date, text, text, uuid) is
  'Enters money that arrived, once for each reference, and pays the named invoice and then the oldest open ones.';

create or replace function app.reverse_payment(p_payment_id uuid, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The invoices first, as everywhere.
  perform from public.invoices i where i.id in (
    select a.invoice_id from public.allocations a where a.payment_id = p_payment_id
  ) order by i.id for no key update;
  update public.payments p set reversed_at = app.now(), reversal_reason = p_reason
  where p.id = p_payment_id and p.reversed_at is null;
  if not found then
    perform app.refuse('payment_invalid', 'There is no such payment, or it was taken back already.');
  end if;
  insert into public.allocations (organization_id, invoice_id, payment_id, amount)
  select a.organization_id, a.invoice_id, a.payment_id, -sum(a.amount) from public.allocations a
  where a.payment_id = p_payment_id group by 1, 2, 3 having sum(a.amount) <> 0;
end
$$;
comment on function app.reverse_payment(uuid, text) is
  'Takes a payment back that was wrong or bounced; its invoices are open again.';

create or replace function app.mark_overdue(p_limit integer default 10000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_marked integer;
begin
  update public.invoices i set status = 'overdue'
  where i.id in (
    select d.id from public.invoices d
    where d.status in ('issued', 'sent') and d.due_date < (app.now() at time zone 'Europe/Oslo')::date
    order by d.due_date limit p_limit for update skip locked
  );
  get diagnostics v_marked = row_count;
  return v_marked;
end
$$;
comment on function app.mark_overdue(integer) is 'Marks invoices whose due date has passed; returns how many.';

-- What a change gives back becomes a credit note at once, and what it asks for an invoice; what came late is billed at the price of its time.

create or replace function app.find_charged_line(p_adjustment public.subscription_adjustments)
returns table (invoice_id uuid, line integer, language text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_source constant jsonb := p_adjustment.facts -> 'source';
  v_at timestamptz := (v_source ->> 'billed_at')::timestamptz;
begin
  if v_source ->> 'adjustment_id' is not null then
    select a.billed_at into v_at from public.subscription_adjustments a where a.id = (v_source ->> 'adjustment_id')::uuid;
  end if;
  -- Only a line that can still give back so much: who credited the invoice by hand has given it already.
  return query
  select i.id, (l ->> 'line')::integer, i.language
  from public.invoices i cross join lateral jsonb_array_elements(app.creditable_lines(i)) l
  where i.organization_id = p_adjustment.organization_id and i.subscription_id = p_adjustment.subscription_id
    and i.billed_at = v_at and i.status not in ('draft', 'void')
    and case when v_source ->> 'adjustment_id' is not null then l #>> '{facts,adjustment_id}' = v_source ->> 'adjustment_id'
      else l ->> 'kind' = coalesce(v_source ->> 'line_kind', 'fee') end
    and (l ->> 'amount')::numeric >= p_adjustment.amount
  limit 1;
end
$$;
comment on function app.find_charged_line(public.subscription_adjustments) is
  'The line of an issued invoice that charged what an adjustment gives back; no row where there is none with so much left.';

create or replace function app.credit_reason(p_reason text, p_language text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case p_reason
    when 'pause' then case p_language when 'en' then 'Subscription paused' else 'Abonnementet er satt på pause' end
    when 'late_usage' then case p_language when 'en' then 'Usage corrected' else 'Korrigert forbruk' end
    else case p_language when 'en' then 'Subscription changed' else 'Abonnementet er endret' end
  end
$$;
comment on function app.credit_reason(text, text) is 'What a credit note says of why it was made, in the invoice''s language.';

create or replace function app.credit_of_adjustment(p_adjustment public.subscription_adjustments, p_line integer)
returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'line', p_line, 'amount', p_adjustment.amount, 'description', p_adjustment.description,
    'period_start', (p_adjustment.period_start at time zone 'Europe/Oslo')::date,
    'period_end', greatest((p_adjustment.period_end at time zone 'Europe/Oslo')::date - 1,
      (p_adjustment.period_start at time zone 'Europe/Oslo')::date),
    'facts', p_adjustment.facts - 'credit_note_id' || jsonb_build_object('adjustment_id', p_adjustment.id)
  )
$$;
comment on function app.credit_of_adjustment(public.subscription_adjustments, integer) is
  'What an adjustment asks to be credited of a line of an invoice, as app.credit_invoice() takes it.';

create or replace function app.settle_credit() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_charged record;
  v_note uuid;
begin
  select * into v_charged from app.find_charged_line(new);
  -- What was never invoiced is not credited: the bill that asks for it gives it back as well.
  if not found then
    return new;
  end if;
  v_note := app.credit_invoice(
    v_charged.invoice_id, app.credit_reason(new.reason, v_charged.language),
    jsonb_build_array(app.credit_of_adjustment(new, v_charged.line))
  );
  new.billed_at := null;
  new.settled_at := app.now();
  new.facts := new.facts || jsonb_build_object('credit_note_id', v_note);
  return new;
end
$$;
comment on function app.settle_credit() is
  'Trigger: what a change gives back of an invoice becomes a credit note of it in the same transaction.';

create or replace trigger subscription_adjustments_settle_credit before insert on subscription_adjustments
  for each row when (new.kind = 'credit' and new.settled_at is null) execute function app.settle_credit();

create or replace function app.charging_moment(p_subscription public.subscriptions) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := app.now();
begin
  -- A moment of its own: never a midnight, which a bill may have, and no other document's of the same instant.
  for v_try in 1..1000 loop
    exit when v_at <> (v_at at time zone p_subscription.time_zone)::date::timestamp at time zone p_subscription.time_zone
      and not exists (
        select from public.subscription_adjustments a
        where a.organization_id = p_subscription.organization_id and a.subscription_id = p_subscription.id and a.billed_at = v_at)
      and not exists (
        select from public.invoices i where i.subscription_id = p_subscription.id and i.billed_at = v_at);
    v_at := v_at + interval '1 microsecond';
  end loop;
  return v_at;
end
$$;
comment on function app.charging_moment(public.subscriptions) is
  'The moment that an invoice made between two bills is known by: now, and later by as little as makes it its own.';

create or replace function app.charge_at_once() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_at timestamptz;
begin
  select s.* into strict v_sub from public.subscriptions s
  where s.organization_id = new.organization_id and s.id = new.subscription_id for update;
  v_at := app.charging_moment(v_sub);
  update public.subscription_adjustments a set billed_at = v_at where a.id = new.id;
  -- The lines are read as a bill's are, so that they can be computed anew.
  perform app.draft_invoice(
    v_sub, (app.now() at time zone 'Europe/Oslo')::date,
    app.bill_lines(v_sub.organization_id, v_at, v_sub.time_zone), true, v_at);
  return null;
exception when sqlstate 'AU000' then
  -- No lawful invoice can be made now (an exchange rate, the buyer's number): the next bill asks for it, and says why not.
  return null;
end
$$;
comment on function app.charge_at_once() is
  'Trigger: what a change asks for of a month that was billed becomes an invoice in the same transaction.';

create or replace trigger subscription_adjustments_charge_at_once after insert on subscription_adjustments
  for each row when (new.kind = 'charge' and new.reason <> 'late_usage' and new.billed_at is null and new.settled_at is null)
  execute function app.charge_at_once();

create or replace function app.credit_what_is_over(p_subscription public.subscriptions, p_at timestamptz) returns numeric
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_open public.subscription_adjustments;
  v_invoice public.invoices;
  v_left numeric;
  v_part numeric;
  v_credited numeric := 0;
begin
  for v_open in
    select * from public.subscription_adjustments a
    where a.subscription_id = p_subscription.id and a.kind = 'credit' and a.billed_at is null and a.settled_at is null
    order by a.created_at, a.id
  loop
    v_left := v_open.amount;
    for v_invoice in
      select * from public.invoices i
      where i.organization_id = p_subscription.organization_id and i.subscription_id = p_subscription.id
        and i.currency = p_subscription.currency and i.status not in ('draft', 'void') and i.amount_credited < i.total
      order by i.billed_at desc, i.id for no key update
    loop
      v_part := least(v_left, (
        select sum((l ->> 'amount')::numeric) from jsonb_array_elements(app.creditable_lines(v_invoice)) l));
      continue when coalesce(v_part, 0) <= 0;
      perform app.credit_invoice(v_invoice.id, app.credit_reason(v_open.reason, v_invoice.language), p_amount => v_part);
      v_left := v_left - v_part;
      v_credited := v_credited + v_part;
      exit when v_left = 0;
    end loop;
    -- More than was ever invoiced is nothing that could be given back.
    update public.subscription_adjustments a set settled_at = app.now(),
      facts = a.facts || jsonb_build_object('credited', v_open.amount - v_left, 'settled_with', p_at)
    where a.id = v_open.id;
  end loop;
  return v_credited;
end
$$;
comment on function app.credit_what_is_over(public.subscriptions, timestamptz) is
  'Turns open credits that a bill is too small for into credit notes of the newest invoices; returns how much without VAT.';

create or replace function app.billed_usage(p_subscription public.subscriptions, p_at timestamptz) returns numeric
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select m.usage_amount from public.billed_months m where m.subscription_id = p_subscription.id and m.billed_at = p_at
  ), 0)
$$;
comment on function app.billed_usage(public.subscriptions, timestamptz) is
  'What was asked for the usage of the month that ended at a moment, with what was corrected since; before coupons and VAT.';

create or replace function app.record_billed_month(p_subscription public.subscriptions, p_lines jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_from timestamptz := app.billing_moment(
    p_subscription.billing_anchor, p_subscription.months_billed - 1, p_subscription.time_zone);
  v_to timestamptz := p_subscription.next_billing_at;
begin
  -- Before the first moment nothing was sold that could be counted, unless it began anew and left a month unbilled.
  if p_subscription.months_billed = 0 then
    select m.period_start, m.period_end into v_from, v_to
    from app.unbilled_month(p_subscription.id, p_subscription.next_billing_at) m;
    if not found then
      return;
    end if;
  end if;
  insert into public.billed_months (
    subscription_id, billed_at, organization_id, period_start, billable, usage_amount, base_amount
  )
  select p_subscription.id, v_to, p_subscription.organization_id, v_from,
    app.count_billable(p_subscription.organization_id, v_from, v_to),
    coalesce(sum((l ->> 'amount')::numeric) filter (where l #> '{facts,usage}' is not null), 0),
    coalesce(sum((l ->> 'amount')::numeric), 0)
  from jsonb_array_elements(coalesce(p_lines, '[]')) l
  where l ->> 'kind' not in ('discount', 'credit', 'charge')
  on conflict (subscription_id, billed_at) do update set
    billable = excluded.billable, usage_amount = excluded.usage_amount, base_amount = excluded.base_amount;
end
$$;
comment on function app.record_billed_month(public.subscriptions, jsonb) is
  'Remembers how many billable impressions the bill of these lines counts, and what they come to.';

create or replace function app.after_coupons(
  p_subscription public.subscriptions, p_at timestamptz, p_base numeric
) returns numeric
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_then public.subscriptions := p_subscription;
  v_redemption public.coupon_redemptions;
  v_left numeric := p_base;
begin
  -- A coupon counts its bills from the anchor of its time.
  select t.billing_anchor, t.time_zone into v_then.billing_anchor, v_then.time_zone
  from app.terms_at(p_subscription.id, p_at - interval '1 microsecond') t;
  for v_redemption in
    select r.* from public.coupon_redemptions r
    where r.subscription_id = p_subscription.id and r.starts_at <= p_at and coalesce(r.ended_at, 'infinity') > p_at
    order by r.percent is null, r.created_at, r.id
  loop
    if v_redemption.percent is not null then
      continue when app.redemption_place(v_redemption, v_then, p_at) is null;
      v_left := v_left - app.round_money(v_left * v_redemption.percent / 100, p_subscription.currency);
    elsif v_redemption.periods is null then
      v_left := v_left - least(v_left, v_redemption.amount);
    else
      -- What that bill left of it was kept for the next ones: it takes off here what it took off then.
      v_left := v_left - least(v_left, coalesce((
        select u.amount from public.coupon_uses u where u.redemption_id = v_redemption.id and u.billed_at = p_at), 0));
    end if;
  end loop;
  return v_left;
end
$$;
comment on function app.after_coupons(public.subscriptions, timestamptz, numeric) is
  'What the coupons of a bill that was made leave of fee and usage of so much.';

create or replace function app.insert_late_usage(
  p_subscription public.subscriptions, p_month public.billed_months, p_counted bigint, p_listed numeric
) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- With the coupons of its bill: it costs what it would have cost on it.
  v_delta constant numeric := app.after_coupons(p_subscription, p_month.billed_at, p_month.base_amount + p_listed)
    - app.after_coupons(p_subscription, p_month.billed_at, p_month.base_amount);
begin
  if v_delta = 0 then
    return 0;
  end if;
  insert into public.subscription_adjustments (
    organization_id, subscription_id, kind, reason, description, quantity, unit, unit_price, amount, currency,
    period_start, period_end, facts
  ) values (
    p_subscription.organization_id, p_subscription.id, case when v_delta > 0 then 'charge' else 'credit' end, 'late_usage',
    format(case when v_delta > 0 then '%s: usage that came late%s' else '%s: usage corrected%s' end,
      p_subscription.plan_name, case when v_delta <> p_listed then ', after coupons' end),
    1, 'unit', abs(v_delta), abs(v_delta), p_subscription.currency, p_month.period_start, p_month.billed_at,
    jsonb_build_object('moment', p_month.billed_at, 'listed', p_listed::text,
      'usage', jsonb_build_object('organization_id', p_subscription.organization_id, 'from', p_month.period_start,
        'to', p_month.billed_at, 'billable', p_counted, 'billed', p_month.billable),
      'source', jsonb_build_object('adjustment_id', null, 'billed_at', p_month.billed_at, 'line_kind', 'overage'))
  );
  return 1;
end
$$;
comment on function app.insert_late_usage(public.subscriptions, public.billed_months, bigint, numeric) is
  'Asks for usage of a billed month that came to so much more, or gives back so much less; returns 1 where that costs anything.';

create or replace function app.adjust_late_usage(p_subscription public.subscriptions) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_month public.billed_months;
  v_counted bigint;
  v_listed numeric;
  v_adjusted integer := 0;
begin
  -- An event may come 35 days late: the two months before the one that is billed now, also those of a
  -- subscription that ended and began anew. 70 days are more than two months, and less than three.
  for v_month in
    select * from public.billed_months m
    where m.subscription_id = p_subscription.id and m.billed_at < p_subscription.next_billing_at
      and m.billed_at >= p_subscription.next_billing_at - interval '70 days'
    order by m.billed_at
  loop
    v_counted := app.count_billable(p_subscription.organization_id, v_month.period_start, v_month.billed_at);
    continue when v_counted = v_month.billable;
    -- By the terms of that time, which subscription_terms keep: the price is the one it was sold at.
    v_listed := coalesce((
        select sum(b.amount) from app.bill_usage(p_subscription, v_month.period_start, v_month.billed_at) b
      ), 0) - v_month.usage_amount;
    v_adjusted := v_adjusted + app.insert_late_usage(p_subscription, v_month, v_counted, v_listed);
    update public.billed_months m set
      billable = v_counted, usage_amount = m.usage_amount + v_listed, base_amount = m.base_amount + v_listed
    where m.subscription_id = v_month.subscription_id and m.billed_at = v_month.billed_at;
  end loop;
  return v_adjusted;
end
$$;
comment on function app.adjust_late_usage(public.subscriptions) is
  'Adjusts months that were billed for usage that came or was taken back since, at the price of their time; returns how many.';

-- When a month may be billed, and how what was issued reaches the customer.

create or replace function app.billing_grace() returns interval
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- Senders batch and retry: most of what a month still owes arrives within the hour. What does not, comes late.
  return interval '1 hour';
end
$$;
comment on function app.billing_grace() is 'How long after a month has ended its usage may still arrive before it is billed.';

create or replace function app.usage_is_folded(p_organization_id uuid, p_until timestamptz) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return not exists (
    select from public.usage_deltas d where d.organization_id = p_organization_id and d.first_hour < p_until
  );
end
$$;
comment on function app.usage_is_folded(uuid, timestamptz) is 'Whether all usage of an organization before a moment is folded.';

create or replace function app.enqueue_delivery(p_invoice_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The queue is a library's, installed after the schema: where SQL stands alone, nobody delivers.
  if to_regprocedure('pgqueuer.enqueue_job(text,bytea)') is not null then
    execute 'select pgqueuer.enqueue_job($1, $2)' using 'invoice_deliver', convert_to(p_invoice_id::text, 'UTF8');
  end if;
end
$$;
comment on function app.enqueue_delivery(uuid) is 'Enqueues the delivery of an invoice; the job exists exactly if the transaction commits.';

create or replace function app.deliver_invoice(p_invoice_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_told integer;
begin
  select app.notify_members(
    i.organization_id, 'invoice_issued', 'Invoice ' || i.invoice_number,
    format('%s %s is due on %s.', i.currency, i.total, i.due_date), 'info', 'invoice:' || i.id,
    '/invoices/' || i.id, 'View invoice', 'admin'
  ) into v_told
  from public.invoices i where i.id = p_invoice_id and i.invoice_number is not null;
  if v_told > 0 then
    update public.invoices i set sent_at = app.now(), status = case i.status when 'issued' then 'sent' else i.status end
    where i.id = p_invoice_id and i.sent_at is null;
  end if;
  return coalesce(v_told, 0);
end
$$;
comment on function app.deliver_invoice(uuid) is
  'Tells an organization''s admins of an issued invoice, once, and marks it sent where somebody was told; returns how many were.';

create or replace function app.deliver_credit_notes(p_limit integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_note record;
  v_sent integer := 0;
begin
  for v_note in
    select c.id, c.organization_id, c.credit_note_number, c.currency, c.total, i.invoice_number
    from public.credit_notes c join public.invoices i on i.organization_id = c.organization_id and i.id = c.invoice_id
    where c.status = 'issued' order by c.issued_at limit p_limit for no key update of c skip locked
  loop
    perform app.notify_members(
      v_note.organization_id, 'credit_note_issued', 'Credit note ' || v_note.credit_note_number,
      format('%s %s of invoice %s are credited.', v_note.currency, v_note.total, v_note.invoice_number), 'info',
      'credit_note:' || v_note.id, '/credit-notes/' || v_note.id, 'View credit note', 'admin');
    update public.credit_notes c set status = 'sent', sent_at = app.now() where c.id = v_note.id;
    v_sent := v_sent + 1;
  end loop;
  return v_sent;
end
$$;
comment on function app.deliver_credit_notes(integer) is
  'Tells admins of issued credit notes, each once, and marks them sent; returns how many.';

-- A billing run, step by step: a subscription that is due is claimed, billed, numbered, and moved on.

create or replace function app.make_bill(p_subscription public.subscriptions, p_as_of date, p_issue boolean)
returns public.invoices
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_lines jsonb;
begin
  perform app.adjust_late_usage(p_subscription);
  -- Computed once: the invoice, the coupons' book, and the adjustments that it took all read the same lines.
  v_lines := app.bill_lines(p_subscription.organization_id, p_subscription.next_billing_at, p_subscription.time_zone);
  if not app.is_closing(p_subscription) then
    perform app.record_billed_month(p_subscription, v_lines);
  end if;
  perform app.advance_subscription(p_subscription, v_lines);
  perform app.credit_what_is_over(p_subscription, p_subscription.next_billing_at);
  -- The invoice comes last, and its number with it.
  return app.draft_invoice(p_subscription, p_as_of, v_lines, p_issue);
end
$$;
comment on function app.make_bill(public.subscriptions, date, boolean) is
  'Makes the invoice of a locked subscription''s next billing moment (null: nothing owed) and moves the subscription on.';

create or replace function app.bill_subscription(p_subscription_id uuid, p_as_of date) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
begin
  select s.* into strict v_sub from public.subscriptions s where s.id = p_subscription_id for update;
  return (app.make_bill(v_sub, p_as_of, false)).id;
end
$$;
comment on function app.bill_subscription(uuid, date) is
  'Drafts the invoice of a subscription''s next billing moment (null: nothing owed) and moves the subscription on.';

create or replace function app.claim_due(p_as_of date, p_organization_id uuid, p_except uuid[])
returns public.subscriptions
-- The index gives the order and ends the walk; a plan that knows no figures would rather sort them all.
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = off set enable_seqscan = off
as $$
declare
  -- No zone is further from UTC than twelve hours behind it.
  v_until constant timestamptz := (p_as_of + 2)::timestamp at time zone 'UTC';
  -- What was used in the last minutes of a month has to arrive first; before the first month there is nothing.
  v_arrived constant timestamptz := app.now() - app.billing_grace();
  v_sub public.subscriptions;
begin
  if p_organization_id is not null then
    select s.* into v_sub from public.subscriptions s
    where s.organization_id = p_organization_id and (s.status in ('active', 'past_due', 'paused') or (s.status = 'cancelled' and s.closed_at is null))
      and s.next_billing_at < (p_as_of + 1)::timestamp at time zone s.time_zone
      and (s.months_billed = 0 or s.next_billing_at <= v_arrived) and s.id <> all (p_except)
    for update skip locked;
  else
    select s.* into v_sub from public.subscriptions s
    where (s.status in ('active', 'past_due', 'paused') or (s.status = 'cancelled' and s.closed_at is null)) and s.next_billing_at < v_until
      and s.next_billing_at < (p_as_of + 1)::timestamp at time zone s.time_zone
      and (s.months_billed = 0 or s.next_billing_at <= v_arrived) and s.id <> all (p_except)
    order by s.next_billing_at, s.id limit 1
    for update skip locked;
  end if;
  return v_sub;
end
$$;
comment on function app.claim_due(date, uuid, uuid[]) is
  'Locks the subscription whose billing moment is the longest past; what another runner holds is passed by.';

create or replace function app.bill_next(
  p_as_of date, p_organization_id uuid, p_except uuid[], p_unfolded boolean default false
) returns table (
  subscription_id uuid, outcome text, id uuid, organization_id uuid, invoice_number text, subtotal numeric,
  tax_amount numeric, total numeric, currency text, period_start date, period_end date, state text, message text,
  detail text, violated text, context text
)
-- Thousands of bills run the same statements: to plan each anew costs more than any better plan would save.
language plpgsql set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  v_sub constant public.subscriptions := app.claim_due(p_as_of, p_organization_id, p_except);
  v_invoice public.invoices;
begin
  if v_sub.id is null then
    return;
  end if;
  subscription_id := v_sub.id;
  if not p_unfolded and not app.usage_is_folded(v_sub.organization_id, v_sub.next_billing_at) then
    outcome := 'waits';
    return next;
    return;
  end if;
  begin
    v_invoice := app.make_bill(v_sub, p_as_of, true);
    outcome := case when v_invoice.id is null then 'nothing_owed' else 'issued' end;
  exception
    when query_canceled or others then
      -- A server that has no room or no time for anybody is no fault of this bill.
      if sqlstate ~ '^(08|53|58)' then
        raise;
      end if;
      get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail,
        violated = constraint_name, context = pg_exception_context;
      outcome := 'failed'; v_invoice := null;
  end;
  id := v_invoice.id; organization_id := v_invoice.organization_id; invoice_number := v_invoice.invoice_number;
  subtotal := v_invoice.subtotal; tax_amount := v_invoice.tax_amount; total := v_invoice.total;
  currency := v_invoice.currency; period_start := v_invoice.period_start; period_end := v_invoice.period_end;
  return next;
end
$$;
comment on function app.bill_next(date, uuid, uuid[], boolean) is
  'One step of a run in one round trip: claims a subscription that is due, bills it, and issues the invoice with its delivery. No row: nothing is due. What failed changed nothing.';

-- After the due date: reminders, suspension, and back when it is paid.

insert into overdue_policies (valid_from, reminder_days, suspend_days)
values ('2000-01-01', '{7,21}', 45) on conflict do nothing;

create or replace function app.overdue_policy_on(p_day date) returns public.overdue_policies
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select p from public.overdue_policies p where p.valid_from <= p_day order by p.valid_from desc limit 1
$$;
comment on function app.overdue_policy_on(date) is 'The policy for invoices that were due on a day; null where there is none.';

create or replace function app.is_exempt(p_organization_id uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from public.overdue_exemptions e
    where e.organization_id = p_organization_id
      and coalesce(e.until, 'infinity') >= (app.now() at time zone 'Europe/Oslo')::date);
end
$$;
comment on function app.is_exempt(uuid) is 'Whether an organization is neither reminded nor suspended today.';

create or replace function app.remind(p_invoice public.invoices) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy constant public.overdue_policies := app.overdue_policy_on(p_invoice.due_date);
  v_late constant integer := (app.now() at time zone 'Europe/Oslo')::date - p_invoice.due_date;
  v_due constant integer := (select count(*) from unnest(v_policy.reminder_days) d where d <= v_late);
  v_place integer;
begin
  select max(s.place) into v_place from public.overdue_steps s where s.invoice_id = p_invoice.id and s.kind = 'reminder';
  -- Of several that fell due while nobody looked, one is sent: the last.
  if v_due <= coalesce(v_place, 0) then
    return 0;
  end if;
  insert into public.overdue_steps (organization_id, invoice_id, kind, place, days_late, amount_due)
  values (p_invoice.organization_id, p_invoice.id, 'reminder', v_due, v_late, p_invoice.amount_due);
  update public.subscriptions s set status = 'past_due'
  where s.organization_id = p_invoice.organization_id and s.status = 'active';
  perform app.notify_members(
    p_invoice.organization_id, 'invoice_overdue', format('Invoice %s is overdue', p_invoice.invoice_number),
    format('%s %s was due on %s.', p_invoice.currency, p_invoice.amount_due, p_invoice.due_date)
      || case when v_policy.suspend_days is null then '' else format(
        ' The organization is suspended if it is not paid by %s.', p_invoice.due_date + v_policy.suspend_days) end,
    'warning', format('overdue:%s:%s', p_invoice.id, v_due), '/invoices/' || p_invoice.id, 'View invoice', 'admin');
  return 1;
end
$$;
comment on function app.remind(public.invoices) is 'Sends the reminder of a locked, overdue invoice that has come due; returns 1, or 0 where none has.';

create or replace function app.is_to_be_suspended(p_invoice public.invoices) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy constant public.overdue_policies := app.overdue_policy_on(p_invoice.due_date);
  v_today constant date := (app.now() at time zone 'Europe/Oslo')::date;
  v_last constant integer := (select max(d) from unnest(v_policy.reminder_days) d);
begin
  -- A reminder that came late gives as many days as one in time.
  return coalesce(v_today >= p_invoice.due_date + v_policy.suspend_days, false) and exists (
    select from public.overdue_steps s
    where s.invoice_id = p_invoice.id and s.kind = 'reminder' and s.place = cardinality(v_policy.reminder_days)
      and (s.taken_at at time zone 'Europe/Oslo')::date + v_policy.suspend_days - v_last <= v_today);
end
$$;
comment on function app.is_to_be_suspended(public.invoices) is
  'Whether an overdue invoice is late enough, and its last reminder long enough ago, for a suspension.';

create or replace function app.suspend_for(p_invoice public.invoices) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_place integer;
begin
  -- Who is suspended for another reason, or has ended, stays what it is.
  update public.organizations o set status = 'suspended'
  where o.id = p_invoice.organization_id and o.status in ('active', 'trial');
  if not found then
    return 0;
  end if;
  select coalesce(max(s.place), 0) + 1 into v_place from public.overdue_steps s
  where s.invoice_id = p_invoice.id and s.kind = 'suspension';
  insert into public.overdue_steps (organization_id, invoice_id, kind, place, days_late, amount_due)
  values (p_invoice.organization_id, p_invoice.id, 'suspension', v_place,
    (app.now() at time zone 'Europe/Oslo')::date - p_invoice.due_date, p_invoice.amount_due);
  perform app.notify_members(
    p_invoice.organization_id, 'organization_suspended', 'The organization is suspended',
    format('Invoice %s was due on %s: %s %s. Keys work again when it is paid.',
      p_invoice.invoice_number, p_invoice.due_date, p_invoice.currency, p_invoice.amount_due),
    'critical', format('suspended:%s:%s', p_invoice.id, v_place), '/invoices/' || p_invoice.id, 'View invoice', 'admin');
  return 1;
end
$$;
comment on function app.suspend_for(public.invoices) is 'Suspends the organization that owes an invoice, and tells its admins; returns 1, or 0 where it was not active.';

create or replace function app.reactivate(p_organization_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_step public.overdue_steps;
begin
  -- Who holds the rows now may wait for ours: then the worker comes back to it.
  perform from public.organizations o where o.id = p_organization_id for no key update skip locked;
  if not found then
    return 0;
  end if;
  if not exists (
    select from public.invoices i where i.organization_id = p_organization_id and i.status = 'overdue'
  ) then
    update public.subscriptions s set status = 'active' where s.id = (
      select l.id from public.subscriptions l
      where l.organization_id = p_organization_id and l.status = 'past_due' for update skip locked);
  end if;
  if not app.is_exempt(p_organization_id) and exists (
    select from public.invoices i
    where i.organization_id = p_organization_id and i.status = 'overdue' and app.is_to_be_suspended(i)
  ) then
    return 0;
  end if;
  update public.overdue_steps s set ended_at = app.now()
  where s.organization_id = p_organization_id and s.kind = 'suspension' and s.ended_at is null returning * into v_step;
  if not found then
    return 0;
  end if;
  -- What rests for another reason goes on resting.
  update public.organizations o set status = 'active'
  where o.id = p_organization_id and o.status = 'suspended' and not exists (
    select from public.subscriptions s where s.organization_id = o.id and s.status = 'paused');
  perform app.notify_members(
    p_organization_id, 'organization_reactivated', 'The organization is active again', 'Its keys work again.', 'info',
    format('reactivated:%s:%s', v_step.invoice_id, v_step.place), null, null, 'admin');
  return 1;
end
$$;
comment on function app.reactivate(uuid) is
  'Ends the suspension of an organization that owes nothing late enough for one any more, or is exempt; returns 1, or 0.';

create or replace function app.chase_overdue(p_limit integer default 1000)
returns table (reminded integer, suspended integer, reactivated integer)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_id uuid;
begin
  reminded := 0; suspended := 0; reactivated := 0;
  -- Whoever asks need not wait for the hour that marks what is late.
  perform app.mark_overdue(p_limit);
  for v_invoice in
    select i.* from public.invoices i cross join lateral app.overdue_policy_on(i.due_date) p
    where i.status = 'overdue' and not app.is_exempt(i.organization_id) and (
      (select count(*) from unnest(p.reminder_days) d
        where d <= (app.now() at time zone 'Europe/Oslo')::date - i.due_date)
      > coalesce((select max(s.place) from public.overdue_steps s where s.invoice_id = i.id and s.kind = 'reminder'), 0)
      or (app.is_to_be_suspended(i) and exists (
        select from public.organizations o where o.id = i.organization_id and o.status in ('active', 'trial'))))
    order by i.due_date, i.id limit p_limit for no key update of i skip locked
  loop
    reminded := reminded + app.remind(v_invoice);
    if app.is_to_be_suspended(v_invoice) then
      suspended := suspended + app.suspend_for(v_invoice);
    end if;
  end loop;
  for v_id in
    select s.organization_id from public.overdue_steps s where s.kind = 'suspension' and s.ended_at is null
    union
    select s.organization_id from public.subscriptions s where s.status = 'past_due'
    limit p_limit
  loop
    reactivated := reactivated + app.reactivate(v_id);
  end loop;
  return next;
end
$$;
comment on function app.chase_overdue(integer) is
  'Takes the steps that overdue invoices have come to, each once, and ends suspensions whose reason is gone; returns how many.';

create or replace function app.exempt_organization(p_organization_id uuid, p_until date, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if p_reason is null then
    delete from public.overdue_exemptions e where e.organization_id = p_organization_id;
    return;
  end if;
  insert into public.overdue_exemptions (organization_id, until, reason) values (p_organization_id, p_until, p_reason)
  on conflict (organization_id) do update set until = excluded.until, reason = excluded.reason, entered_at = app.now();
  perform app.reactivate(p_organization_id);
end
$$;
comment on function app.exempt_organization(uuid, date, text) is
  'Exempts an organization from reminders and suspension, also from one that is in force; without a reason that ends.';

create or replace function app.settle_overdue() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.reactivate(new.organization_id);
  return null;
end
$$;
comment on function app.settle_overdue() is 'Trigger: who pays what was overdue is active again in the same transaction.';
create or replace trigger invoices_settle_overdue after update of status on invoices
  for each row when (old.status = 'overdue' and new.status <> 'overdue') execute function app.settle_overdue();

create or replace function app.keep_suspended() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.overdue_steps s where s.organization_id = new.id and s.kind = 'suspension' and s.ended_at is null
  ) then
    perform app.refuse('organization_overdue', 'The organization is suspended for what it owes: enter the payment, or exempt it.');
  end if;
  return new;
end
$$;
comment on function app.keep_suspended() is 'Trigger: nothing but payment or an exemption ends a suspension for what is owed.';
create or replace trigger organizations_keep_suspended before update of status on organizations
  for each row when (old.status = 'suspended' and new.status = 'active') execute function app.keep_suspended();

-- An exemption is an operator's word, and a policy is the house's: both are told in the audit.
select app.audit_table('public.overdue_policies', 'overdue_policy', '{valid_from,reminder_days,suspend_days}',
  p_ignored => '{entered_at}', p_owner => '');
select app.audit_table('public.overdue_exemptions', 'overdue_exemption', '{organization_id,until,reason}',
  p_ignored => '{entered_at}');

revoke execute on function
  app.overdue_policy_on(date), app.is_exempt(uuid), app.remind(public.invoices), app.is_to_be_suspended(public.invoices),
  app.suspend_for(public.invoices), app.reactivate(uuid), app.chase_overdue(integer), app.exempt_organization(uuid, date, text),
  app.settle_overdue(), app.keep_suspended()
from public;
grant execute on function
  app.overdue_policy_on(date), app.is_exempt(uuid), app.remind(public.invoices), app.is_to_be_suspended(public.invoices),
  app.suspend_for(public.invoices), app.reactivate(uuid), app.chase_overdue(integer), app.exempt_organization(uuid, date, text),
  app.settle_overdue(), app.keep_suspended()
to service_role;

revoke all on overdue_policies, overdue_exemptions, overdue_steps from public, anon, authenticated, service_role, tenant;
grant select, insert, update on overdue_policies, overdue_steps to service_role;
grant select, insert, update, delete on overdue_exemptions to service_role;
drop policy if exists "The platform keeps the overdue policy" on overdue_policies;
create policy "The platform keeps the overdue policy" on overdue_policies to service_role using (true) with check (true);
drop policy if exists "The platform exempts organizations" on overdue_exemptions;
create policy "The platform exempts organizations" on overdue_exemptions to service_role using (true) with check (true);
drop policy if exists "The platform takes the steps" on overdue_steps;
create policy "The platform takes the steps" on overdue_steps to service_role using (true) with check (true);

-- What customers would have paid under another price, from what they really used.

create or replace function app.simulate_terms(
  p_subscription public.subscriptions, p_new public.subscription_terms, p_months integer
) returns table (
  period_start timestamptz, period_end timestamptz, billable bigint, fee numeric, usage numeric, new_fee numeric, new_usage numeric
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_last constant integer := app.moment_index(p_subscription.billing_anchor, p_subscription.time_zone, app.now());
  v_terms public.subscription_terms;
begin
  for v_index in greatest(1, v_last - p_months + 1)..v_last loop
    period_start := app.billing_moment(p_subscription.billing_anchor, v_index - 1, p_subscription.time_zone);
    period_end := app.billing_moment(p_subscription.billing_anchor, v_index, p_subscription.time_zone);
    v_terms := app.terms_at(p_subscription.id, period_start);
    continue when v_terms.id is null or v_terms.is_paused;
    billable := app.count_billable(p_subscription.organization_id, period_start, period_end);
    -- A year's fee counts by its twelfth, so that months can be compared.
    fee := app.round_quotient(app.terms_fee(v_terms), app.terms_months(v_terms), app.currency_digits(v_terms.currency));
    select coalesce(sum(b.amount), 0) into usage from app.bill_usage(p_subscription, period_start, period_end) b;
    new_fee := app.round_quotient(app.terms_fee(p_new), app.terms_months(p_new), app.currency_digits(p_new.currency));
    select coalesce(sum(b.amount), 0) into new_usage from app.rate_usage(p_new, billable, p_new.included_impressions) b;
    return next;
  end loop;
end
$$;
comment on function app.simulate_terms(public.subscriptions, public.subscription_terms, integer) is
  'The last months of a subscription that have ended, as they were billed and as they would be under other terms; without VAT and coupons.';

create or replace function app.simulate_plan(
  p_plan_id text, p_overrides jsonb, p_months integer, p_on text default null, p_organization_id uuid default null
) returns table (
  organization_id uuid, slug text, plan_id text, currency text, months bigint, billable numeric, fee numeric, usage numeric,
  new_fee numeric, new_usage numeric
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_customer record;
begin
  for v_customer in
    select s as subscription, o.slug from public.subscriptions s join public.organizations o on o.id = s.organization_id
    where s.status in ('active', 'past_due') and (p_on is null or s.plan_id = p_on)
      and (p_organization_id is null or s.organization_id = p_organization_id)
      -- In another currency there is nothing to compare.
      and s.currency = (select p.currency from public.plans p where p.id = p_plan_id)
    order by o.slug
  loop
    return query
    select (v_customer.subscription).organization_id, v_customer.slug, (v_customer.subscription).plan_id,
      (v_customer.subscription).currency, count(*), coalesce(sum(m.billable), 0),
      coalesce(sum(m.fee), 0), coalesce(sum(m.usage), 0), coalesce(sum(m.new_fee), 0), coalesce(sum(m.new_usage), 0)
    from app.simulate_terms(v_customer.subscription,
      app.planned_terms(v_customer.subscription, p_plan_id, null, p_overrides), p_months) m;
  end loop;
end
$$;
comment on function app.simulate_plan(text, jsonb, integer, text, uuid) is
  'What each customer paid in its last months and would have paid on a plan with these terms; changes nothing.';

-- Who may see invoices: admins and owners of the organization, and the organization itself.

revoke execute on function
  app.check_currency(text),
  app.buyer_snapshot(uuid),
  app.seller_snapshot(public.legal_entities),
  app.tax_code_of(boolean, jsonb, text),
  app.tax_rate_on(text, date),
  app.exchange_rate_on(text, date),
  app.lines_with_tax(jsonb, boolean, jsonb, date),
  app.tax_lines_of(jsonb, text, numeric, date, text),
  app.late_interest(uuid, date),
  app.replay_invoice(public.invoices),
  app.sale_of(uuid, jsonb, text, date),
  app.insert_invoice(uuid, jsonb, text, date, public.subscriptions, timestamptz, jsonb, boolean, jsonb),
  app.bill_lines(uuid, timestamptz, text),
  app.draft_invoice(public.subscriptions, date, jsonb, boolean, timestamptz),
  app.draft_manual_invoice(uuid, jsonb, text, date, jsonb),
  app.check_entered_line(jsonb, integer),
  app.lines_entered(jsonb, text, date),
  app.price_draft(public.invoices, jsonb, text, jsonb),
  app.change_draft(uuid, jsonb),
  app.bill_subscription(uuid, date),
  app.make_bill(public.subscriptions, date, boolean),
  app.claim_due(date, uuid, uuid[]),
  app.bill_next(date, uuid, uuid[], boolean),
  app.check_parties(jsonb, jsonb, jsonb),
  app.next_number(text, text),
  app.take_number(text, date),
  app.padded(bigint),
  app.issue_invoice(uuid),
  app.complete_invoice(public.invoices),
  app.void_invoice(uuid),
  app.protect_issued_document(),
  app.refuse_history_change(),
  app.creditable_lines(public.invoices, integer),
  app.lines_to_credit(jsonb, jsonb, numeric, text),
  app.tax_to_credit(public.invoices, jsonb, integer),
  app.lines_of_credit(public.invoices, jsonb, integer),
  app.replay_credit_note(public.credit_notes),
  app.credit_of_adjustment(public.subscription_adjustments, integer),
  app.draft_credit_note(uuid, text, jsonb, date, numeric),
  app.issue_credit_note(uuid),
  app.credit_invoice(uuid, text, jsonb, date, numeric),
  app.count_credit(),
  app.find_charged_line(public.subscription_adjustments),
  app.credit_reason(text, text),
  app.settle_credit(),
  app.charging_moment(public.subscriptions),
  app.charge_at_once(),
  app.credit_what_is_over(public.subscriptions, timestamptz),
  app.billed_usage(public.subscriptions, timestamptz),
  app.adjust_late_usage(public.subscriptions),
  app.record_billed_month(public.subscriptions, jsonb),
  app.after_coupons(public.subscriptions, timestamptz, numeric),
  app.insert_late_usage(public.subscriptions, public.billed_months, bigint, numeric),
  app.billing_grace(),
  app.simulate_terms(public.subscriptions, public.subscription_terms, integer),
  app.simulate_plan(text, jsonb, integer, text, uuid),
  app.usage_is_folded(uuid, timestamptz),
  app.enqueue_delivery(uuid),
  app.deliver_invoice(uuid),
  app.deliver_credit_notes(integer),
  app.settle_allocation(),
  app.allocate(uuid, uuid, uuid, numeric),
  app.apply_balance(uuid, uuid),
  app.enter_payment(uuid, numeric, text, date, text, text, uuid),
  app.reverse_payment(uuid, text),
  app.mark_overdue(integer),
  app.rate_usage(public.subscription_terms, bigint, bigint),
  app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz),
  app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, text[]),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.mod10(text), calculate_monthly_bill(uuid, timestamptz)
from public;
grant execute on function
  app.check_currency(text),
  app.buyer_snapshot(uuid),
  app.seller_snapshot(public.legal_entities),
  app.tax_code_of(boolean, jsonb, text),
  app.tax_rate_on(text, date),
  app.exchange_rate_on(text, date),
  app.lines_with_tax(jsonb, boolean, jsonb, date),
  app.tax_lines_of(jsonb, text, numeric, date, text),
  app.late_interest(uuid, date),
  app.replay_invoice(public.invoices),
  app.sale_of(uuid, jsonb, text, date),
  app.insert_invoice(uuid, jsonb, text, date, public.subscriptions, timestamptz, jsonb, boolean, jsonb),
  app.bill_lines(uuid, timestamptz, text),
  app.draft_invoice(public.subscriptions, date, jsonb, boolean, timestamptz),
  app.draft_manual_invoice(uuid, jsonb, text, date, jsonb),
  app.check_entered_line(jsonb, integer),
  app.lines_entered(jsonb, text, date),
  app.price_draft(public.invoices, jsonb, text, jsonb),
  app.change_draft(uuid, jsonb),
  app.bill_subscription(uuid, date),
  app.make_bill(public.subscriptions, date, boolean),
  app.claim_due(date, uuid, uuid[]),
  app.bill_next(date, uuid, uuid[], boolean),
  app.check_parties(jsonb, jsonb, jsonb),
  app.next_number(text, text),
  app.take_number(text, date),
  app.padded(bigint),
  app.issue_invoice(uuid),
  app.complete_invoice(public.invoices),
  app.void_invoice(uuid),
  app.protect_issued_document(),
  app.refuse_history_change(),
  app.creditable_lines(public.invoices, integer),
  app.lines_to_credit(jsonb, jsonb, numeric, text),
  app.tax_to_credit(public.invoices, jsonb, integer),
  app.lines_of_credit(public.invoices, jsonb, integer),
  app.replay_credit_note(public.credit_notes),
  app.credit_of_adjustment(public.subscription_adjustments, integer),
  app.draft_credit_note(uuid, text, jsonb, date, numeric),
  app.issue_credit_note(uuid),
  app.credit_invoice(uuid, text, jsonb, date, numeric),
  app.count_credit(),
  app.find_charged_line(public.subscription_adjustments),
  app.credit_reason(text, text),
  app.settle_credit(),
  app.charging_moment(public.subscriptions),
  app.charge_at_once(),
  app.credit_what_is_over(public.subscriptions, timestamptz),
  app.billed_usage(public.subscriptions, timestamptz),
  app.adjust_late_usage(public.subscriptions),
  app.record_billed_month(public.subscriptions, jsonb),
  app.after_coupons(public.subscriptions, timestamptz, numeric),
  app.insert_late_usage(public.subscriptions, public.billed_months, bigint, numeric),
  app.billing_grace(),
  app.simulate_terms(public.subscriptions, public.subscription_terms, integer),
  app.simulate_plan(text, jsonb, integer, text, uuid),
  app.usage_is_folded(uuid, timestamptz),
  app.enqueue_delivery(uuid),
  app.deliver_invoice(uuid),
  app.deliver_credit_notes(integer),
  app.settle_allocation(),
  app.allocate(uuid, uuid, uuid, numeric),
  app.apply_balance(uuid, uuid),
  app.enter_payment(uuid, numeric, text, date, text, text, uuid),
  app.reverse_payment(uuid, text),
  app.mark_overdue(integer),
  app.rate_usage(public.subscription_terms, bigint, bigint),
  app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz),
  app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, text[]),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.mod10(text), calculate_monthly_bill(uuid, timestamptz)
to service_role;

revoke all on
  legal_entities, invoice_counters, invoices, credit_notes, payments, allocations,
  billing_profiles, tax_rates, exchange_rates, late_interest_rates, billed_months
from public, anon, authenticated, service_role, tenant;
grant select, insert, update on
  legal_entities, invoice_counters, credit_notes, payments, billing_profiles, billed_months,
  tax_rates, exchange_rates, late_interest_rates
to service_role;
grant select, insert on allocations to service_role;
grant select, insert, update, delete on invoices to service_role;
grant select on invoices, credit_notes, payments, allocations, billing_profiles to authenticated, tenant;

drop policy if exists "The platform keeps the sellers" on legal_entities;
create policy "The platform keeps the sellers" on legal_entities to service_role using (true) with check (true);
drop policy if exists "The platform counts invoices" on invoice_counters;
create policy "The platform counts invoices" on invoice_counters to service_role using (true) with check (true);
drop policy if exists "The platform counts what was billed" on billed_months;
create policy "The platform counts what was billed" on billed_months to service_role using (true) with check (true);
drop policy if exists "The platform keeps the VAT rates" on tax_rates;
create policy "The platform keeps the VAT rates" on tax_rates to service_role using (true) with check (true);
drop policy if exists "The platform keeps the exchange rates" on exchange_rates;
create policy "The platform keeps the exchange rates" on exchange_rates to service_role using (true) with check (true);
drop policy if exists "The platform keeps the late interest" on late_interest_rates;
create policy "The platform keeps the late interest" on late_interest_rates to service_role using (true) with check (true);

drop policy if exists "The platform acts on every invoice" on invoices;
create policy "The platform acts on every invoice" on invoices to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's issued invoices" on invoices;
create policy "Admins see their organization's issued invoices" on invoices
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))) and status not in ('draft', 'void'))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its issued invoices" on invoices;
create policy "An organization sees its issued invoices" on invoices
  for select to tenant
  using (organization_id = any (app.visible_organizations()) and status not in ('draft', 'void'));

drop policy if exists "The platform acts on every credit notes" on credit_notes;
create policy "The platform acts on every credit notes" on credit_notes to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's issued credit notes" on credit_notes;
create policy "Admins see their organization's issued credit notes" on credit_notes
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))) and status <> 'draft')
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its issued credit notes" on credit_notes;
create policy "An organization sees its issued credit notes" on credit_notes
  for select to tenant
  using (organization_id = any (app.visible_organizations()) and status <> 'draft');

drop policy if exists "The platform acts on every payments" on payments;
create policy "The platform acts on every payments" on payments to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's payments" on payments;
create policy "Admins see their organization's payments" on payments
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its payments" on payments;
create policy "An organization sees its payments" on payments
  for select to tenant
  using (organization_id = any (app.visible_organizations()));

drop policy if exists "The platform acts on every allocations" on allocations;
create policy "The platform acts on every allocations" on allocations to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's allocations" on allocations;
create policy "Admins see their organization's allocations" on allocations
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its allocations" on allocations;
create policy "An organization sees its allocations" on allocations
  for select to tenant
  using (organization_id = any (app.visible_organizations()));

drop policy if exists "The platform acts on every billing profile" on billing_profiles;
create policy "The platform acts on every billing profile" on billing_profiles to service_role using (true) with check (true);
drop policy if exists "Admins see their organization's billing profile" on billing_profiles;
create policy "Admins see their organization's billing profile" on billing_profiles
  for select to authenticated
  using (
    (organization_id = any (array(select app.my_organizations('admin'))))
    or (select app.is_operator())
  );
drop policy if exists "An organization sees its billing profile" on billing_profiles;
create policy "An organization sees its billing profile" on billing_profiles
  for select to tenant
  using (organization_id = any (app.visible_organizations()));
