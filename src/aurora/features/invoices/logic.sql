-- From usage and terms to lines, from lines to a draft, from a draft to a numbered, immutable document.

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
