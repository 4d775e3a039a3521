-- Who may see, make, and revoke keys. `key` can only be written; neither it nor its hash is ever read by people.

revoke execute on function app.base62(bigint, integer), app.crc32(bytea), app.is_api_key(text),
  generate_api_key(text), app.hash_api_key(), app.keep_dead_keys_dead(), app.expire_api_keys(),
  app.take_over_limits(), app.touch_api_keys(text[], timestamptz[]) from public;
grant execute on function app.base62(bigint, integer), app.crc32(bytea), app.is_api_key(text),
  generate_api_key(text), app.hash_api_key() to authenticated, service_role;
grant execute on function app.expire_api_keys(), app.touch_api_keys(text[], timestamptz[]) to service_role;

revoke all on api_keys from public, anon, authenticated, service_role, tenant;
grant insert, update on api_keys to service_role;
grant select (
  id, created_at, updated_at, organization_id, created_by, key_prefix, key_hash, name, description, kind,
  environment, scopes, rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before,
  expires_at, revoked_at, rotated_from, allowed_origins, ip_whitelist, metadata
) on api_keys to service_role;
grant select (
  id, created_at, updated_at, organization_id, created_by, key_prefix, name, description, kind,
  environment, scopes, rate_limit_tier, rate_limit_per_hour, burst_per_second, status, last_used_at, not_before,
  expires_at, revoked_at, rotated_from, allowed_origins, ip_whitelist, metadata
) on api_keys to authenticated, tenant;
-- Limits are left out: they follow what the organization bought. The hash may be given instead of the
-- key, so that a key made in the application never travels: a person who chooses either chooses a key.
grant insert (
  organization_id, created_by, key, key_hash, key_prefix, name, description, kind, environment, scopes,
  not_before, expires_at, rotated_from, allowed_origins, ip_whitelist, metadata
), update (
  name, description, scopes, status, not_before, expires_at, allowed_origins, ip_whitelist, metadata
) on api_keys to authenticated;

drop policy if exists "The platform acts on every key" on api_keys;
create policy "The platform acts on every key" on api_keys to service_role using (true) with check (true);
drop policy if exists "Members see their organization's keys" on api_keys;
create policy "Members see their organization's keys" on api_keys
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('member'))) or (select app.is_operator()));
drop policy if exists "Admins of a running organization make keys" on api_keys;
create policy "Admins of a running organization make keys" on api_keys
  for insert to authenticated
  with check (
    organization_id = any (array(select app.my_open_organizations('admin')))
    and (created_by is null or created_by = any (array(select app.my_users())))
  );
drop policy if exists "Admins change and revoke keys" on api_keys;
create policy "Admins change and revoke keys" on api_keys
  for update to authenticated
  using (organization_id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()))
  with check (organization_id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()));
drop policy if exists "An organization sees its keys" on api_keys;
create policy "An organization sees its keys" on api_keys
  for select to tenant using (organization_id = any (app.visible_organizations()));
