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
