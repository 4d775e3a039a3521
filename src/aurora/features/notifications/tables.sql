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
