-- Widget instances (data plane): where a widget is embedded and when it was last seen.

create table widget_instances (
  organization_id uuid not null,
  id uuid not null default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  api_key_id uuid not null,
  widget_type text not null,
  instance_id text not null,

  origin text not null,
  page_url text,
  page_title text,
  config jsonb not null default '{}',

  status text not null default 'active',
  last_seen_at timestamptz not null default app.now(),
  total_impressions bigint not null default 0,
  total_interactions bigint not null default 0,
  metadata jsonb not null default '{}',

  constraint widget_instances_pkey primary key (organization_id, id),
  constraint widget_instances_instance_id_key unique (organization_id, instance_id),
  constraint widget_instances_widget_type_check check (widget_type in ('forecast', 'map', 'chat')),
  constraint widget_instances_status_check check (status in ('active', 'inactive')),
  constraint widget_instances_totals_check check (total_impressions >= 0 and total_interactions >= 0),
  constraint widget_instances_config_check check (jsonb_typeof(config) = 'object'),
  constraint widget_instances_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index widget_instances_api_key_id_idx on widget_instances (organization_id, api_key_id);
alter table widget_instances enable row level security;
comment on table widget_instances is 'Deployed widgets: one row an instance that a snippet carries.';

-- Who may see deployed widgets. The writer sets updated_at: the data plane has no triggers.

revoke all on widget_instances from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on widget_instances to service_role;
grant select on widget_instances to authenticated, tenant;

drop policy if exists "The platform acts on every widget" on widget_instances;
create policy "The platform acts on every widget" on widget_instances
  to service_role using (true) with check (true);
drop policy if exists "An organization's people see its widgets" on widget_instances;
create policy "An organization's people see its widgets" on widget_instances
  for select to authenticated, tenant using (organization_id = any (app.visible_organizations()));
