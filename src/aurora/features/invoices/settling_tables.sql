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
