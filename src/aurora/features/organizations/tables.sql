-- Organizations (the customers) and users (a person's membership in one of them).

create table organizations (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  deleted_at timestamptz,

  name text not null,
  slug text not null,
  domain text,

  email text not null,
  phone text,

  address text,
  city text,
  postal_code text,
  country text not null default 'NO',

  org_number text,
  vat_number text,

  billing_email text,
  invoice_reference text,

  status text not null default 'trial',
  trial_ends_at timestamptz,

  settings jsonb not null default '{}',
  metadata jsonb not null default '{}',

  constraint organizations_slug_key unique (slug),
  constraint organizations_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint organizations_slug_check check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  constraint organizations_email_check check (app.is_email(email)),
  constraint organizations_billing_email_check check (app.is_email(billing_email)),
  constraint organizations_country_check check (country ~ '^[A-Z]{2}$'),
  constraint organizations_status_check check (status in ('trial', 'active', 'suspended', 'cancelled')),
  constraint organizations_settings_check check (jsonb_typeof(settings) = 'object'),
  constraint organizations_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index organizations_status_idx on organizations (status) where deleted_at is null;
create index organizations_created_at_idx on organizations (created_at desc, id desc);
alter table organizations enable row level security;
comment on table organizations is 'The customers: hotels, tour operators. Never deleted while they have billing history.';
comment on column organizations.deleted_at is 'Soft deletion: the row stays for the documents that name it.';

create table users (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid references organizations (id) on delete restrict,

  email text not null,
  name text not null,
  avatar_url text,
  auth_id uuid,

  role text not null default 'member',
  status text not null default 'active',
  last_login_at timestamptz,

  metadata jsonb not null default '{}',

  -- Other tables refer to the pair, so that a person of one organization cannot stand in another's row.
  constraint users_organization_id_id_key unique (organization_id, id),
  constraint users_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint users_email_check check (app.is_email(email)),
  constraint users_role_check check (role in ('owner', 'admin', 'member', 'viewer')),
  constraint users_status_check check (status in ('active', 'inactive', 'invited')),
  constraint users_metadata_check check (jsonb_typeof(metadata) = 'object')
);
-- One address once an organization; elsewhere it may be known too, and nobody learns it from an error.
create unique index users_organization_id_email_key
  on users (organization_id, lower(email)) nulls not distinct;
create unique index users_auth_id_organization_id_key
  on users (auth_id, organization_id) nulls not distinct where auth_id is not null;
alter table users enable row level security;
comment on table users is 'Memberships: one person (auth_id) in one organization; no organization means operator.';
