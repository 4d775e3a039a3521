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
