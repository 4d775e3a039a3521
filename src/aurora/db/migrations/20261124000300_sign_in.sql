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

-- Proving who one is. What touches auth.users or a hash is a definer function for service_role alone.

create or replace function app.keeps_passwords() returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  -- Only Supabase's own sign-in service has this table; where it runs, auth.users belongs to it.
  select pg_catalog.to_regclass('auth.identities') is null
$$;
comment on function app.keeps_passwords() is 'Whether sign-in is ours; on Supabase it is Supabase''s.';

create or replace function app.must_keep_passwords() returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not app.keeps_passwords() then
    perform app.refuse('sign_in_elsewhere',
      'People of this platform sign in with Supabase; send its access token as Authorization: Bearer.');
  end if;
end
$$;
comment on function app.must_keep_passwords() is 'Refuses where Supabase signs people in.';

create or replace function app.find_credentials(p_email text)
returns table (auth_id uuid, email text, password_hash text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.must_keep_passwords();
  return query
    select u.id, u.email::text, u.encrypted_password::text
    from auth.users u
    where lower(u.email) = lower(p_email) and u.deleted_at is null;
end
$$;
comment on function app.find_credentials(text) is 'The person with this address and the argon2id hash to compare with.';

create or replace function app.find_person_credentials(p_auth_id uuid)
returns table (auth_id uuid, email text, password_hash text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.must_keep_passwords();
  return query
    select u.id, u.email::text, u.encrypted_password::text
    from auth.users u
    where u.id = p_auth_id and u.deleted_at is null;
end
$$;
comment on function app.find_person_credentials(uuid) is 'The same for a person who is known already.';

create or replace function app.set_password(p_auth_id uuid, p_hash text, p_expected text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.must_keep_passwords();
  -- What was checked a moment ago, outside of this transaction, must still be so.
  update auth.users u
  set encrypted_password = p_hash, updated_at = app.now()
  where u.id = p_auth_id and u.deleted_at is null
    and u.encrypted_password is not distinct from p_expected;
  return found;
end
$$;
comment on function app.set_password(uuid, text, text) is
  'Writes a new hash where the old one is still the expected one; false where it is not.';

create or replace function app.make_sign_in_link(
  p_email text, p_purpose text, p_token_hash text, p_lifetime interval
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_auth_id uuid;
  v_email text;
begin
  perform app.must_keep_passwords();
  -- A member without a person yet becomes one here; who holds the mailbox is asked by the link.
  insert into auth.users (email)
  select u.email from public.users u
  where lower(u.email) = lower(p_email) and u.auth_id is null and u.status = 'active'
  order by u.created_at
  limit 1
  on conflict do nothing;
  select u.id, u.email into v_auth_id, v_email
  from auth.users u
  where lower(u.email) = lower(p_email) and u.deleted_at is null;
  if v_auth_id is null then
    return null;
  end if;
  insert into public.sign_in_links (auth_id, purpose, token_hash, expires_at)
  values (v_auth_id, p_purpose, p_token_hash, app.now() + p_lifetime);
  return v_email;
end
$$;
comment on function app.make_sign_in_link(text, text, text, interval) is
  'Keeps a link and returns the stored address to send it to, never the one that was typed; null for strangers.';

create or replace function app.use_sign_in_link(p_token_hash text, p_purpose text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_auth_id uuid;
begin
  perform app.must_keep_passwords();
  update public.sign_in_links l
  set used_at = app.now()
  where l.token_hash = p_token_hash and l.purpose = p_purpose
    and l.used_at is null and l.expires_at > app.now()
    and exists (select from auth.users u where u.id = l.auth_id and u.deleted_at is null)
  returning l.auth_id into v_auth_id;
  -- One link opened makes the others in the mailbox worthless.
  update public.sign_in_links l
  set used_at = app.now()
  where l.auth_id = v_auth_id and l.used_at is null;
  return v_auth_id;
end
$$;
comment on function app.use_sign_in_link(text, text) is
  'Uses a link up and returns whose it is; null where it is unknown, used, expired, or for something else.';

create or replace function app.note_sign_in(p_auth_id uuid, p_address_is_proven boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update auth.users u
  set last_sign_in_at = app.now(),
    email_confirmed_at = case when p_address_is_proven then coalesce(u.email_confirmed_at, app.now())
      else u.email_confirmed_at end
  where u.id = p_auth_id;
  if p_address_is_proven then
    update public.users m
    set auth_id = p_auth_id
    from auth.users u
    where u.id = p_auth_id and m.auth_id is null and m.status = 'active' and lower(m.email) = lower(u.email)
      and not exists (
        select from public.users other
        where other.auth_id = p_auth_id and other.organization_id is not distinct from m.organization_id
      );
  end if;
  update public.users m set last_login_at = app.now() where m.auth_id = p_auth_id;
end
$$;
comment on function app.note_sign_in(uuid, boolean) is
  'Writes down that a person came; a proven address also joins the memberships that wait for it.';

create or replace function app.use_session(p_token_hash text, p_idle_timeout interval, p_touch_every interval)
returns table (id uuid, auth_id uuid, email text, is_operator boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_claims constant text := coalesce(current_setting('request.jwt.claims', true), '');
  v_last_seen_at timestamptz;
begin
  select s.id, s.auth_id, u.email::text, s.last_seen_at into id, auth_id, email, v_last_seen_at
  from public.sessions s
  join auth.users u on u.id = s.auth_id and u.deleted_at is null
  where s.token_hash = p_token_hash
    and s.revoked_at is null
    and s.expires_at > app.now()
    and s.last_seen_at > app.now() - p_idle_timeout;
  if not found then
    return;
  end if;
  if v_last_seen_at <= app.now() - p_touch_every then
    update public.sessions s set last_seen_at = app.now() where s.id = use_session.id;
  end if;
  -- app.is_operator() asks who signed in, and that is known from here on.
  perform set_config('request.jwt.claims', json_build_object('sub', auth_id)::text, true);
  is_operator := app.is_operator();
  perform set_config('request.jwt.claims', v_claims, true);
  return next;
end
$$;
comment on function app.use_session(text, interval, interval) is
  'Whose living session this is, and moves its last_seen_at; no row where it is revoked, expired, or idle too long.';

create or replace function app.take_sign_in_attempt(
  p_kind text, p_bucket integer, p_limit integer, p_window interval
) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_step constant interval := p_window / p_limit;
  v_wait_s integer;
begin
  insert into public.sign_in_limits as l (kind, bucket, full_at)
  values (p_kind, p_bucket, app.now() + v_step)
  on conflict (kind, bucket) do update
    set full_at = greatest(l.full_at, app.now()) + v_step
    where greatest(l.full_at, app.now()) + v_step <= app.now() + p_window;
  if found then
    return 0;
  end if;
  select greatest(1, ceil(extract(epoch from l.full_at + v_step - p_window - app.now())))::integer into v_wait_s
  from public.sign_in_limits l
  where l.kind = p_kind and l.bucket = p_bucket;
  return v_wait_s;
end
$$;
comment on function app.take_sign_in_attempt(text, integer, integer, interval) is
  'Takes one attempt and returns 0, or takes none and returns how many seconds to wait for the next.';

create or replace function app.use_service_token(p_token_hash text, p_touch_every interval)
returns table (id uuid, name text, scopes text[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_last_used_at timestamptz;
begin
  select t.id, t.name, t.scopes, t.last_used_at into id, name, scopes, v_last_used_at
  from public.service_tokens t
  where t.token_hash = p_token_hash
    and t.revoked_at is null
    and (t.expires_at is null or t.expires_at > app.now());
  if not found then
    return;
  end if;
  if v_last_used_at is null or v_last_used_at <= app.now() - p_touch_every then
    update public.service_tokens t set last_used_at = app.now() where t.id = use_service_token.id;
  end if;
  return next;
end
$$;
comment on function app.use_service_token(text, interval) is
  'Which living service token this is, and moves its last_used_at; no row where it is revoked, expired, or unknown.';

-- Operators' tokens are nobody's but the platform's, so they stand in its own chain.
select app.audit_table(
  'public.service_tokens', 'service_token', '{name,scopes,expires_at,revoked_at}',
  p_ignored => '{created_at,last_used_at}', p_verbs => '{revoked_at:revoked}', p_owner => ''
);

revoke execute on function app.keeps_passwords(), app.must_keep_passwords(), app.find_credentials(text),
  app.find_person_credentials(uuid), app.set_password(uuid, text, text),
  app.make_sign_in_link(text, text, text, interval), app.use_sign_in_link(text, text),
  app.note_sign_in(uuid, boolean), app.use_session(text, interval, interval),
  app.take_sign_in_attempt(text, integer, integer, interval), app.use_service_token(text, interval)
  from public;
grant execute on function app.keeps_passwords(), app.must_keep_passwords(), app.find_credentials(text),
  app.find_person_credentials(uuid), app.set_password(uuid, text, text),
  app.make_sign_in_link(text, text, text, interval), app.use_sign_in_link(text, text),
  app.note_sign_in(uuid, boolean), app.use_session(text, interval, interval),
  app.take_sign_in_attempt(text, integer, integer, interval), app.use_service_token(text, interval)
  to service_role;

-- No role selects a hash: what looks one up is above, and answers whose it is.
revoke all on sessions, sign_in_links, sign_in_limits, service_tokens
  from public, anon, authenticated, service_role, tenant;
grant insert, delete, update (revoked_at) on sessions to service_role;
grant select (id, created_at, auth_id, method, user_agent_family, last_seen_at, expires_at, revoked_at)
  on sessions to service_role;
grant select (id, created_at, auth_id, purpose, expires_at, used_at), delete on sign_in_links to service_role;
grant select, insert, update, delete on sign_in_limits to service_role;
grant insert, update (revoked_at) on service_tokens to service_role;
grant select (id, created_at, name, token_prefix, scopes, expires_at, last_used_at, revoked_at)
  on service_tokens to service_role;

drop policy if exists "The platform acts on every session" on sessions;
create policy "The platform acts on every session" on sessions
  to service_role using (true) with check (true);
drop policy if exists "The platform acts on every link" on sign_in_links;
create policy "The platform acts on every link" on sign_in_links
  to service_role using (true) with check (true);
drop policy if exists "The platform counts every attempt" on sign_in_limits;
create policy "The platform counts every attempt" on sign_in_limits
  to service_role using (true) with check (true);
drop policy if exists "The platform acts on every service token" on service_tokens;
create policy "The platform acts on every service token" on service_tokens
  to service_role using (true) with check (true);
