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

-- VAT of a buyer, and the check digit of a KID.

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
  p_subscription_id uuid, p_at timestamptz, p_with_open boolean
) returns setof app.bill_line
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A credit counts backwards: prices are never negative (EN 16931, BR-27).
  select a.kind, a.description, case a.kind when 'credit' then -a.quantity else a.quantity end, a.unit, a.unit_price,
    a.base_quantity, case a.kind when 'credit' then -a.amount else a.amount end, a.period_start, a.period_end,
    null::bigint, null::bigint, a.tax_code, a.facts || jsonb_build_object('adjustment_id', a.id)
  from public.subscription_adjustments a
  where a.subscription_id = p_subscription_id
    and (a.billed_at = p_at or (p_with_open and a.billed_at is null and a.settled_at is null))
  order by a.created_at, a.kind desc, a.id
$$;
comment on function app.bill_adjustments(uuid, timestamptz, boolean) is
  'The lines of changes that a bill holds, and those for which no document of their own was made yet.';

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
    perform app.refuse('billing_moment_invalid', 'Bills are made for a moment at which a billing month begins.');
  end if;
  -- Usage in arrears: the month that ended at this moment. The fee in advance: what begins at it.
  if v_index > 0 then
    v_lines := array(select l from app.bill_usage(
      v_sub, app.billing_moment(v_terms.billing_anchor, v_index - 1, v_terms.time_zone), v_at) l);
  end if;
  v_lines := v_lines || array(select l from app.bill_fee(v_sub, v_at) l);
  v_base := (select sum((l).amount) from unnest(v_lines) l);
  if v_base > 0 then
    v_lines := v_lines || array(select l from app.bill_discounts(v_sub, v_at, v_base,
      (select min((b).period_start) from unnest(v_lines) b), (select max((b).period_end) from unnest(v_lines) b)) l);
  end if;
  -- What a change gives back and asks for comes along with the next bill; where the credit is larger than
  -- the bill it stays open, for a credit note.
  v_base := (select sum((l).amount) from unnest(v_lines || array(
    select b from app.bill_adjustments(v_sub.id, v_at, v_at = v_sub.next_billing_at) b)) l);
  v_lines := v_lines || array(select l from app.bill_adjustments(
    v_sub.id, v_at, v_at = v_sub.next_billing_at and v_base > 0) l);
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
        'unit_price', b.unit_price, 'base_quantity', b.base_quantity, 'amount', b.amount, 'tax_category', v_tax.category, 'tax_rate', v_tax.rate,
        'period_start', (b.period_start at time zone p_subscription.time_zone)::date,
        'period_end', (b.period_end at time zone p_subscription.time_zone)::date - 1,
        'impressions', b.impressions, 'included', b.included, 'facts', b.facts
      ) order by b.line_number
    ),
    sum(b.amount),
    min((b.period_start at time zone p_subscription.time_zone)::date),
    max((b.period_end at time zone p_subscription.time_zone)::date - 1)
  into v_lines, v_subtotal, v_start, v_end
  from public.calculate_monthly_bill(p_subscription.organization_id, p_subscription.next_billing_at) b
  where b.amount <> 0;
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
  app.rate_usage(public.subscription_terms, bigint, bigint), app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz), app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, boolean),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
from public;
grant execute on function
  app.tax_for(text, date, boolean), app.mod10(text), calculate_monthly_bill(uuid, timestamptz),
  app.rate_usage(public.subscription_terms, bigint, bigint), app.usage_parts(uuid, timestamptz, timestamptz),
  app.bill_usage(public.subscriptions, timestamptz, timestamptz), app.bill_fee(public.subscriptions, timestamptz),
  app.bill_adjustments(uuid, timestamptz, boolean),
  app.bill_discounts(public.subscriptions, timestamptz, numeric, timestamptz, timestamptz),
  app.net_fee(uuid, timestamptz),
  app.draft_invoice(public.subscriptions, date), app.bill_subscription(uuid, date), app.issue_invoice(uuid), app.protect_issued_invoice()
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
