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
