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
