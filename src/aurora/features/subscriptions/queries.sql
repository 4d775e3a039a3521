-- name: insert_subscription -> Subscription
-- Subscribes to a plan with its terms of this moment, from a local midnight on; what was cancelled or only tried is replaced.
insert into subscriptions (
  organization_id, plan_id, plan_version, plan_name, price_monthly, price_yearly, currency, billing_period,
  current_period_start, current_period_end, billing_anchor, time_zone, next_billing_at, status, trial_ends_at,
  trial_end_action, included_impressions, overage_rate, overage_model, price_model, quota_mode, features
)
select :organization_id::uuid, p.id, p.version, p.name,
  coalesce(:price_monthly::numeric, p.price_monthly, 0), coalesce(:price_yearly::numeric, p.price_yearly), p.currency,
  :billing_period, app.billing_moment(:anchor::date, 0, :time_zone), t.ends_at, :anchor::date, :time_zone,
  case when :trial_days::integer > 0 then t.ends_at else app.billing_moment(:anchor::date, 0, :time_zone) end,
  case when :trial_days::integer > 0 then 'trialing' else 'active' end,
  case when :trial_days::integer > 0 then t.ends_at end, :trial_end_action,
  coalesce(:included_impressions::bigint, p.included_impressions),
  case when :price_model::jsonb is null then coalesce(:overage_rate::numeric, p.overage_rate) end,
  case when :price_model::jsonb is not null then 'price_model'
    when :overage_rate::numeric is not null or :overage_model::text is not null
      then coalesce(:overage_model, nullif(p.overage_model, 'price_model'), 'per_begun_1000')
    else p.overage_model end,
  case when :overage_rate::numeric is null and :overage_model::text is null
    then coalesce(:price_model::jsonb, p.price_model) end,
  coalesce(:quota_mode, p.quota_mode), p.features
from plans p
cross join lateral (
  select case when :trial_days::integer > 0
    then (:anchor::date + :trial_days::integer)::timestamp at time zone :time_zone
    else app.billing_moment(:anchor::date, case :billing_period when 'yearly' then 12 else 1 end, :time_zone)
  end as ends_at
) t
where p.id = :plan_id
on conflict (organization_id) do update set
  plan_id = excluded.plan_id, plan_version = excluded.plan_version, plan_name = excluded.plan_name,
  price_monthly = excluded.price_monthly, price_yearly = excluded.price_yearly, currency = excluded.currency,
  billing_period = excluded.billing_period, current_period_start = excluded.current_period_start,
  current_period_end = excluded.current_period_end, billing_anchor = excluded.billing_anchor,
  time_zone = excluded.time_zone, months_billed = 0, next_billing_at = excluded.next_billing_at,
  status = excluded.status, trial_ends_at = excluded.trial_ends_at, trial_end_action = excluded.trial_end_action,
  cancel_at_period_end = false, cancelled_at = null, included_impressions = excluded.included_impressions,
  overage_rate = excluded.overage_rate, overage_model = excluded.overage_model, price_model = excluded.price_model,
  quota_mode = excluded.quota_mode, features = excluded.features
where subscriptions.status in ('trialing', 'cancelled')
  and (subscriptions.months_billed = 0 or excluded.current_period_start > app.billing_moment(
    subscriptions.billing_anchor, subscriptions.months_billed - 1, subscriptions.time_zone
  ))
returning id, created_at, organization_id, plan_id, plan_version, plan_name, price_monthly, price_yearly, currency,
  billing_period, current_period_start, current_period_end, next_billing_at, time_zone, status, trial_ends_at,
  cancel_at_period_end, included_impressions, overage_rate, overage_model, price_model, quota_mode;

-- name: find_subscription_by_organization -> Subscription
-- The subscription of an organization.
select id, created_at, organization_id, plan_id, plan_version, plan_name, price_monthly, price_yearly, currency,
  billing_period, current_period_start, current_period_end, next_billing_at, time_zone, status, trial_ends_at,
  cancel_at_period_end, included_impressions, overage_rate, overage_model, price_model, quota_mode
from subscriptions
where organization_id = :organization_id::uuid;

-- name: update_subscription_cancel_at_period_end -> Subscription
-- Cancels a subscription when its period ends, or takes that back.
update subscriptions set cancel_at_period_end = :cancel
where organization_id = :organization_id::uuid and status <> 'cancelled'
returning id, created_at, organization_id, plan_id, plan_version, plan_name, price_monthly, price_yearly, currency,
  billing_period, current_period_start, current_period_end, next_billing_at, time_zone, status, trial_ends_at,
  cancel_at_period_end, included_impressions, overage_rate, overage_model, price_model, quota_mode;

-- name: find_scheduled_change -> ScheduledChange
-- The terms that begin when the paid period ends.
select t.starts_at, t.plan_id, t.plan_version, t.plan_name, t.price_monthly, t.price_yearly, t.currency, t.billing_period,
  t.included_impressions, t.overage_rate, t.overage_model, t.price_model, t.quota_mode
from subscription_terms t join subscriptions s on s.id = t.subscription_id
where s.organization_id = :organization_id::uuid and t.starts_at > app.now() and t.starts_at > s.current_period_start
order by t.starts_at desc, t.id desc
limit 1;

-- name: list_terms_by_organization -> Terms
-- The terms of an organization's subscription from each moment on, oldest first.
select t.starts_at, t.is_paused, t.plan_id, t.plan_version, t.plan_name, t.price_monthly, t.price_yearly, t.currency,
  t.billing_period, t.included_impressions, t.overage_rate, t.overage_model, t.price_model, t.quota_mode
from subscription_terms t
where t.organization_id = :organization_id::uuid
order by t.starts_at, t.id
limit :limit;

-- name: change_plan
-- Moves a subscription to a plan's present terms; returns from when they hold.
select app.change_plan(
  :organization_id::uuid, :plan_id, :billing_period, :overrides::jsonb, :when, :on_day::date
);

-- name: withdraw_change
-- Takes back the change that was meant for the end of the period.
select app.withdraw_change(:organization_id::uuid);

-- name: pause_subscription
-- Sells nothing from a day on; returns from when.
select app.pause_subscription(:organization_id::uuid, :on_day::date);

-- name: resume_subscription
-- Sells again from a day on; returns from when.
select app.resume_subscription(:organization_id::uuid, :on_day::date);

-- name: redeem_coupon
-- Redeems a coupon from the next bill on; returns the redemption's id.
select app.redeem_coupon(:organization_id::uuid, :code);

-- name: end_trials
-- Ends the trials that are over; returns how many.
select app.end_trials(:until::timestamptz);

-- name: list_periods_by_anchor -> CountedPeriod
-- Billing periods from an anchor on.
select n, app.billing_moment(:anchor::date, n * :months, :time_zone) as period_start,
  app.billing_moment(:anchor::date, (n + 1) * :months, :time_zone) as period_end,
  app.local_days(
    app.billing_moment(:anchor::date, n * :months, :time_zone),
    app.billing_moment(:anchor::date, (n + 1) * :months, :time_zone), :time_zone
  ) as days
from generate_series(0, :count - 1) n
order by n;

-- name: get_prorated_amount
-- The price of some days of a period.
select app.prorate(:price::numeric, :days, :of_days, :currency);
