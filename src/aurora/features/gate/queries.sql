-- name: find_key_by_hash -> KeyRow
-- What the gate decides on: the key, its organization, and what that has bought.
select id, organization_id, organization_status, plan_id, kind, environment, scopes, status, not_before, expires_at,
  allowed_origins, ip_whitelist, rate_limit_tier, rate_limit_per_hour, burst_per_second
from app.key_at_the_gate(:key_hash::text);

-- name: get_changes_since -> Changes
-- What has become visible since the snapshot :seen, and the snapshot it was seen from; one more than
-- :limit tells that there is more than is worth reading.
select pg_current_snapshot()::text as seen,
  coalesce(jsonb_agg(jsonb_build_array(organization_id, key_hash)), '[]') as changed
from (
  select c.organization_id, c.key_hash
  from gate_changes c
  where c.transaction_id >= pg_snapshot_xmin(:seen::pg_snapshot)
    and not pg_visible_in_snapshot(c.transaction_id, :seen::pg_snapshot)
  limit :limit::integer + 1
) as fresh;

-- name: get_snapshot -> Changes
-- Where reading begins; nothing is known yet that could have changed. The log is touched, so that
-- nobody who cannot read it takes this for a proof.
select pg_current_snapshot()::text as seen, '[]'::jsonb as changed
from (select count(*) from (select from gate_changes limit 1) as any_row) as readable;

-- name: insert_exposed_key_notifications
-- Tells the admins, once a day and key, that a secret key came out of a browser; returns how many.
select app.tell_of_exposed_key(:key_hash, :origin);

-- name: delete_folded_changes
-- Folds changes away that every process has read long ago; returns how many.
select app.fold_gate_changes(:keep);
