-- The seller's logo: setting it, and who may see it. An organization's own is kept by the room organizations.

create or replace function app.set_seller_logo(
  p_legal_entity_id text, p_content bytea, p_width integer, p_height integer
) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_sha256 constant text := encode(sha256(p_content), 'hex');
  v_old text;
begin
  perform from public.legal_entities e where e.id = p_legal_entity_id for no key update;
  if not found then
    perform app.refuse('seller_missing', 'No seller is entered: use aurora invoice seller.');
  end if;
  if p_content is not null then
    insert into public.seller_logos (legal_entity_id, sha256, width, height, content)
    values (p_legal_entity_id, v_sha256, p_width, p_height, p_content)
    on conflict on constraint seller_logos_pkey do nothing;
  end if;
  update public.legal_entities e set logo_sha256 = v_sha256
  where e.id = p_legal_entity_id and e.logo_sha256 is distinct from v_sha256;
  for v_old in
    select l.sha256 from public.seller_logos l
    where l.legal_entity_id = p_legal_entity_id and l.sha256 is distinct from v_sha256
  loop
    begin
      delete from public.seller_logos l where l.legal_entity_id = p_legal_entity_id and l.sha256 = v_old;
    exception when foreign_key_violation or restrict_violation then
      -- A document shows it, so it stays as long as the document.
      null;
    end;
  end loop;
  return v_sha256;
end
$$;
comment on function app.set_seller_logo(text, bytea, integer, integer) is
  'Gives a seller a logo (null: none) and removes those that no document shows; returns the SHA-256 of the new one.';

revoke execute on function app.set_seller_logo(text, bytea, integer, integer) from public;
grant execute on function app.set_seller_logo(text, bytea, integer, integer) to service_role;

revoke all on seller_logos from public, anon, authenticated, service_role, tenant;
grant select, insert, delete on seller_logos to service_role;
grant select on seller_logos to authenticated, tenant;

drop policy if exists "The platform keeps the sellers' logos" on seller_logos;
create policy "The platform keeps the sellers' logos" on seller_logos to service_role using (true) with check (true);
-- Whoever may read a document sees what stands on it, and this stands on all of them.
drop policy if exists "Whoever reads documents sees the seller's logo" on seller_logos;
create policy "Whoever reads documents sees the seller's logo" on seller_logos
  for select to authenticated, tenant using (true);
