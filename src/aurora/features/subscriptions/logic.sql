-- Billing periods, what a new subscription says of itself, and which state may follow which.

create or replace function app.billing_moment(p_anchor date, p_months integer, p_time_zone text)
returns timestamptz
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- date + interval clamps at the month's end, from the anchor each time, so no drift:
  -- 31 Jan + 1 month = 28 Feb, 31 Jan + 2 months = 31 Mar.
  return (p_anchor + make_interval(months => p_months)) at time zone p_time_zone;
end
$$;
comment on function app.billing_moment(date, integer, text) is
  'Local midnight of anchor + n months: where one half-open billing period ends and the next begins.';

create or replace function app.fill_subscription_billing() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.plan_version is null then
    select p.version into new.plan_version from public.plans p where p.id = new.plan_id;
    -- Of an unknown plan the foreign key speaks, which fires after this.
    new.plan_version := coalesce(new.plan_version, 0);
  end if;
  new.billing_anchor := coalesce(
    new.billing_anchor, (new.current_period_start at time zone new.time_zone)::date
  );
  new.next_billing_at := coalesce(
    new.next_billing_at, app.billing_moment(new.billing_anchor, new.months_billed, new.time_zone)
  );
  if new.status = 'trialing' then
    new.trial_ends_at := coalesce(new.trial_ends_at, new.current_period_end);
  end if;
  if new.status = 'cancelled' then
    new.closed_at := coalesce(new.closed_at, app.now());
  end if;
  return new;
end
$$;
comment on function app.fill_subscription_billing() is
  'Trigger: a subscription inserted with the seed''s columns alone gets its anchor, first billing moment, and the plan''s version.';

create or replace function app.subscription_transitions()
returns table (from_status text, to_status text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  values
    ('trialing', 'active'), ('trialing', 'paused'), ('trialing', 'cancelled'),
    ('active', 'past_due'), ('active', 'paused'), ('active', 'cancelled'), ('active', 'unpaid'),
    ('past_due', 'active'), ('past_due', 'paused'), ('past_due', 'cancelled'), ('past_due', 'unpaid'),
    ('unpaid', 'active'), ('unpaid', 'past_due'), ('unpaid', 'cancelled'),
    ('paused', 'active'), ('paused', 'cancelled')
$$;
comment on function app.subscription_transitions() is
  'Which status of a subscription may follow which; what was cancelled only begins anew.';

create or replace function app.guard_subscription() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What ended or was only tried begins anew with an anchor of its own and nothing billed.
  v_anew constant boolean := old.status in ('cancelled', 'trialing') and new.months_billed = 0
    and new.current_period_start >= old.current_period_start
    and (old.months_billed = 0 or new.billing_anchor > old.billing_anchor);
begin
  if new.status <> old.status and not v_anew and not exists (
    select from app.subscription_transitions() t where t.from_status = old.status and t.to_status = new.status
  ) then
    perform app.refuse(
      'subscription_transition_invalid', format('A subscription that is %s cannot become %s.', old.status, new.status)
    );
  end if;
  if (new.months_billed < old.months_billed or new.organization_id <> old.organization_id
      or (new.currency <> old.currency and app.currency_digits(new.currency) is not null))
    and not v_anew
  then
    perform app.refuse(
      'subscription_billed', 'What was billed stays billed: a running subscription keeps its organization, currency, and count.'
    );
  end if;
  -- Whoever ends it: its last month is billed, and once more what came late. Where nothing was sold, nothing is.
  if new.status <> 'cancelled' then
    new.closed_at := null;
  elsif old.status <> 'cancelled' then
    new.cancelled_at := coalesce(new.cancelled_at, app.now());
    new.closed_at := case when new.months_billed = 0 then coalesce(new.closed_at, app.now()) else new.closed_at end;
  end if;
  return new;
end
$$;
comment on function app.guard_subscription() is
  'Trigger: a status follows only where app.subscription_transitions() says so, and nothing is billed anew.';

create or replace trigger subscriptions_guard before update on subscriptions
  for each row execute function app.guard_subscription();
create or replace trigger subscriptions_fill_billing before insert on subscriptions
  for each row execute function app.fill_subscription_billing();
create or replace trigger subscriptions_touch_updated_at before update on subscriptions
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.subscriptions', 'subscription',
  '{organization_id,plan_id,plan_version,plan_name,price_monthly,price_yearly,currency,billing_period,current_period_start,current_period_end,billing_anchor,time_zone,months_billed,next_billing_at,status,trial_ends_at,trial_end_action,cancel_at_period_end,cancelled_at,closed_at,included_impressions,overage_rate,overage_model,price_model,quota_mode,features,stripe_subscription_id,stripe_customer_id}',
  p_ignored => '{created_at}',
  p_verbs => '{insert:started,status=cancelled:cancelled,status:status_changed,cancel_at_period_end=true:cancellation_scheduled,cancel_at_period_end=false:cancellation_withdrawn,plan_id:plan_changed,months_billed:billed}'
);

-- SECURITY DEFINER: the plan must be found also where it is no longer sold.
create or replace function app.limit_new_key() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The platform chooses limits itself; the trigger's condition asks who it is, because in here
  -- current_user is the definer.
  select p.rate_limit_tier, p.rate_limit_per_hour into new.rate_limit_tier, new.rate_limit_per_hour
  from public.subscriptions s join public.plans p on p.id = s.plan_id
  where s.organization_id = new.organization_id and s.status in ('trialing', 'active', 'past_due');
  if not found then
    select p.rate_limit_tier, p.rate_limit_per_hour into strict new.rate_limit_tier, new.rate_limit_per_hour
    from public.plans p where p.id = 'demo';
  end if;
  return new;
end
$$;
comment on function app.limit_new_key() is
  'Trigger: a key that a person makes gets the limits of the organization''s plan, or the demo plan''s.';
create or replace trigger api_keys_limit before insert on api_keys
  for each row when (current_user = 'authenticated') execute function app.limit_new_key();

create or replace function app.keep_billed_organization() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.subscriptions s
    where s.organization_id = new.id and s.status in ('active', 'past_due')
  ) then
    perform app.refuse(
      'subscription_running', 'The organization''s subscription runs and would go on being billed: cancel it first.'
    );
  end if;
  return new;
end
$$;
comment on function app.keep_billed_organization() is
  'Trigger: an organization whose subscription runs is not deleted.';

create or replace function app.keep_plan_in_use() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from public.subscriptions s where s.plan_id = old.id)
    or exists (select from public.subscription_terms t where t.plan_id = old.id)
  then
    perform app.refuse('plan_in_use', format('The plan %L was bought: it can be retired, not deleted.', old.id));
  end if;
  return old;
end
$$;
comment on function app.keep_plan_in_use() is 'Trigger: a plan that somebody bought is not deleted.';
create or replace trigger plans_keep_in_use before delete on plans
  for each row execute function app.keep_plan_in_use();

create or replace trigger organizations_keep_while_billed before update of deleted_at on organizations
  for each row when (old.deleted_at is null and new.deleted_at is not null)
  execute function app.keep_billed_organization();

revoke execute on function app.keep_billed_organization(), app.keep_plan_in_use() from public;
revoke execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing(),
  app.limit_new_key(), app.subscription_transitions(), app.guard_subscription() from public;
grant execute on function app.billing_moment(date, integer, text), app.fill_subscription_billing(),
  app.subscription_transitions()
  to service_role;

revoke all on subscriptions from public, anon, authenticated, service_role, tenant;
grant select, insert, update on subscriptions to service_role;
grant select on subscriptions to authenticated, tenant;

drop policy if exists "The platform acts on every subscription" on subscriptions;
create policy "The platform acts on every subscription" on subscriptions
  to service_role using (true) with check (true);
drop policy if exists "Members see their organization's subscription" on subscriptions;
create policy "Members see their organization's subscription" on subscriptions
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('viewer'))) or (select app.is_operator()));
drop policy if exists "An organization sees its subscription" on subscriptions;
create policy "An organization sees its subscription" on subscriptions
  for select to tenant using (organization_id = any (app.visible_organizations()));
