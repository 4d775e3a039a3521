-- name: find_quota -> Quota
-- How much of the running month's included impressions is used.
select used, included, quota_mode, period_start, period_end from app.quota_state(:organization_id::uuid);

-- name: insert_quota_warnings
-- Warns of every quota that has passed 80 or 100 %, each once a period; returns how many were told.
select app.warn_of_quotas();
