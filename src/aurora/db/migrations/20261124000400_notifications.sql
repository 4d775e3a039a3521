-- Notifications (data plane): what the platform tells a person. No foreign keys, so that it can be sharded.

create table notifications (
  organization_id uuid not null,
  id uuid not null default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  user_id uuid not null,

  type text not null,
  title text not null,
  message text not null,
  priority text not null default 'info',

  read boolean not null default false,
  read_at timestamptz,

  action_url text,
  action_label text,
  dedupe_key text not null default gen_random_uuid()::text,
  metadata jsonb not null default '{}',

  constraint notifications_pkey primary key (organization_id, id),
  constraint notifications_dedupe_key unique (organization_id, user_id, dedupe_key),
  constraint notifications_priority_check check (priority in ('info', 'warning', 'critical')),
  constraint notifications_read_check check (read = (read_at is not null)),
  constraint notifications_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index notifications_unread_idx on notifications (organization_id, user_id, created_at desc) where not read;
alter table notifications enable row level security;
comment on table notifications is 'What the platform tells a person: billing, usage, keys.';
comment on column notifications.dedupe_key is 'The fact told; the same fact is told a person once.';

-- Telling the people of an organization something, each once.

create or replace function app.notify_members(
  p_organization_id uuid,
  p_type text,
  p_title text,
  p_message text,
  p_priority text default 'info',
  p_dedupe_key text default null,
  p_action_url text default null,
  p_action_label text default null,
  p_at_least text default 'viewer'
) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_users uuid[];
  v_told integer;
begin
  -- Two statements: on a cluster users are on the coordinator and notifications on the shards.
  select array_agg(u.id) into v_users
  from public.users u
  where u.organization_id = p_organization_id and u.status = 'active'
    and app.role_rank(u.role) >= app.role_rank(p_at_least);

  insert into public.notifications (
    organization_id, user_id, type, title, message, priority, action_url, action_label, dedupe_key
  )
  select p_organization_id, recipient, p_type, p_title, p_message, p_priority, p_action_url, p_action_label,
    coalesce(p_dedupe_key, gen_random_uuid()::text)
  from unnest(v_users) as recipient
  on conflict (organization_id, user_id, dedupe_key) do nothing;
  get diagnostics v_told = row_count;
  return v_told;
end
$$;
comment on function app.notify_members(uuid, text, text, text, text, text, text, text, text) is
  'Tells every active member of at least this role; returns how many were told. The same dedupe_key is told once.';

revoke execute on function app.notify_members(uuid, text, text, text, text, text, text, text, text) from public;
grant execute on function app.notify_members(uuid, text, text, text, text, text, text, text, text) to service_role;

revoke all on notifications from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on notifications to service_role;
grant select, update (read, read_at) on notifications to authenticated, tenant;

drop policy if exists "The platform acts on every notification" on notifications;
create policy "The platform acts on every notification" on notifications
  to service_role using (true) with check (true);
drop policy if exists "People read their own notifications" on notifications;
create policy "People read their own notifications" on notifications
  for select to authenticated, tenant
  using (organization_id = any (app.visible_organizations()) and user_id = any (app.visible_users()));
drop policy if exists "People mark their own notifications" on notifications;
create policy "People mark their own notifications" on notifications
  for update to authenticated, tenant
  using (organization_id = any (app.visible_organizations()) and user_id = any (app.visible_users()))
  with check (organization_id = any (app.visible_organizations()) and user_id = any (app.visible_users()));
