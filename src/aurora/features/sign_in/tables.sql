-- Sessions, one-time links, rate limits, and service tokens. Of every secret only the hash is kept.

create table sessions (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  auth_id uuid not null references auth.users (id) on delete cascade,
  token_hash text not null,
  method text not null,
  user_agent_family text not null,
  last_seen_at timestamptz not null default app.now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,

  constraint sessions_token_hash_key unique (token_hash),
  constraint sessions_token_hash_check check (token_hash ~ '^[0-9a-f]{64}$'),
  constraint sessions_method_check check (method in ('password', 'link')),
  constraint sessions_user_agent_family_check check (length(user_agent_family) between 1 and 40),
  constraint sessions_expires_at_check check (expires_at > created_at)
);
create index sessions_auth_id_created_at_idx on sessions (auth_id, created_at desc);
create index sessions_expires_at_idx on sessions (expires_at);
alter table sessions enable row level security;
comment on table sessions is 'Signed-in browsers. A row is asked at every request, so a revoked one is dead at once.';
comment on column sessions.token_hash is 'SHA-256 of the cookie, in hex; nobody may select it.';
comment on column sessions.last_seen_at is 'Moved at most once a minute and without an index, so that the touch stays a heap-only update.';
comment on column sessions.user_agent_family is 'Such as Firefox: enough to recognise a device, not enough to follow one.';

create table sign_in_links (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  auth_id uuid not null references auth.users (id) on delete cascade,
  purpose text not null,
  token_hash text not null,
  expires_at timestamptz not null,
  used_at timestamptz,

  constraint sign_in_links_token_hash_key unique (token_hash),
  constraint sign_in_links_token_hash_check check (token_hash ~ '^[0-9a-f]{64}$'),
  constraint sign_in_links_purpose_check check (purpose in ('sign_in', 'password_reset'))
);
create index sign_in_links_auth_id_idx on sign_in_links (auth_id);
create index sign_in_links_expires_at_idx on sign_in_links (expires_at);
alter table sign_in_links enable row level security;
comment on table sign_in_links is 'One-time links sent by e-mail: each opens once, for one purpose, for a few minutes.';
comment on column sign_in_links.token_hash is 'SHA-256 of the token in the link, in hex; nobody may select it.';

create table sign_in_limits (
  kind text not null,
  bucket integer not null,
  full_at timestamptz not null,

  primary key (kind, bucket),
  constraint sign_in_limits_kind_check
    check (kind in ('password_ip', 'password_address', 'link_ip', 'link_address', 'token_ip', 'person')),
  constraint sign_in_limits_bucket_check check (bucket between 0 and 1048575)
);
create index sign_in_limits_full_at_idx on sign_in_limits (full_at);
alter table sign_in_limits enable row level security;
comment on table sign_in_limits is
  'Attempts to sign in, by a hash of whom or where cut to 20 bits: whoever attacks, the table has a largest size.';
comment on column sign_in_limits.full_at is
  'When the bucket is whole again (generic cell rate algorithm); in the past means nothing was used.';

create table service_tokens (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  name text not null,
  token_hash text not null,
  token_prefix text not null,
  scopes text[] not null,
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,

  constraint service_tokens_token_hash_key unique (token_hash),
  constraint service_tokens_token_hash_check check (token_hash ~ '^[0-9a-f]{64}$'),
  constraint service_tokens_token_prefix_check check (token_prefix ~ '^aur_svc_[0-9A-Za-z]{6}$'),
  constraint service_tokens_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint service_tokens_scopes_check
    check (scopes <@ array['operator', 'read', 'usage:write', 'billing:run'] and cardinality(scopes) > 0)
);
create index service_tokens_created_at_idx on service_tokens (created_at desc, id desc);
alter table service_tokens enable row level security;
comment on table service_tokens is 'Tokens of the operators'' programs: named, scoped, revocable, each shown once.';
comment on column service_tokens.token_hash is 'SHA-256 of the token, in hex; nobody may select it.';
