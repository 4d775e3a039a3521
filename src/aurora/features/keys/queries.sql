-- name: insert_api_key -> ApiKey
-- A key by its hash (the key itself never comes near the database or its log); no limit means its tier's.
insert into api_keys (
  organization_id, created_by, key_prefix, key_hash, name, description, kind, environment, scopes, rate_limit_tier,
  rate_limit_per_hour, burst_per_second, not_before, expires_at, rotated_from, allowed_origins, ip_whitelist, metadata
) values (
  :organization_id, :created_by, :key_prefix, :key_hash, :name, :description, :kind, :environment, :scopes,
  :rate_limit_tier,
  coalesce(:rate_limit_per_hour::integer, (
    select min(p.rate_limit_per_hour) from plans p where p.rate_limit_tier = :rate_limit_tier
  ), 10000),
  :burst_per_second, :not_before, :expires_at, :rotated_from, :allowed_origins, :ip_whitelist, :metadata
)
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: insert_api_key_as_member -> ApiKey
-- The same by a member, who does not choose limits: they are the plan's, or those of the rotated key.
insert into api_keys (
  organization_id, created_by, key_prefix, key_hash, name, description, kind, environment, scopes, not_before,
  expires_at, rotated_from, allowed_origins, ip_whitelist, metadata
) values (
  :organization_id,
  (select u.id from users u where u.organization_id = :organization_id::uuid and u.auth_id = auth.uid()),
  :key_prefix, :key_hash, :name, :description, :kind, :environment, :scopes, :not_before, :expires_at, :rotated_from,
  :allowed_origins, :ip_whitelist, :metadata
)
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: find_api_key -> ApiKey
-- One key of one organization.
select id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata
from api_keys
where organization_id = :organization_id::uuid and id = :key_id::uuid;

-- name: list_api_key_owners_by_id -> KeyOwner
-- Whose these keys are; ids that are no keys have no row.
select id, organization_id, environment from api_keys where id = any (:key_ids::uuid[]);

-- name: list_api_keys_by_organization -> ApiKey
-- The keys of an organization, newest first.
select id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata
from api_keys
where organization_id = :organization_id::uuid
order by created_at desc, id desc
limit :limit;

-- name: update_api_key_revoked -> ApiKey
-- Revokes a key; one that was revoked keeps its first time.
update api_keys set status = 'revoked', revoked_at = coalesce(revoked_at, app.now())
where organization_id = :organization_id::uuid and id = :key_id::uuid
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: update_api_key_ending -> ApiKey
-- Lets a key end at a moment, or earlier where it would have anyway.
update api_keys set expires_at = least(expires_at, :ends_at::timestamptz)
where organization_id = :organization_id::uuid and id = :key_id::uuid
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: update_api_key_fields -> ApiKey
-- Writes what a member may change; the row was read, and is locked, in the same transaction.
update api_keys set name = :name, description = :description, scopes = :scopes, not_before = :not_before,
  expires_at = :expires_at, allowed_origins = :allowed_origins, ip_whitelist = :ip_whitelist, metadata = :metadata
where organization_id = :organization_id::uuid and id = :key_id::uuid
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: update_api_key_limits -> ApiKey
-- Writes the limits, which are the platform's to change.
update api_keys set rate_limit_tier = :rate_limit_tier, rate_limit_per_hour = :rate_limit_per_hour,
  burst_per_second = :burst_per_second
where organization_id = :organization_id::uuid and id = :key_id::uuid
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata;

-- name: find_api_key_to_change -> ApiKey
-- One key of one organization, which nobody else changes until the transaction ends.
select id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before, expires_at, revoked_at,
  rotated_from, allowed_origins, ip_whitelist, metadata
from api_keys
where organization_id = :organization_id::uuid and id = :key_id::uuid
for no key update;

-- name: update_api_keys_used
-- Writes down when keys were last used; returns how many rows were written.
select app.touch_api_keys(:key_hashes::text[], :used_at::timestamptz[]);

-- name: update_api_keys_expired
-- Writes down which keys have expired; returns how many.
select app.expire_api_keys();
