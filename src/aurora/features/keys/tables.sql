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
