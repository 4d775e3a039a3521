-- Organizations (the customers) and users (a person's membership in one of them).

create table organizations (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  deleted_at timestamptz,
  erased_at timestamptz,

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
  org_number_unverified boolean not null default false,
  vat_number text,
  vat_number_unverified boolean not null default false,

  billing_email text,
  invoice_reference text,

  status text not null default 'trial',
  trial_ends_at timestamptz,

  settings jsonb not null default '{}',
  metadata jsonb not null default '{}',
  logo_sha256 text,

  constraint organizations_slug_key unique (slug),
  constraint organizations_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint organizations_slug_check check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  constraint organizations_email_check check (app.is_email(email)),
  constraint organizations_billing_email_check check (app.is_email(billing_email)),
  constraint organizations_country_check check (country ~ '^[A-Z]{2}$'),
  constraint organizations_status_check check (status in ('trial', 'active', 'suspended', 'cancelled')),
  -- The branding stands in pages, so a logo is an https address and a colour is a colour.
  constraint organizations_settings_check check (
    jsonb_typeof(settings) = 'object'
    and settings - '{theme,language,branding}'::text[] = '{}'
    and coalesce(settings ->> 'theme', 'system') in ('light', 'dark', 'system')
    and coalesce(settings ->> 'language', 'nb') in ('nb', 'en')
    and (
      settings -> 'branding' is null
      or (
        jsonb_typeof(settings -> 'branding') = 'object'
        and (settings -> 'branding') - '{logo_url,color}'::text[] = '{}'
        and coalesce(settings #>> '{branding,logo_url}', 'https://-') ~ '^https://[^[:space:][:cntrl:]"<>\\]+$'
        and length(coalesce(settings #>> '{branding,logo_url}', '')) < 500
        and coalesce(settings #>> '{branding,color}', '#000000') ~ '^#[0-9a-f]{6}$'
      )
    )
  ),
  constraint organizations_erased_check check (erased_at is null or deleted_at is not null),
  constraint organizations_metadata_check check (jsonb_typeof(metadata) = 'object')
);
create index organizations_status_idx on organizations (status) where deleted_at is null;
create index organizations_created_at_idx on organizations (created_at desc, id desc);
alter table organizations enable row level security;
comment on table organizations is 'The customers: hotels, tour operators. Never deleted while they have billing history.';
comment on column organizations.deleted_at is 'Soft deletion: the row and its slug stay for the documents that name it.';
comment on column organizations.erased_at is 'Personal data was replaced and the slug given back; there is no way back.';
comment on column organizations.org_number_unverified is
  'The number is kept as it was given although its register''s check digits refuse it.';

create table organization_logos (
  organization_id uuid not null references organizations (id) on delete restrict,
  sha256 text not null,
  created_at timestamptz not null default app.now(),
  width integer not null,
  height integer not null,
  content bytea not null,
  constraint organization_logos_pkey primary key (organization_id, sha256),
  -- The name is the content, so a row can be added and removed, and never become another picture.
  constraint organization_logos_sha256_check check (sha256 = encode(sha256(content), 'hex')),
  constraint organization_logos_content_check check (octet_length(content) between 1 and 2000000),
  constraint organization_logos_size_check check (width between 1 and 2000 and height between 1 and 2000)
);
alter table organizations add constraint organizations_logo_fkey
  foreign key (id, logo_sha256) references organization_logos (organization_id, sha256) on delete restrict;
alter table organization_logos enable row level security;
comment on table organization_logos is
  'Logos as PNG, drawn anew when they were set. One that a document shows is kept as long as the document.';
comment on column organizations.logo_sha256 is 'The logo of now, which the next documents and pages show.';

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
  erased_at timestamptz,

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

create table invitations (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  organization_id uuid not null references organizations (id) on delete restrict,
  invited_by uuid,

  email text not null,
  name text not null,
  role text not null default 'member',
  language text not null default 'nb',

  token_hash text not null,
  expires_at timestamptz not null,
  sent_count integer not null default 1,
  accepted_at timestamptz,
  revoked_at timestamptz,

  constraint invitations_token_hash_key unique (token_hash),
  constraint invitations_invited_by_fkey foreign key (organization_id, invited_by)
    references users (organization_id, id) on delete set null (invited_by),
  constraint invitations_email_check check (app.is_email(email)),
  constraint invitations_name_check check (name ~ '[^[:space:]]' and length(name) <= 200),
  constraint invitations_role_check check (role in ('owner', 'admin', 'member', 'viewer')),
  constraint invitations_language_check check (language in ('nb', 'en')),
  constraint invitations_token_hash_check check (token_hash ~ '^[0-9a-f]{64}$'),
  constraint invitations_sent_count_check check (sent_count between 1 and 10),
  constraint invitations_ended_once_check check (accepted_at is null or revoked_at is null)
);
create unique index invitations_open_key on invitations (organization_id, lower(email))
  where accepted_at is null and revoked_at is null;
create index invitations_organization_id_created_at_idx on invitations (organization_id, created_at desc);
create index invitations_invited_by_idx on invitations (organization_id, invited_by);
alter table invitations enable row level security;
comment on table invitations is 'Who was asked to become a member. The token is mailed once and kept only as its hash.';
