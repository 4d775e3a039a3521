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
  payment_days integer not null default 14,

  constraint legal_entities_id_check check (id ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint legal_entities_country_check check (country ~ '^[A-Z]{2}$'),
  constraint legal_entities_email_check check (app.is_email(email)),
  constraint legal_entities_invoice_prefix_check check (invoice_prefix ~ '^[A-Z]{1,10}$'),
  constraint legal_entities_payment_days_check check (payment_days between 0 and 365)
);
alter table legal_entities enable row level security;
comment on table legal_entities is 'Who sells and issues invoices: what the law wants printed, and how numbers look.';
comment on column legal_entities.is_specimen is 'True until the real seller is entered; its documents are marked as specimens.';

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
  kid text,

  period_start date not null,
  period_end date not null,
  billed_at timestamptz,

  subtotal numeric(14, 2) not null,
  tax_rate numeric(5, 2) default 25.00,
  tax_amount numeric(14, 2) not null,
  total numeric(14, 2) not null,
  currency text not null default 'NOK',

  line_items jsonb not null,
  tax_lines jsonb not null default '[]',
  seller jsonb not null default '{}',
  buyer jsonb not null default '{}',

  status text not null default 'draft',
  paid_at timestamptz,

  stripe_invoice_id text,
  payment_method text,
  pdf_url text,
  metadata jsonb not null default '{}',

  constraint invoices_number_key unique (invoice_number),
  constraint invoices_stripe_invoice_id_key unique (stripe_invoice_id),
  constraint invoices_subscription_fkey foreign key (organization_id, subscription_id)
    references subscriptions (organization_id, id) on delete restrict,
  constraint invoices_kind_check check (kind in ('subscription', 'manual')),
  constraint invoices_number_check
    check ((status in ('draft', 'void')) = (invoice_number is null) and (invoice_number is null) = (issued_at is null)),
  constraint invoices_due_date_check check (due_date >= invoice_date),
  constraint invoices_period_check check (period_end >= period_start),
  constraint invoices_amounts_check check (total = subtotal + tax_amount),
  constraint invoices_currency_check check (currency ~ '^[A-Z]{3}$'),
  constraint invoices_line_items_check check (jsonb_typeof(line_items) = 'array' and line_items <> '[]'),
  constraint invoices_tax_lines_check check (jsonb_typeof(tax_lines) = 'array'),
  constraint invoices_status_check check (status in ('draft', 'sent', 'paid', 'overdue', 'void')),
  constraint invoices_paid_check check ((status = 'paid') = (paid_at is not null)),
  constraint invoices_payment_method_check check (payment_method in ('card', 'invoice', 'bank_transfer')),
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
create index invoices_due_date_idx on invoices (due_date) where status = 'sent';
alter table invoices enable row level security;
comment on table invoices is 'Sales documents. A draft has no number; an issued one is never changed and never deleted.';
comment on column invoices.period_end is 'The last day of the period, inclusive, as it is printed.';
comment on column invoices.billed_at is 'The billing moment: usage before it in arrears, the fee after it in advance.';

-- From usage and terms to lines, from lines to a draft, from a draft to a numbered, immutable document.

create or replace function app.tax_for(p_country text, p_date date, p_vat_registered boolean)
returns table (category text, rate numeric, reason text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- mval section 5-1 (25 % since 2005); section 6-22: services to a recipient outside the VAT area are exempt.
  -- Who is not in the register may not charge it at all (section 15-11).
  select 'S', 25.00, null where p_vat_registered and p_country = 'NO'
  union all
  select 'G', 0.00, 'Fritatt for merverdiavgift, mval § 6-22 (export of services)'
  where p_vat_registered and p_country <> 'NO'
  union all
  select 'O', 0.00, 'Selger er ikke registrert i Merverdiavgiftsregisteret' where not p_vat_registered
$$;
comment on function app.tax_for(text, date, boolean) is
  'VAT category (UNCL5305), rate in percent, and reason for a buyer''s country and a seller''s registration.';

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

create or replace function calculate_monthly_bill(
  p_organization_id uuid,
  p_billed_at timestamptz default null
) returns table (
  line_number integer, kind text, description text, quantity numeric, unit text, unit_price numeric,
  amount numeric, period_start timestamptz, period_end timestamptz, impressions bigint, included bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_months integer;
  v_at timestamptz;
  v_from timestamptz;
  v_used bigint;
  v_over bigint;
begin
  select * into v_sub from public.subscriptions s where s.organization_id = p_organization_id;
  if not found then
    perform app.refuse('subscription_not_found', 'The organization has no subscription.');
  end if;
  v_at := coalesce(p_billed_at, v_sub.next_billing_at);
  select m into v_months from generate_series(0, 1200) m
  where app.billing_moment(v_sub.billing_anchor, m, v_sub.time_zone) = v_at;
  if not found then
    perform app.refuse('billing_moment_invalid', 'Bills are made for a moment at which a billing month begins.');
  end if;

  line_number := 0;
  -- Usage in arrears: the month that ended at this moment.
  if v_months > 0 and v_sub.included_impressions is not null and v_sub.overage_rate > 0 then
    v_from := app.billing_moment(v_sub.billing_anchor, v_months - 1, v_sub.time_zone);
    v_used := app.count_billable(p_organization_id, v_from, v_at);
    v_over := greatest(0, v_used - v_sub.included_impressions);
    if v_over > 0 then
      line_number := line_number + 1;
      kind := 'overage';
      description := format('%s: overage', v_sub.plan_name);
      -- Begun thousands are whole blocks, so that quantity times price is the line to the øre (EHF R120).
      quantity := case v_sub.overage_model
        when 'per_begun_1000' then (v_over + 999) / 1000 else v_over / 1000.0 end;
      unit := 'thousand';
      unit_price := v_sub.overage_rate;
      amount := round(quantity * unit_price, 2);
      period_start := v_from; period_end := v_at; impressions := v_used; included := v_sub.included_impressions;
      return next;
    end if;
  end if;
  -- The fee in advance: the month or year that begins at this moment.
  if not (v_sub.cancel_at_period_end and v_at >= v_sub.current_period_end)
    and (v_sub.billing_period = 'monthly' or v_months % 12 = 0)
  then
    line_number := line_number + 1;
    kind := 'fee';
    description := v_sub.plan_name;
    quantity := 1;
    unit := case v_sub.billing_period when 'yearly' then 'year' else 'month' end;
    unit_price := case v_sub.billing_period when 'yearly' then v_sub.price_yearly else v_sub.price_monthly end;
    amount := round(unit_price, 2);
    period_start := v_at;
    period_end := app.billing_moment(
      v_sub.billing_anchor, v_months + case v_sub.billing_period when 'yearly' then 12 else 1 end, v_sub.time_zone
    );
    impressions := null; included := null;
    return next;
  end if;
end
$$;
comment on function calculate_monthly_bill(uuid, timestamptz) is
  'The lines of the bill at a billing moment: overage of the month that ended, fee of the one that begins. Changes nothing.';

-- Drafting, numbering, and what protects an issued document.

create or replace function app.draft_invoice(p_subscription public.subscriptions, p_invoice_date date)
returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_seller public.legal_entities;
  v_buyer public.organizations;
  v_tax record;
  v_lines jsonb;
  v_subtotal numeric;
  v_tax_amount numeric;
  v_start date;
  v_end date;
  v_id uuid;
begin
  select * into strict v_buyer from public.organizations o where o.id = p_subscription.organization_id;
  select * into v_seller from public.legal_entities e where e.id = 'default';
  if not found then
    perform app.refuse('seller_missing', 'No seller is entered: use aurora invoice seller.');
  end if;
  select * into strict v_tax from app.tax_for(v_buyer.country, p_invoice_date, v_seller.vat_registered);

  select
    jsonb_agg(
      jsonb_build_object(
        'kind', b.kind, 'description', b.description, 'quantity', b.quantity, 'unit', b.unit,
        'unit_price', b.unit_price, 'amount', b.amount, 'tax_category', v_tax.category, 'tax_rate', v_tax.rate,
        'period_start', (b.period_start at time zone p_subscription.time_zone)::date,
        'period_end', (b.period_end at time zone p_subscription.time_zone)::date - 1,
        'impressions', b.impressions, 'included', b.included
      ) order by b.line_number
    ),
    sum(b.amount),
    min((b.period_start at time zone p_subscription.time_zone)::date),
    max((b.period_end at time zone p_subscription.time_zone)::date - 1)
  into v_lines, v_subtotal, v_start, v_end
  from public.calculate_monthly_bill(p_subscription.organization_id, p_subscription.next_billing_at) b
  where b.amount > 0;
  if v_lines is null then
    return null;
  end if;

  v_tax_amount := round(v_subtotal * v_tax.rate / 100, 2);
  insert into public.invoices (
    organization_id, subscription_id, legal_entity_id, invoice_date, due_date, period_start, period_end, billed_at,
    subtotal, tax_rate, tax_amount, total, currency, line_items, tax_lines, seller, buyer
  ) values (
    p_subscription.organization_id, p_subscription.id, v_seller.id, p_invoice_date,
    p_invoice_date + v_seller.payment_days, v_start, v_end, p_subscription.next_billing_at,
    v_subtotal, v_tax.rate, v_tax_amount, v_subtotal + v_tax_amount, p_subscription.currency, v_lines,
    jsonb_build_array(jsonb_build_object(
      'category', v_tax.category, 'rate', v_tax.rate, 'taxable', v_subtotal, 'tax', v_tax_amount,
      'reason', v_tax.reason
    )),
    to_jsonb(v_seller) - '{id,created_at,updated_at,time_zone,invoice_prefix,payment_days}'::text[],
    jsonb_build_object(
      'name', v_buyer.name, 'org_number', v_buyer.org_number, 'vat_number', v_buyer.vat_number,
      'address', v_buyer.address, 'postal_code', v_buyer.postal_code, 'city', v_buyer.city,
      'country', v_buyer.country, 'email', coalesce(v_buyer.billing_email, v_buyer.email),
      'reference', v_buyer.invoice_reference
    )
  ) returning id into v_id;
  return v_id;
end
$$;
comment on function app.draft_invoice(public.subscriptions, date) is
  'A draft for the subscription''s next billing moment with seller and buyer as they are now; null when nothing is owed.';

create or replace function app.advance_subscription(p_subscription public.subscriptions) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_next constant integer := p_subscription.months_billed + 1;
  v_fee_months constant integer := case p_subscription.billing_period when 'yearly' then 12 else 1 end;
  v_fee_start constant integer := p_subscription.months_billed - p_subscription.months_billed % v_fee_months;
  v_ends constant boolean :=
    p_subscription.cancel_at_period_end and p_subscription.next_billing_at >= p_subscription.current_period_end;
begin
  update public.subscriptions s set
    months_billed = v_next,
    next_billing_at = app.billing_moment(s.billing_anchor, v_next, s.time_zone),
    current_period_start = case when v_ends then s.current_period_start
      else app.billing_moment(s.billing_anchor, v_fee_start, s.time_zone) end,
    current_period_end = case when v_ends then s.current_period_end
      else app.billing_moment(s.billing_anchor, v_fee_start + v_fee_months, s.time_zone) end,
    status = case when v_ends then 'cancelled' else s.status end,
    cancelled_at = case when v_ends then app.now() else s.cancelled_at end
  where s.id = p_subscription.id;
end
$$;
comment on function app.advance_subscription(public.subscriptions) is
  'Moves a subscription past the billing moment that was just billed; ends it there when it was cancelled.';

create or replace function app.bill_subscription(p_subscription_id uuid, p_as_of date) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sub public.subscriptions;
  v_invoice_id uuid;
begin
  select s.* into strict v_sub from public.subscriptions s where s.id = p_subscription_id for update;
  v_invoice_id := app.draft_invoice(v_sub, p_as_of);
  perform app.advance_subscription(v_sub);
  return v_invoice_id;
end
$$;
comment on function app.bill_subscription(uuid, date) is
  'Drafts the invoice of a subscription''s next billing moment (null: nothing owed) and moves the subscription on.';

create or replace function app.issue_invoice(p_invoice_id uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_prefix text;
  v_series text;
  v_number bigint;
  v_reference text;
begin
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for update;
  if not found or v_invoice.status <> 'draft' then
    perform app.refuse('invoice_not_draft', 'Only a draft can be issued.');
  end if;
  select e.invoice_prefix into strict v_prefix from public.legal_entities e where e.id = v_invoice.legal_entity_id;
  v_series := v_prefix || '-' || to_char(v_invoice.invoice_date, 'YYYY');

  -- The counter's row is locked from here to the commit: taken last, so that others wait the least.
  insert into public.invoice_counters as c (legal_entity_id, series, last_number)
  values (v_invoice.legal_entity_id, v_series, 1)
  on conflict (legal_entity_id, series) do update set last_number = c.last_number + 1
  returning c.last_number into v_number;

  v_reference := to_char(v_invoice.invoice_date, 'YYYY') || lpad(v_number::text, 6, '0');
  update public.invoices set
    status = 'sent',
    issued_at = app.now(),
    invoice_number = v_series || '-' || lpad(v_number::text, 6, '0'),
    kid = v_reference || app.mod10(v_reference)
  where id = p_invoice_id;
  return v_series || '-' || lpad(v_number::text, 6, '0');
end
$$;
comment on function app.issue_invoice(uuid) is
  'Gives a draft the next number of its series (INV-2026-000001) and its KID; call it last in the transaction.';

create or replace function app.protect_issued_invoice() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- Payment moves; the document does not.
  v_movable constant text[] :=
    '{status,paid_at,payment_method,stripe_invoice_id,pdf_url,metadata,updated_at}'::text[];
begin
  if old.status in ('draft', 'void') then
    return case tg_op when 'DELETE' then old else new end;
  end if;
  if tg_op = 'DELETE' then
    perform app.refuse('invoice_immutable', 'An issued invoice is never deleted; correct it by a credit note.');
  end if;
  if to_jsonb(old) - v_movable <> to_jsonb(new) - v_movable then
    perform app.refuse('invoice_immutable', 'An issued invoice is never changed; correct it by a credit note.');
  end if;
  if new.status in ('draft', 'void') then
    perform app.refuse('invoice_immutable', 'An issued invoice cannot become a draft or void again.');
  end if;
  return new;
end
$$;
comment on function app.protect_issued_invoice() is
  'Trigger: bokføringsloven section 13 in the database: issued documents are neither changed nor deleted.';

create or replace trigger invoices_protect_issued before update or delete on invoices
  for each row execute function app.protect_issued_invoice();
create or replace trigger invoices_touch_updated_at before update on invoices
  for each row execute function app.touch_updated_at();
create or replace trigger legal_entities_touch_updated_at before update on legal_entities
  for each row execute function app.touch_updated_at();
-- The document itself is immutable and stays; the audit tells what happened to it.
select app.audit_table(
  'public.invoices', 'invoice',
  '{organization_id,subscription_id,legal_entity_id,kind,invoice_number,invoice_date,due_date,issued_at,kid,period_start,period_end,billed_at,subtotal,tax_rate,tax_amount,total,currency,status,paid_at,stripe_invoice_id,payment_method}',
  p_ignored => '{created_at}',
  p_verbs => '{insert:drafted,invoice_number:issued,status=paid:paid,status=overdue:overdue,status=void:voided}'
);
select app.audit_table(
  'public.legal_entities', 'seller',
  '{is_specimen,name,org_number,vat_registered,in_business_register,address,postal_code,city,country,email,phone,website,bank_account,iban,bic,time_zone,invoice_prefix,payment_days}',
  p_ignored => '{created_at}', p_owner => ''
);

-- Until the real seller is entered there is a specimen, and its documents say so in large letters.
insert into legal_entities (
  id, is_specimen, name, org_number, address, postal_code, city, email, website, bank_account
) values (
  'default', true, 'Eksempel AS', '987654325', 'Storgata 1', '9008', 'Tromsø', 'faktura@example.com',
  'https://example.com', '12345678903'
) on conflict (id) do nothing;

-- Who may see invoices: admins and owners of the organization, and the organization itself.

revoke execute on function
  app.tax_for(text, date, boolean), app.mod10(text), calculate_monthly_bill(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.advance_subscription(public.subscriptions),
  app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
from public;
grant execute on function
  app.tax_for(text, date, boolean), app.mod10(text), calculate_monthly_bill(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.advance_subscription(public.subscriptions),
  app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
to service_role;

revoke all on legal_entities, invoice_counters, invoices from public, anon, authenticated, service_role, tenant;
grant select, insert, update on legal_entities, invoice_counters to service_role;
grant select, insert, update, delete on invoices to service_role;
grant select on invoices to authenticated, tenant;

drop policy if exists "The platform keeps the sellers" on legal_entities;
create policy "The platform keeps the sellers" on legal_entities to service_role using (true) with check (true);
drop policy if exists "The platform counts invoices" on invoice_counters;
create policy "The platform counts invoices" on invoice_counters to service_role using (true) with check (true);
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
