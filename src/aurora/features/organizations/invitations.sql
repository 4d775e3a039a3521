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
