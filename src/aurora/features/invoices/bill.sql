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
