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

-- Who belongs where: the functions that every policy of the house stands on.

create or replace function app.role_rank(p_role text) returns integer
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case p_role when 'owner' then 4 when 'admin' then 3 when 'member' then 2 when 'viewer' then 1 else 0 end
$$;
comment on function app.role_rank(text) is 'The order of roles: viewer 1, member 2, admin 3, owner 4; anything else 0.';

-- SECURITY DEFINER because the policies on users themselves would otherwise ask users again without end.
create or replace function app.my_organizations(p_at_least text default 'viewer') returns setof uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select u.organization_id
  from public.users u
    join public.organizations o on o.id = u.organization_id
  where u.auth_id = auth.uid()
    and u.status = 'active'
    and o.deleted_at is null
    and app.role_rank(u.role) >= app.role_rank(p_at_least)
$$;
comment on function app.my_organizations(text) is
  'Organizations, not deleted ones, in which the signed-in person has at least this role.';

create or replace function app.my_users() returns setof uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select u.id from public.users u where u.auth_id = auth.uid() and u.status = 'active'
$$;
comment on function app.my_users() is 'The memberships of the signed-in person.';

create or replace function app.is_operator() returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from public.users u
    where u.auth_id = auth.uid() and u.organization_id is null and u.status = 'active'
  )
$$;
comment on function app.is_operator() is 'Whether the signed-in person runs the platform.';

create or replace function app.my_open_organizations(p_at_least text default 'viewer') returns setof uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select o.id
  from public.organizations o
  where o.status in ('trial', 'active')
    and (app.is_operator() or o.id = any (array(select app.my_organizations(p_at_least))))
$$;
comment on function app.my_open_organizations(text) is
  'app.my_organizations() without the suspended and cancelled ones, which read and make nothing new.';

-- One look and plpgsql, whose plan is kept: a plan over many partitions asks this once for each.
create or replace function app.readable_organizations() returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_found uuid[];
begin
  select array_agg(u.organization_id) into v_found
  from public.users u left join public.organizations o on o.id = u.organization_id
  where u.auth_id = auth.uid() and u.status = 'active' and o.deleted_at is null;
  -- A membership in no organization is an operator's.
  if array_position(v_found, null) is not null then
    return array(select o.id from public.organizations o);
  end if;
  return coalesce(v_found, '{}');
end
$$;
comment on function app.readable_organizations() is
  'Organizations whose data plane the signed-in person may read: his own, or every one where he is operator.';

-- Anyone may set a GUC; only the application can become tenant. So the setting is believed for
-- tenant alone, and a person who sets it gains nothing.
create or replace function app.visible_organizations() returns uuid[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if current_user = 'tenant' then
    return array[nullif(current_setting('app.organization_id', true), '')::uuid];
  elsif current_user = 'authenticated' then
    return app.readable_organizations();
  end if;
  return '{}'::uuid[];
end
$$;
comment on function app.visible_organizations() is
  'Organizations whose data plane this transaction may read; holds no table for the role tenant.';

create or replace function app.visible_users() returns uuid[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if current_user = 'tenant' then
    return array[nullif(current_setting('app.user_id', true), '')::uuid];
  elsif current_user = 'authenticated' then
    return array(select app.my_users());
  end if;
  return '{}'::uuid[];
end
$$;
comment on function app.visible_users() is 'Memberships whose personal rows this transaction may read.';

-- Rows are the policies' business; what may become of a row is not, because the USING of one policy
-- and the WITH CHECK of another can combine: whoever may rename himself could make himself owner.
create or replace function app.guard_membership() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if current_user <> 'authenticated' or (new.role = old.role and new.status = old.status) then
    return new;
  end if;
  -- Anyone may leave.
  if new.role = old.role and new.status = 'inactive' and old.id = any (array(select app.my_users())) then
    return new;
  end if;
  if app.is_operator() then
    return new;
  end if;
  -- Else an admin could make a member of an address whose owner never agreed.
  if old.status = 'invited' and new.status = 'active' then
    perform app.refuse('role_forbidden', 'An invitation becomes a membership when it is accepted.');
  end if;
  if not old.organization_id = any (array(
    select app.my_organizations(case when 'owner' in (old.role, new.role) then 'owner' else 'admin' end)
  )) then
    perform app.refuse(
      'role_forbidden', 'Admins change roles and memberships, and only owners those of owners.'
    );
  end if;
  return new;
end
$$;
comment on function app.guard_membership() is
  'Trigger: people change a role or status only from high enough, and only owners make and unmake owners.';

-- SECURITY DEFINER because the answer must not depend on which colleagues the person may see.
create or replace function app.keep_an_owner() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if old.organization_id is null or old.role <> 'owner' or old.status <> 'active' then
    return coalesce(new, old);
  end if;
  if tg_op = 'UPDATE' and new.role = 'owner' and new.status = 'active'
    and new.organization_id = old.organization_id
  then
    return new;
  end if;
  -- Two owners who leave at the same moment must not both see the other: the second one waits here.
  perform from public.organizations o
  where o.id = old.organization_id and o.deleted_at is null for no key update;
  if found and not exists (
    select from public.users u
    where u.organization_id = old.organization_id and u.id <> old.id
      and u.role = 'owner' and u.status = 'active'
  ) then
    perform app.refuse('last_owner', 'An organization keeps at least one active owner: make another one first.');
  end if;
  return coalesce(new, old);
end
$$;
comment on function app.keep_an_owner() is
  'Trigger: the last active owner of an organization stays until another is made or the organization is deleted.';

create or replace trigger organizations_touch_updated_at before update on organizations
  for each row execute function app.touch_updated_at();
create or replace trigger users_touch_updated_at before update on users
  for each row execute function app.touch_updated_at();
create or replace trigger users_guard_membership before update on users
  for each row execute function app.guard_membership();
create or replace trigger users_keep_an_owner before update of role, status, organization_id or delete on users
  for each row execute function app.keep_an_owner();

-- The life of an organization: which status may follow which, who may say so, and when it may be deleted.

create or replace function app.organization_transitions()
returns table (from_status text, to_status text, may text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  values
    ('trial', 'active', 'operator'),
    ('trial', 'suspended', 'operator'),
    ('trial', 'cancelled', 'owner'),
    ('active', 'suspended', 'operator'),
    ('active', 'cancelled', 'owner'),
    ('suspended', 'active', 'operator'),
    ('suspended', 'cancelled', 'owner'),
    ('cancelled', 'active', 'operator')
$$;
comment on function app.organization_transitions() is
  'Which status may follow which, and who at least may say so; what is not listed cannot happen.';

create or replace function app.guard_organization() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if new.status <> old.status and not exists (
    select from app.organization_transitions() t
    where t.from_status = old.status and t.to_status = new.status
  ) then
    perform app.refuse(
      'status_transition_invalid', format('An organization that is %s cannot become %s.', old.status, new.status)
    );
  end if;
  if new.deleted_at is not null and old.deleted_at is null and new.status <> 'cancelled' then
    perform app.refuse('organization_not_cancelled', 'Only a cancelled organization can be deleted: cancel it first.');
  end if;
  if old.erased_at is not null and (new.erased_at is null or new.deleted_at is null or new.status <> old.status) then
    perform app.refuse('organization_erased', 'The organization was erased; there is nothing to bring back.');
  end if;
  return new;
end
$$;
comment on function app.guard_organization() is
  'Trigger: a status follows only where app.organization_transitions() says so; only what is cancelled is deleted.';

create or replace trigger organizations_guard before update of status, deleted_at, erased_at on organizations
  for each row execute function app.guard_organization();

create or replace function app.is_org_number(p_text text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- MOD11 with the weights 3 2 7 6 5 4 3 2 1 of Brønnøysund's numbers: the weighted sum is a multiple of 11.
  select coalesce(p_text ~ '^[0-9]{9}$' and (
    select sum(substr(p_text, n, 1)::integer * (array[3, 2, 7, 6, 5, 4, 3, 2, 1])[n])
    from generate_series(1, 9) n where p_text ~ '^[0-9]{9}$'
  ) % 11 = 0, false)
$$;
comment on function app.is_org_number(text) is 'Whether nine digits end in the check digit of a Norwegian organization number.';

create or replace function app.guard_tax_numbers() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Those of other countries are checked where their registers' rules are: in the application.
  if new.country <> 'NO' then
    return new;
  end if;
  if new.org_number is not null and not new.org_number_unverified and not app.is_org_number(new.org_number) then
    perform app.refuse(
      'org_number_invalid', 'This is no Norwegian organization number. Set org_number_unverified to keep it as it is.'
    );
  end if;
  if new.vat_number is not null and not new.vat_number_unverified and not (
    new.vat_number ~ '^NO[0-9]{9}MVA$' and app.is_org_number(substr(new.vat_number, 3, 9))
  ) then
    perform app.refuse(
      'vat_number_invalid', 'This is no Norwegian VAT number. Set vat_number_unverified to keep it as it is.'
    );
  end if;
  return new;
end
$$;
comment on function app.guard_tax_numbers() is
  'Trigger: a Norwegian number whose check digit is wrong is kept only under its mark, whoever writes it.';

create or replace trigger organizations_tax_numbers
  before insert or update of country, org_number, org_number_unverified, vat_number, vat_number_unverified
  on organizations
  for each row execute function app.guard_tax_numbers();

revoke execute on function app.organization_transitions(), app.is_org_number(text), app.guard_organization(),
  app.guard_tax_numbers() from public;
grant execute on function app.organization_transitions() to service_role;
grant execute on function app.is_org_number(text) to authenticated, service_role;

-- Taking an invitation up, and who may see invitations.

-- SECURITY DEFINER because nobody but the owner of the schema may look into auth.users.
create or replace function app.accept_invitation(p_token_hash text, p_name text default null) returns public.users
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_invitation public.invitations;
  v_user public.users;
  v_auth_id uuid;
begin
  select i.* into v_invitation
  from public.invitations i
    join public.organizations o on o.id = i.organization_id
  where i.token_hash = p_token_hash and i.accepted_at is null and i.revoked_at is null
    and i.expires_at > app.now() and o.deleted_at is null
  for update of i;
  if not found then
    perform app.refuse(
      'invitation_not_found', 'The invitation is unknown, used, taken back, or expired: ask for a new one.'
    );
  end if;
  -- Only a confirmed address: whoever signed up with somebody else's must not get the membership.
  select a.id into v_auth_id
  from auth.users a
  where lower(a.email) = lower(v_invitation.email) and a.email_confirmed_at is not null and a.deleted_at is null
  order by a.created_at
  limit 1;
  insert into public.users (organization_id, email, name, role, status, auth_id)
  values (
    v_invitation.organization_id, v_invitation.email, coalesce(p_name, v_invitation.name), v_invitation.role,
    'active', v_auth_id
  )
  on conflict (organization_id, lower(email)) do update
    set role = excluded.role, status = 'active', name = excluded.name,
      auth_id = coalesce(users.auth_id, excluded.auth_id)
    where users.status <> 'active'
  returning * into v_user;
  if v_user.id is null then
    select u.* into strict v_user
    from public.users u
    where u.organization_id = v_invitation.organization_id and lower(u.email) = lower(v_invitation.email);
  end if;
  update public.invitations set accepted_at = app.now() where id = v_invitation.id;
  return v_user;
end
$$;
comment on function app.accept_invitation(text, text) is
  'Makes the holder of the token a member, once; a person who had left comes back. Refuses all dead tokens alike.';

create or replace trigger invitations_touch_updated_at before update on invitations
  for each row execute function app.touch_updated_at();

revoke execute on function app.accept_invitation(text, text) from public;
grant execute on function app.accept_invitation(text, text) to service_role;

revoke all on invitations from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on invitations to service_role;
grant select (
  id, created_at, updated_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count,
  accepted_at, revoked_at
) on invitations to authenticated;

drop policy if exists "The platform acts on every invitation" on invitations;
create policy "The platform acts on every invitation" on invitations
  to service_role using (true) with check (true);
drop policy if exists "Admins see whom their organization invited" on invitations;
create policy "Admins see whom their organization invited" on invitations
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()));

-- Who may see and change organizations and memberships. Status, slug, and whose row it is belong to the platform.

revoke execute on function
  app.role_rank(text), app.my_organizations(text), app.my_open_organizations(text), app.my_users(),
  app.is_operator(), app.readable_organizations(), app.visible_organizations(), app.visible_users(),
  app.guard_membership(), app.keep_an_owner() from public;
grant execute on function
  app.role_rank(text), app.my_organizations(text), app.my_open_organizations(text), app.my_users(),
  app.is_operator(), app.readable_organizations() to authenticated, service_role;
grant execute on function app.visible_organizations(), app.visible_users()
  to authenticated, service_role, tenant;

revoke all on organizations, users from public, anon, authenticated, service_role, tenant;
grant select, insert, update on organizations, users to service_role;
grant select on organizations, users to authenticated;
grant select on organizations to tenant;
grant update (
  name, domain, email, phone, address, city, postal_code, country, org_number, org_number_unverified, vat_number,
  vat_number_unverified, billing_email, invoice_reference, settings
) on organizations to authenticated;
grant insert (organization_id, email, name, role, status), update (name, avatar_url, role, status)
  on users to authenticated;

drop policy if exists "The platform acts on every organization" on organizations;
create policy "The platform acts on every organization" on organizations
  to service_role using (true) with check (true);
drop policy if exists "People see the organizations they belong to" on organizations;
create policy "People see the organizations they belong to" on organizations
  for select to authenticated
  using (id = any (array(select app.my_organizations('viewer'))) or (select app.is_operator()));
drop policy if exists "Admins keep their organization's contact and billing details" on organizations;
create policy "Admins keep their organization's contact and billing details" on organizations
  for update to authenticated
  using (id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()))
  with check (id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()));
drop policy if exists "An organization sees itself" on organizations;
create policy "An organization sees itself" on organizations
  for select to tenant using (id = any (app.visible_organizations()));

drop policy if exists "The platform acts on every user" on users;
create policy "The platform acts on every user" on users
  to service_role using (true) with check (true);
drop policy if exists "People see themselves" on users;
create policy "People see themselves" on users
  for select to authenticated using (id = any (array(select app.my_users())));
drop policy if exists "Members see their colleagues" on users;
create policy "Members see their colleagues" on users
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('member'))) or (select app.is_operator()));
-- What becomes of role and status is guarded by app.guard_membership().
drop policy if exists "People keep their own name and picture" on users;
create policy "People keep their own name and picture" on users
  for update to authenticated
  using (id = any (array(select app.my_users()))) with check (id = any (array(select app.my_users())));
drop policy if exists "Admins keep the members, and only owners the owners" on users;
create policy "Admins keep the members, and only owners the owners" on users
  for update to authenticated
  using (
    (role <> 'owner' and organization_id = any (array(select app.my_organizations('admin'))))
    or organization_id = any (array(select app.my_organizations('owner')))
    or (select app.is_operator())
  )
  with check (
    (role <> 'owner' and organization_id = any (array(select app.my_organizations('admin'))))
    or organization_id = any (array(select app.my_organizations('owner')))
    or (select app.is_operator())
  );
drop policy if exists "Admins invite members, and only owners invite owners" on users;
create policy "Admins invite members, and only owners invite owners" on users
  for insert to authenticated
  with check (
    status = 'invited'
    and (
      (role <> 'owner' and organization_id = any (array(select app.my_organizations('admin'))))
      or organization_id = any (array(select app.my_organizations('owner')))
      or (select app.is_operator())
    )
  );

-- Logos: setting one, and who may see it. Only the platform adds any: whether bytes are a picture, SQL cannot know.

create or replace function app.set_organization_logo(
  p_organization_id uuid, p_content bytea, p_width integer, p_height integer
) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sha256 constant text := encode(sha256(p_content), 'hex');
  v_old text;
begin
  perform from public.organizations o where o.id = p_organization_id and o.deleted_at is null for no key update;
  if not found then
    perform app.refuse('organization_not_found', 'There is no such organization.');
  end if;
  if p_content is not null then
    insert into public.organization_logos (organization_id, sha256, width, height, content)
    values (p_organization_id, v_sha256, p_width, p_height, p_content)
    on conflict on constraint organization_logos_pkey do nothing;
  end if;
  update public.organizations o set logo_sha256 = v_sha256
  where o.id = p_organization_id and o.logo_sha256 is distinct from v_sha256;
  for v_old in
    select l.sha256 from public.organization_logos l
    where l.organization_id = p_organization_id and l.sha256 is distinct from v_sha256
  loop
    begin
      delete from public.organization_logos l where l.organization_id = p_organization_id and l.sha256 = v_old;
    exception when foreign_key_violation or restrict_violation then
      -- A document shows it. Which ones there are is not this room's to know; their foreign keys say so.
      null;
    end;
  end loop;
  return v_sha256;
end
$$;
comment on function app.set_organization_logo(uuid, bytea, integer, integer) is
  'Gives an organization a logo (null: none) and removes those that no document shows; returns the SHA-256 of the new one.';

revoke execute on function app.set_organization_logo(uuid, bytea, integer, integer) from public;
grant execute on function app.set_organization_logo(uuid, bytea, integer, integer) to service_role;

revoke all on organization_logos from public, anon, authenticated, service_role, tenant;
grant select, insert, delete on organization_logos to service_role;
grant select on organization_logos to authenticated, tenant;

drop policy if exists "The platform keeps the logos" on organization_logos;
create policy "The platform keeps the logos" on organization_logos to service_role using (true) with check (true);
drop policy if exists "People see the logos of their organizations" on organization_logos;
create policy "People see the logos of their organizations" on organization_logos
  for select to authenticated
  using (
    organization_id = any (array(select app.my_organizations('viewer'))) or (select app.is_operator())
  );
drop policy if exists "An organization sees its logos" on organization_logos;
create policy "An organization sees its logos" on organization_logos
  for select to tenant using (organization_id = any (app.visible_organizations()));
