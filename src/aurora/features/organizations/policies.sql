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
