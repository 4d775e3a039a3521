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
