-- name: insert_api_key -> ApiKey
-- A key by its hash (the key itself never comes near the database or its log); no limit means its tier's.
insert into api_keys (
  organization_id, created_by, key_prefix, key_hash, name, description, kind, environment, scopes, rate_limit_tier,
  rate_limit_per_hour, expires_at, allowed_origins, ip_whitelist, metadata
) values (
  :organization_id, :created_by, :key_prefix, :key_hash, :name, :description, :kind, :environment, :scopes,
  :rate_limit_tier,
  coalesce(:rate_limit_per_hour::integer, (
    select min(p.rate_limit_per_hour) from plans p where p.rate_limit_tier = :rate_limit_tier
  ), 10000),
  :expires_at, :allowed_origins, :ip_whitelist, :metadata
)
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, status, last_used_at, expires_at, revoked_at, allowed_origins, ip_whitelist;

-- name: find_api_key -> ApiKey
-- One key of one organization.
select id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, status, last_used_at, expires_at, revoked_at, allowed_origins, ip_whitelist
from api_keys
where organization_id = :organization_id::uuid and id = :key_id::uuid;

-- name: find_api_key_by_hash -> KeyRecord
-- What the gate decides on.
select k.id, k.organization_id, o.status as organization_status, k.kind, k.environment, k.scopes, k.status,
  k.expires_at, k.allowed_origins, k.ip_whitelist, k.rate_limit_tier, k.rate_limit_per_hour, k.metadata
from api_keys k
join organizations o on o.id = k.organization_id
where k.key_hash = :key_hash and o.deleted_at is null;

-- name: list_api_key_owners_by_id -> KeyOwner
-- Whose these keys are; ids that are no keys have no row.
select id, organization_id, environment from api_keys where id = any (:key_ids::uuid[]);

-- name: list_api_keys_by_organization -> ApiKey
-- The keys of an organization, newest first.
select id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, status, last_used_at, expires_at, revoked_at, allowed_origins, ip_whitelist
from api_keys
where organization_id = :organization_id::uuid
order by created_at desc, id desc
limit :limit;

-- name: update_api_key_revoked -> ApiKey
-- Revokes a key; one that was revoked keeps its first time.
update api_keys set status = 'revoked', revoked_at = coalesce(revoked_at, app.now())
where organization_id = :organization_id::uuid and id = :key_id::uuid
returning id, created_at, updated_at, organization_id, key_prefix, name, description, kind, environment, scopes,
  rate_limit_tier, rate_limit_per_hour, status, last_used_at, expires_at, revoked_at, allowed_origins, ip_whitelist;

-- name: update_api_keys_expired
-- Writes down which keys have expired; returns how many.
select app.expire_api_keys();
