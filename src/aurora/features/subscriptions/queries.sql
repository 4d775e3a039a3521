-- name: insert_subscription -> Subscription
-- Subscribes to a plan with its terms of this moment, from a local midnight on; what was cancelled or only tried is replaced.
insert into subscriptions (
  organization_id, plan_id, plan_name, price_monthly, price_yearly, currency, billing_period,
  current_period_start, current_period_end, billing_anchor, time_zone, status,
  included_impressions, overage_rate, overage_model, quota_mode, features
)
select :organization_id::uuid, p.id, p.name,
  coalesce(:price_monthly::numeric, p.price_monthly, 0), coalesce(:price_yearly::numeric, p.price_yearly), p.currency,
  :billing_period, app.billing_moment(:anchor::date, 0, :time_zone),
  app.billing_moment(:anchor::date, case :billing_period when 'yearly' then 12 else 1 end, :time_zone),
  :anchor::date, :time_zone, 'active',
  coalesce(:included_impressions::bigint, p.included_impressions), p.overage_rate, p.overage_model, p.quota_mode,
  p.features
from plans p
where p.id = :plan_id
on conflict (organization_id) do update set
  plan_id = excluded.plan_id, plan_name = excluded.plan_name, price_monthly = excluded.price_monthly,
  price_yearly = excluded.price_yearly, currency = excluded.currency, billing_period = excluded.billing_period,
  current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end,
  billing_anchor = excluded.billing_anchor, time_zone = excluded.time_zone, months_billed = 0,
  next_billing_at = excluded.next_billing_at, status = excluded.status, cancel_at_period_end = false,
  cancelled_at = null, included_impressions = excluded.included_impressions, overage_rate = excluded.overage_rate,
  overage_model = excluded.overage_model, quota_mode = excluded.quota_mode, features = excluded.features
where subscriptions.status in ('trialing', 'cancelled')
  and (subscriptions.months_billed = 0 or excluded.current_period_start > app.billing_moment(
    subscriptions.billing_anchor, subscriptions.months_billed - 1, subscriptions.time_zone
  ))
returning id, created_at, organization_id, plan_id, plan_name, price_monthly, price_yearly, currency, billing_period,
  current_period_start, current_period_end, next_billing_at, time_zone, status, cancel_at_period_end,
  included_impressions, overage_rate, overage_model, quota_mode;

-- name: find_subscription_by_organization -> Subscription
-- The subscription of an organization.
select id, created_at, organization_id, plan_id, plan_name, price_monthly, price_yearly, currency, billing_period,
  current_period_start, current_period_end, next_billing_at, time_zone, status, cancel_at_period_end,
  included_impressions, overage_rate, overage_model, quota_mode
from subscriptions
where organization_id = :organization_id::uuid;

-- name: update_subscription_cancel_at_period_end -> Subscription
-- Cancels a subscription when its period ends, or takes that back.
update subscriptions set cancel_at_period_end = :cancel
where organization_id = :organization_id::uuid and status <> 'cancelled'
returning id, created_at, organization_id, plan_id, plan_name, price_monthly, price_yearly, currency, billing_period,
  current_period_start, current_period_end, next_billing_at, time_zone, status, cancel_at_period_end,
  included_impressions, overage_rate, overage_model, quota_mode;
