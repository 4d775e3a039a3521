-- name: find_plan -> Plan
-- The plan with this id, while it can be bought.
select id, name, price_monthly, price_yearly, currency, included_impressions, overage_rate, overage_model,
  quota_mode, rate_limit_tier, rate_limit_per_hour, features
from plans
where id = :plan_id and is_active;

-- name: list_plans_by_sort_order -> Plan
-- The catalogue, smallest plan first.
select id, name, price_monthly, price_yearly, currency, included_impressions, overage_rate, overage_model,
  quota_mode, rate_limit_tier, rate_limit_per_hour, features
from plans
where is_active
order by sort_order, id
limit :limit;
