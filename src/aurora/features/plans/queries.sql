-- name: find_plan -> Plan
-- The plan with this id.
select id, name, version, is_active, price_monthly, price_yearly, currency, included_impressions, overage_rate,
  overage_model, price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features
from plans
where id = :plan_id;

-- name: list_plans_by_sort_order -> Plan
-- The catalogue, smallest plan first; what is no longer sold only where it is asked for.
select id, name, version, is_active, price_monthly, price_yearly, currency, included_impressions, overage_rate,
  overage_model, price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features
from plans
where is_active or :retired
order by sort_order, id
limit :limit;

-- name: list_plan_versions_by_plan -> PlanVersion
-- Every terms a plan was sold on, the newest first.
select plan_id, version, created_at, name, price_monthly, price_yearly, currency, included_impressions, overage_rate,
  overage_model, price_model, quota_mode
from plan_versions
where plan_id = :plan_id
order by version desc
limit :limit;

-- name: insert_plan -> Plan
-- Adds a plan at the end of the catalogue.
insert into plans (
  id, name, sort_order, price_monthly, price_yearly, currency, included_impressions, overage_rate, overage_model,
  price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features
) select :plan_id, :name, coalesce(max(p.sort_order), 0) + 1, :price_monthly::numeric, :price_yearly::numeric, :currency,
  :included_impressions::bigint, :overage_rate::numeric, :overage_model, :price_model::jsonb, :quota_mode,
  :rate_limit_tier, :rate_limit_per_hour, :features::jsonb
from plans p
returning id, name, version, is_active, price_monthly, price_yearly, currency, included_impressions, overage_rate,
  overage_model, price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features;

-- name: update_plan -> Plan
-- Sells a plan on other terms from now on, which makes a new version.
update plans set
  name = :name, price_monthly = :price_monthly::numeric, price_yearly = :price_yearly::numeric, currency = :currency,
  included_impressions = :included_impressions::bigint, overage_rate = :overage_rate::numeric,
  overage_model = :overage_model, price_model = :price_model::jsonb, quota_mode = :quota_mode,
  rate_limit_tier = :rate_limit_tier, rate_limit_per_hour = :rate_limit_per_hour, features = :features::jsonb,
  is_active = :is_active
where id = :plan_id
returning id, name, version, is_active, price_monthly, price_yearly, currency, included_impressions, overage_rate,
  overage_model, price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features;

-- name: delete_plan
-- Removes a plan that nobody ever bought.
delete from plans where id = :plan_id;

-- name: insert_coupon -> Coupon
-- Adds a coupon.
insert into coupons (id, description, percent, amount, currency, periods, max_redemptions, redeem_until)
values (
  :code, :description, :percent::numeric, :amount::numeric, :currency, :periods, :max_redemptions,
  :redeem_until::timestamptz
)
returning id as code, description, percent, amount, currency, periods, max_redemptions, redemptions, redeem_until, is_active;

-- name: list_coupons_by_code -> Coupon
-- All coupons.
select id as code, description, percent, amount, currency, periods, max_redemptions, redemptions, redeem_until, is_active
from coupons
order by id
limit :limit;

-- name: update_coupon_is_active -> Coupon
-- Lets a coupon be redeemed no longer, or again; what was redeemed goes on.
update coupons set is_active = :is_active where id = :code
returning id as code, description, percent, amount, currency, periods, max_redemptions, redemptions, redeem_until, is_active;

-- name: list_rated_lines_by_model -> RatedLine
-- What units cost under a price model.
select line_number, tier, kind, quantity, unit, unit_price, base_quantity, amount
from app.rate(:price_model::jsonb, :units::numeric, :amounts::numeric[]);
