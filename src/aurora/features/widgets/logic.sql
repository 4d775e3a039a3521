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
