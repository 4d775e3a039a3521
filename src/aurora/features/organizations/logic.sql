-- Who belongs where: the functions that every policy of the house stands on, and this room's policies.

create or replace function app.role_rank(p_role text) returns integer
language sql immutable parallel safe set search_path = ''
as $$
  select case p_role when 'owner' then 4 when 'admin' then 3 when 'member' then 2 when 'viewer' then 1 else 0 end
$$;
comment on function app.role_rank(text) is 'The order of roles: viewer 1, member 2, admin 3, owner 4; anything else 0.';

-- SECURITY DEFINER because the policies on users themselves would otherwise ask users again without end.
create or replace function app.my_organizations(p_at_least text default 'viewer') returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select u.organization_id
  from public.users u
  where u.auth_id = auth.uid()
    and u.organization_id is not null
    and u.status = 'active'
    and app.role_rank(u.role) >= app.role_rank(p_at_least)
$$;
comment on function app.my_organizations(text) is
  'Organizations in which the signed-in person has at least this role.';

create or replace function app.my_users() returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select u.id from public.users u where u.auth_id = auth.uid() and u.status = 'active'
$$;
comment on function app.my_users() is 'The memberships of the signed-in person.';

create or replace function app.is_operator() returns boolean
language sql stable security definer set search_path = ''
as $$
  select exists (
    select from public.users u
    where u.auth_id = auth.uid() and u.organization_id is null and u.status = 'active'
  )
$$;
comment on function app.is_operator() is 'Whether the signed-in person runs the platform.';

-- Anyone may set a GUC; only the application can become tenant. So the setting is believed for
-- tenant alone, and a person who sets it gains nothing.
create or replace function app.visible_organizations() returns uuid[]
language plpgsql stable set search_path = ''
as $$
begin
  if current_user = 'tenant' then
    return array[nullif(current_setting('app.organization_id', true), '')::uuid];
  elsif current_user = 'authenticated' then
    return array(select app.my_organizations('viewer'));
  end if;
  return '{}'::uuid[];
end
$$;
comment on function app.visible_organizations() is
  'Organizations whose data plane this transaction may read; holds no table for the role tenant.';

create or replace function app.visible_users() returns uuid[]
language plpgsql stable set search_path = ''
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

revoke execute on function
  app.role_rank(text), app.my_organizations(text), app.my_users(), app.is_operator(),
  app.visible_organizations(), app.visible_users() from public;
grant execute on function
  app.role_rank(text), app.my_organizations(text), app.my_users(), app.is_operator()
  to authenticated, service_role;
grant execute on function app.visible_organizations(), app.visible_users()
  to authenticated, service_role, tenant;

create or replace trigger organizations_touch_updated_at before update on organizations
  for each row execute function app.touch_updated_at();
create or replace trigger users_touch_updated_at before update on users
  for each row execute function app.touch_updated_at();

revoke all on organizations, users from public, anon, authenticated, service_role, tenant;
grant select, insert, update on organizations, users to service_role;
grant select on organizations, users to authenticated;
grant select on organizations to tenant;

drop policy if exists "The platform acts on every organization" on organizations;
create policy "The platform acts on every organization" on organizations
  to service_role using (true) with check (true);
drop policy if exists "People see the organizations they belong to" on organizations;
create policy "People see the organizations they belong to" on organizations
  for select to authenticated
  using (id = any (array(select app.my_organizations('viewer'))) or (select app.is_operator()));
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
