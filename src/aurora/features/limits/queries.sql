-- name: find_quota -> Quota
-- How much of the running month's included impressions is used.
select used, included, quota_mode, period_start, period_end from app.quota_state(:organization_id::uuid);

-- name: insert_quota_warnings
-- Warns of every quota that has passed 80 or 100 %, each once a period; returns how many were told.
select app.warn_of_quotas();

-- name: insert_quota_warnings_of_one
-- Warns of one quota that has passed 80 or 100 %, each once a period; returns how many were told.
select app.warn_of_quota(:organization_id::uuid);

-- name: insert_lease -> Lease
-- Grants requests of a key to this process, and takes back what its last lease did not use.
select granted, life_ms, ends_at, key_time, remaining, reset_ms, retry_after_ms
from app.lease_requests(
  :organization_id::uuid, :key_id::uuid, :per_hour::integer, :per_second::integer, :waiting::integer,
  :wanted::integer, :returned::integer, :returned_end::timestamptz, :expected::timestamptz
);

-- name: update_leases_returned
-- Takes back what leases did not use; returns how many requests.
select app.return_requests(
  :organization_ids::uuid[], :key_ids::uuid[], :counts::integer[], :ends::timestamptz[]
);

-- name: delete_rate_limits_forgotten
-- Forgets windows that nobody used for a day, up to so many; returns how many.
select app.forget_rate_limits(:limit::integer);
