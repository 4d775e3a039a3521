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
