-- The part of Supabase's auth schema that Aurora stands on, made only where there is none.

do $$
begin
  if exists (select from pg_catalog.pg_namespace where nspname = 'auth') then
    return;
  end if;

  create schema auth;
  grant usage on schema auth to authenticated, service_role;

  create table auth.users (
    id uuid primary key default gen_random_uuid(),
    email text not null,
    encrypted_password text,
    email_confirmed_at timestamptz,
    last_sign_in_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
  );
  create unique index users_email_key on auth.users (lower(email)) where deleted_at is null;
  alter table auth.users enable row level security;
  comment on table auth.users is 'People who can sign in; one row a person, whatever organizations they belong to.';

  create function auth.jwt() returns jsonb
  language sql stable set search_path = pg_catalog, pg_temp
  as $f$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
  $f$;
  comment on function auth.jwt() is 'The claims of the person on whose behalf this transaction runs.';

  create function auth.uid() returns uuid
  language sql stable set search_path = pg_catalog, pg_temp
  as $f$
    select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
  $f$;
  comment on function auth.uid() is 'The person on whose behalf this transaction runs, or null.';

  revoke execute on function auth.jwt(), auth.uid() from public;
  grant execute on function auth.jwt(), auth.uid() to authenticated, service_role;
end
$$;
