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
