-- Roles: who may act. They belong to the cluster, so they are only ever added, never altered back.
-- Supabase has the first three already; elsewhere they are made here.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'tenant', 'aurora_app'] loop
    begin
      if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
        execute format(
          'create role %I noinherit %s', v_role,
          case when v_role = 'aurora_app' then 'login' else 'nologin' end
        );
      end if;
    exception
      -- Two databases of one cluster may be migrated at the same moment.
      when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;

-- aurora_app is what the application logs in as: by itself it may do nothing, and each transaction
-- says with SET LOCAL ROLE who acts. The owner who migrates may assume the same roles.
do $$
declare
  v_role text;
  v_member text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'tenant'] loop
    foreach v_member in array array['aurora_app', current_user] loop
      if v_member <> v_role
        and not exists (
          select from pg_catalog.pg_auth_members m
          where m.roleid = v_role::regrole and m.member = v_member::regrole
        )
        and not (select rolsuper from pg_catalog.pg_roles where rolname = v_member)
      then
        begin
          execute format('grant %I to %I', v_role, v_member);
        exception
          when unique_violation or insufficient_privilege then
            raise notice 'role % was not granted to %', v_role, v_member;
        end;
      end if;
    end loop;
  end loop;
end
$$;

revoke create on schema public from public;
grant usage on schema public to authenticated, service_role, tenant;

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

-- Schema app: what every room shares. Nothing in it is exposed to clients as data.

create schema if not exists app;
comment on schema app is 'Functions and tables that the rooms share; not exposed to clients.';
grant usage on schema app to authenticated, service_role, tenant;

create table app.clock (
  only_row boolean primary key default true,
  shift interval not null default interval '0',
  constraint clock_only_row_check check (only_row)
);
alter table app.clock enable row level security;
comment on table app.clock is
  'How far app.now() runs ahead of the wall clock: empty in production, one row where a test turns a month.';

-- A table and not a setting: any session could change a setting, and with it what is expired.
create function app.now() returns timestamptz
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select now() + coalesce((select shift from app.clock), interval '0')
$$;
comment on function app.now() is 'The time of this transaction; the only clock SQL may ask.';

create function app.refuse(p_code text, p_detail text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'AU000', message = p_code, detail = p_detail;
end
$$;
comment on function app.refuse(text, text) is
  'Raises the one error class of Aurora: message is a stable code, detail one sentence for people.';

create function app.touch_updated_at() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := app.now();
  return new;
end
$$;
comment on function app.touch_updated_at() is 'Trigger: a changed row says when it was changed.';

create function app.set_organization(p_organization_id uuid, p_user_id uuid default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Citus sends SET LOCAL to its workers, and only that: set_config alone would never reach them
  -- and every row there would stay hidden. Plain PostgreSQL takes the first line as a placeholder.
  perform pg_catalog.set_config('citus.propagate_set_commands', 'local', true);
  execute pg_catalog.format('set local app.organization_id = %L', coalesce(p_organization_id::text, ''));
  execute pg_catalog.format('set local app.user_id = %L', coalesce(p_user_id::text, ''));
end
$$;
comment on function app.set_organization(uuid, uuid) is
  'Says for this transaction which organization (and person in it) the role tenant acts for.';

create function app.is_email(p_email text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Only what no address can be without: RFC 5321 allows more than any short pattern does.
  select octet_length(p_email) <= 254
    and p_email ~ '^[^@[:space:][:cntrl:]]{1,64}@[^@[:space:][:cntrl:].]+([.][^@[:space:][:cntrl:].]+)+$'
    and p_email !~ '(^[.]|[.][.]|[.]@)'
$$;
comment on function app.is_email(text) is 'Whether the text can be an e-mail address (RFC 5321 lengths).';

revoke execute on all functions in schema app from public;
grant execute on function app.now(), app.refuse(text, text), app.touch_updated_at(), app.is_email(text)
  to authenticated, service_role, tenant;
grant execute on function app.set_organization(uuid, uuid) to service_role, tenant;

-- Temporary objects stand before all others in a session's search path. Who may make them could give
-- a type a second meaning, for the functions above and for whoever borrows the connection next. Only
-- the platform makes any, for what it ingests. (This right is the database's own: a copy or a restored
-- dump has it open again, and `aurora doctor` says so.)
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
  execute format('grant temporary on database %I to service_role', current_database());
exception
  when insufficient_privilege then
    raise notice 'temporary objects were left to everybody: the database is not ours';
end
$$;

-- Supabase opens whatever is made in public to its client roles. Here each room opens what it means
-- to. (The right of PUBLIC to run functions can only be closed for all schemas at once, which would
-- reach what is not ours: the rooms revoke it one by one, and the isolation matrix holds them to it.)
alter default privileges in schema public, app
  revoke all on tables from anon, authenticated, service_role, tenant;
alter default privileges in schema public, app
  revoke all on sequences from anon, authenticated, service_role, tenant;
alter default privileges in schema public, app
  revoke all on functions from anon, authenticated, service_role, tenant;

-- Money: how many digits a currency has, and the only places where SQL rounds an amount.

create or replace function app.currency_digits(p_currency text) returns integer
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- The exponents of ISO 4217 for the currencies we sell in; the same table as aurora.core.money.
  return case
    when p_currency in (
      'NOK', 'SEK', 'DKK', 'EUR', 'GBP', 'USD', 'CHF', 'PLN', 'CZK', 'HUF', 'RON', 'BGN', 'TRY', 'UAH', 'CAD', 'AUD',
      'NZD', 'SGD', 'HKD', 'CNY', 'TWD', 'THB', 'INR', 'ZAR', 'ILS', 'AED', 'MXN', 'BRL'
    ) then 2
    when p_currency in ('ISK', 'JPY', 'KRW', 'VND', 'CLP') then 0
    when p_currency in ('KWD', 'BHD', 'JOD', 'OMR', 'TND') then 3
  end;
end
$$;
comment on function app.currency_digits(text) is
  'Digits after the point of a currency (ISO 4217); null for a currency that Aurora does not sell in.';

create or replace function app.round_money(p_amount numeric, p_currency text) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- round(numeric) takes halves away from zero: a credit note is exactly minus its invoice.
  return round(p_amount, app.currency_digits(p_currency));
end
$$;
comment on function app.round_money(numeric, text) is
  'An amount in the digits of its currency, halves away from zero; null for an unknown currency.';

create or replace function app.round_quotient(p_numerator numeric, p_denominator numeric, p_digits integer) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- In whole numbers, because a quotient cut off before it is rounded can fall on the wrong side of a half.
  return round(
    sign(p_numerator) * div(2 * abs(p_numerator) * (10 ^ p_digits)::numeric + p_denominator, 2 * p_denominator)
      / (10 ^ p_digits)::numeric,
    p_digits
  );
end
$$;
comment on function app.round_quotient(numeric, numeric, integer) is
  'Numerator / denominator (above zero) to so many digits, halves away from zero, exact for any denominator.';

revoke execute on function app.currency_digits(text), app.round_money(numeric, text),
  app.round_quotient(numeric, numeric, integer) from public;
grant execute on function app.currency_digits(text), app.round_money(numeric, text),
  app.round_quotient(numeric, numeric, integer) to authenticated, service_role, tenant;
