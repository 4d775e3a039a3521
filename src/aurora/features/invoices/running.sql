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
