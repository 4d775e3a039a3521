-- Who may read what was bought, how it changed, and what that gives back.

revoke execute on function
  app.terms_of(public.subscriptions, timestamptz), app.terms_at(uuid, timestamptz),
  app.insert_end(public.subscriptions, timestamptz), app.unbilled_month(uuid, timestamptz),
  app.insert_terms(public.subscription_terms), app.same_terms(jsonb, jsonb), app.keep_terms(),
  app.terms_months(public.subscription_terms), app.terms_fee(public.subscription_terms),
  app.moment_index(date, text, timestamptz), app.fee_period(public.subscription_terms, timestamptz),
  app.local_days(timestamptz, timestamptz, text), app.prorate(numeric, integer, integer, text),
  app.planned_terms(public.subscriptions, text, text, jsonb), app.coupon_factor(uuid, timestamptz),
  app.redemption_place(public.coupon_redemptions, public.subscriptions, timestamptz),
  app.paid_price(public.subscriptions, public.subscription_terms, timestamptz),
  app.change_lines(public.subscriptions, public.subscription_terms, public.subscription_terms, timestamptz, text),
  app.apply_terms(public.subscriptions, public.subscription_terms, timestamptz, text),
  app.lock_subscription(uuid, text[]), app.change_plan(uuid, text, text, jsonb, text, date, boolean),
  app.withdraw_change(uuid), app.pause_subscription(uuid, date), app.resume_subscription(uuid, date),
  app.closing_moment(public.subscriptions, integer), app.is_closing(public.subscriptions),
  app.advance_subscription(public.subscriptions, jsonb), app.record_coupon_uses(public.subscriptions, timestamptz, jsonb),
  app.trial_end(public.subscriptions), app.end_trials(timestamptz, integer), app.redeem_coupon(uuid, text)
from public;
grant execute on function
  app.terms_of(public.subscriptions, timestamptz), app.terms_at(uuid, timestamptz),
  app.insert_end(public.subscriptions, timestamptz), app.unbilled_month(uuid, timestamptz),
  app.insert_terms(public.subscription_terms), app.same_terms(jsonb, jsonb),
  app.terms_months(public.subscription_terms), app.terms_fee(public.subscription_terms),
  app.moment_index(date, text, timestamptz), app.fee_period(public.subscription_terms, timestamptz),
  app.local_days(timestamptz, timestamptz, text), app.prorate(numeric, integer, integer, text),
  app.planned_terms(public.subscriptions, text, text, jsonb), app.coupon_factor(uuid, timestamptz),
  app.redemption_place(public.coupon_redemptions, public.subscriptions, timestamptz),
  app.paid_price(public.subscriptions, public.subscription_terms, timestamptz),
  app.change_lines(public.subscriptions, public.subscription_terms, public.subscription_terms, timestamptz, text),
  app.apply_terms(public.subscriptions, public.subscription_terms, timestamptz, text),
  app.lock_subscription(uuid, text[]), app.change_plan(uuid, text, text, jsonb, text, date, boolean),
  app.withdraw_change(uuid), app.pause_subscription(uuid, date), app.resume_subscription(uuid, date),
  app.closing_moment(public.subscriptions, integer), app.is_closing(public.subscriptions),
  app.advance_subscription(public.subscriptions, jsonb), app.record_coupon_uses(public.subscriptions, timestamptz, jsonb),
  app.trial_end(public.subscriptions), app.end_trials(timestamptz, integer), app.redeem_coupon(uuid, text)
to service_role;

revoke all on subscription_terms, subscription_adjustments, coupon_redemptions, coupon_uses
  from public, anon, authenticated, service_role, tenant;
revoke all on sequence subscription_terms_id_seq from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on subscription_terms to service_role;
grant select, insert, update on subscription_adjustments, coupon_redemptions to service_role;
grant select, insert on coupon_uses to service_role;
grant select on subscription_terms, subscription_adjustments, coupon_redemptions, coupon_uses to authenticated, tenant;

do $$
declare
  v_table text;
begin
  foreach v_table in array array['subscription_terms', 'subscription_adjustments', 'coupon_redemptions', 'coupon_uses'] loop
    execute format('drop policy if exists "The platform acts on all of them" on %I', v_table);
    execute format('create policy "The platform acts on all of them" on %I to service_role using (true) with check (true)', v_table);
    execute format('drop policy if exists "Members see those of their organization" on %I', v_table);
    execute format(
      'create policy "Members see those of their organization" on %I for select to authenticated
       using (organization_id = any (array(select app.my_organizations(''viewer''))) or (select app.is_operator()))', v_table);
    execute format('drop policy if exists "An organization sees its own" on %I', v_table);
    execute format(
      'create policy "An organization sees its own" on %I for select to tenant
       using (organization_id = any (app.visible_organizations()))', v_table);
  end loop;
end
$$;
