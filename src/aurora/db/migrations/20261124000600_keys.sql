-- API keys. The key itself is never stored: what arrives in column key is hashed and forgotten.

create table api_keys (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,
  created_by uuid,

  key text,
  key_prefix text not null,
  key_hash text not null,

  name text not null,
  description text,

  kind text not null default 'secret',
  environment text not null default 'production',
  scopes jsonb not null default '["aurora:read"]',

  rate_limit_tier text not null default 'basic',
  rate_limit_per_hour integer not null default 10000,
  burst_per_second integer,

  status text not null default 'active',
  last_used_at timestamptz,
  not_before timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz,
  rotated_from uuid,

  allowed_origins jsonb not null default '["*"]',
  ip_whitelist jsonb,

  metadata jsonb not null default '{}',

  constraint api_keys_key_hash_key unique (key_hash),
  constraint api_keys_organization_id_id_key unique (organization_id, id),
  constraint api_keys_created_by_fkey foreign key (organization_id, created_by)
    references users (organization_id, id) on delete set null (created_by),
  constraint api_keys_rotated_from_fkey foreign key (organization_id, rotated_from)
    references api_keys (organization_id, id) on delete set null (rotated_from),
  constraint api_keys_key_check check (key is null),
  constraint api_keys_key_prefix_check check (key_prefix ~ '^tro_(live|test)_[0-9A-Za-z]{6}$'),
  constraint api_keys_key_hash_check check (key_hash ~ '^[0-9a-f]{64}$'),
  constraint api_keys_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint api_keys_kind_check check (kind in ('secret', 'publishable')),
  constraint api_keys_environment_check check (environment in ('test', 'production')),
  -- A test key that bills, or a live key that does not, cannot exist.
  constraint api_keys_environment_prefix_check
    check ((environment = 'test') = (key_prefix like 'tro\_test\_%')),
  constraint api_keys_scopes_check check (jsonb_typeof(scopes) = 'array'),
  constraint api_keys_rate_limit_tier_check
    check (rate_limit_tier in ('demo', 'basic', 'premium', 'premium_plus')),
  constraint api_keys_rate_limit_per_hour_check check (rate_limit_per_hour >= 0),
  constraint api_keys_burst_per_second_check check (burst_per_second > 0),
  constraint api_keys_life_check check (not_before < expires_at),
  constraint api_keys_status_check check (status in ('active', 'revoked', 'expired')),
  constraint api_keys_revoked_check check (status <> 'revoked' or revoked_at is not null),
  constraint api_keys_allowed_origins_check check (jsonb_typeof(allowed_origins) = 'array'),
  constraint api_keys_ip_whitelist_check check (ip_whitelist is null or jsonb_typeof(ip_whitelist) = 'array'),
  constraint api_keys_publishable_check check (
    kind <> 'publishable'
    or (scopes <@ '["widgets:embed"]' and not allowed_origins ? '*' and allowed_origins <> '[]')
  ),
  constraint api_keys_metadata_check
    check (jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 8192)
);
create index api_keys_organization_id_created_at_idx on api_keys (organization_id, created_at desc);
create index api_keys_created_by_idx on api_keys (organization_id, created_by);
create index api_keys_rotated_from_idx on api_keys (organization_id, rotated_from);
create index api_keys_expires_at_idx on api_keys (expires_at) where status = 'active' and expires_at is not null;
alter table api_keys enable row level security;
comment on table api_keys is 'Keys of organizations: hash, limits, scopes. Revoked, never deleted, while usage names them.';
comment on column api_keys.key is 'Write-only: a key given here is hashed into key_hash and the column is emptied.';
comment on column api_keys.burst_per_second is 'Requests in any second, beside those of the hour; null: only the hour counts.';
comment on column api_keys.rotated_from is 'The key whose place this one takes, which goes on for the overlap of the rotation.';
comment on column api_keys.last_used_at is 'Written in batches and without an index, so that the touch stays a heap-only update.';

-- Making keys, hashing what is written, and keeping dead keys dead.

create or replace function app.base62(p_value bigint, p_width integer) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_alphabet constant text := '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  v_rest bigint := p_value;
  v_text text := '';
begin
  for i in 1..p_width loop
    v_text := substr(v_alphabet, (v_rest % 62)::integer + 1, 1) || v_text;
    v_rest := v_rest / 62;
  end loop;
  return v_text;
end
$$;
comment on function app.base62(bigint, integer) is 'The number in base 62 (0-9A-Za-z), zero-padded to the width.';

create or replace function app.crc32(p_bytes bytea) returns bigint
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_crc bigint := 4294967295;
begin
  for i in 0..length(p_bytes) - 1 loop
    v_crc := v_crc # get_byte(p_bytes, i);
    for bit in 1..8 loop
      v_crc := case when v_crc & 1 = 1 then (v_crc >> 1) # 3988292384 else v_crc >> 1 end;
    end loop;
  end loop;
  return v_crc # 4294967295;
end
$$;
comment on function app.crc32(bytea) is 'CRC-32 as in zlib (ISO 3309), 0 to 4294967295.';

create or replace function app.is_api_key(p_key text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select p_key ~ '^tro_(live|test)_[a-zA-Z0-9]{32}$'
    and right(p_key, 6) = app.base62(app.crc32(convert_to(left(p_key, 35), 'UTF8')), 6)
$$;
comment on function app.is_api_key(text) is 'Whether the text has the form and the checksum of a key.';

create or replace function generate_api_key(p_environment text default 'production') returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  v_alphabet constant text := '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  v_body text := '';
  v_bytes bytea;
  v_byte integer;
begin
  if p_environment is null or p_environment not in ('production', 'test') then
    perform app.refuse('environment_invalid', 'The environment is production or test.');
  end if;
  -- gen_random_uuid() draws from the strong generator; bytes 6 and 8 carry the version and are left
  -- out, and bytes from 248 up are thrown away so that all 62 characters are equally likely.
  while length(v_body) < 26 loop
    v_bytes := uuid_send(gen_random_uuid());
    for i in 0..15 loop
      v_byte := get_byte(v_bytes, i);
      continue when i in (6, 8) or v_byte >= 248;
      v_body := v_body || substr(v_alphabet, v_byte % 62 + 1, 1);
      exit when length(v_body) = 26;
    end loop;
  end loop;
  v_body := case p_environment when 'test' then 'tro_test_' else 'tro_live_' end || v_body;
  return v_body || app.base62(app.crc32(convert_to(v_body, 'UTF8')), 6);
end
$$;
comment on function generate_api_key(text) is
  'A new random key (155 bits and a checksum); insert it into api_keys.key, show it once, and forget it.';

create or replace function app.hash_api_key() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.key is not null then
    -- The message must not carry the key: errors go to logs.
    if not app.is_api_key(new.key) then
      perform app.refuse('key_malformed', 'The key does not have the form or checksum that generate_api_key() gives.');
    end if;
    new.key_prefix := left(new.key, 15);
    new.key_hash := encode(sha256(convert_to(new.key, 'UTF8')), 'hex');
    new.key := null;
  end if;
  return new;
end
$$;
comment on function app.hash_api_key() is 'Trigger: keeps the hash and prefix of a key that is written, never the key.';

create or replace trigger api_keys_hash_key before insert or update of key on api_keys
  for each row execute function app.hash_api_key();

create or replace function app.keep_dead_keys_dead() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.status = 'revoked' then
    new.revoked_at := coalesce(new.revoked_at, app.now());
  end if;
  if old.status = 'revoked' and new.status <> 'revoked' or old.status = 'expired' and new.status = 'active'
    -- Whether or not the worker has written it down yet.
    or old.expires_at <= app.now() and new.expires_at is distinct from old.expires_at
  then
    perform app.refuse('key_dead', 'A revoked or expired key never opens anything again: make a new one.');
  end if;
  return new;
end
$$;
comment on function app.keep_dead_keys_dead() is
  'Trigger: a key that was revoked or expired stays so, and revoking notes when.';
create or replace trigger api_keys_keep_dead before update of status, expires_at on api_keys
  for each row execute function app.keep_dead_keys_dead();

create or replace function app.take_over_limits() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_old public.api_keys;
begin
  select k.status, k.expires_at, k.rate_limit_tier, k.rate_limit_per_hour, k.burst_per_second
  into v_old.status, v_old.expires_at, v_old.rate_limit_tier, v_old.rate_limit_per_hour, v_old.burst_per_second
  from public.api_keys k
  where k.organization_id = new.organization_id and k.id = new.rotated_from;
  if v_old.status is distinct from 'active' or v_old.expires_at <= app.now() then
    perform app.refuse('key_dead', 'Only a living key is rotated: make a new one.');
  end if;
  new.rate_limit_tier := v_old.rate_limit_tier;
  new.rate_limit_per_hour := v_old.rate_limit_per_hour;
  new.burst_per_second := v_old.burst_per_second;
  return new;
end
$$;
comment on function app.take_over_limits() is
  'Trigger: a key that takes another''s place has its limits, whoever rotates it; the other one must be alive.';
-- By its name it fires after api_keys_limit, which gives a person's key the limits of the plan.
create or replace trigger api_keys_take_over before insert on api_keys
  for each row when (new.rotated_from is not null) execute function app.take_over_limits();

-- last_used_at is left out: being used is not a change.
create or replace trigger api_keys_touch_updated_at
  before update of name, description, kind, environment, scopes, rate_limit_tier, rate_limit_per_hour,
    burst_per_second, status, not_before, expires_at, revoked_at, allowed_origins, ip_whitelist, metadata, key_hash
  on api_keys for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.api_keys', 'api_key',
  '{organization_id,created_by,key_prefix,name,kind,environment,scopes,rate_limit_tier,rate_limit_per_hour,burst_per_second,status,not_before,expires_at,revoked_at,rotated_from,allowed_origins,ip_whitelist}',
  p_ignored => '{created_at,last_used_at}', p_verbs => '{status=revoked:revoked,status=expired:expired}'
);

create or replace function app.touch_api_keys(p_key_hashes text[], p_used_at timestamptz[]) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_touched integer;
begin
  -- Rows that somebody else is writing to wait for the next batch: being used never blocks anything.
  -- Where a minute has not passed, nothing is written.
  with used as (
    select h.key_hash, max(h.used_at) as used_at
    from unnest(p_key_hashes, p_used_at) as h (key_hash, used_at)
    group by h.key_hash
  ), free as (
    select k.id, used.used_at
    from used join public.api_keys k on k.key_hash = used.key_hash
    where k.last_used_at is null or k.last_used_at < used.used_at - interval '1 minute'
    for no key update of k skip locked
  )
  update public.api_keys k set last_used_at = free.used_at from free where k.id = free.id;
  get diagnostics v_touched = row_count;
  return v_touched;
end
$$;
comment on function app.touch_api_keys(text[], timestamptz[]) is
  'Writes down in one go when keys were last used, to the minute; returns how many rows it wrote.';

create or replace function app.expire_api_keys() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_expired integer;
begin
  update public.api_keys set status = 'expired' where status = 'active' and expires_at <= app.now();
  get diagnostics v_expired = row_count;
  return v_expired;
end
$$;
comment on function app.expire_api_keys() is
  'Writes status expired where the time has come; the gate refuses such keys from the very second, written or not.';

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
