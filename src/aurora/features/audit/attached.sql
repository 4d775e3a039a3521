-- Where the triggers hang, who may read, and what is recorded of organizations, members, and invitations.

do $$
begin
  -- A constraint trigger is what can wait for the commit; it knows no "create or replace".
  drop trigger if exists audit_pending_seal on app.audit_pending;
  create constraint trigger audit_pending_seal after insert on app.audit_pending
    deferrable initially deferred for each row execute function app.seal_audit();
end
$$;
create or replace trigger audit_events_refuse_change before update or delete on audit_events
  for each row execute function app.refuse_audit_change();
create or replace trigger audit_events_refuse_truncate before truncate on audit_events
  for each statement execute function app.refuse_audit_change();
create or replace trigger audit_heads_refuse_delete before delete on audit_heads
  for each row execute function app.refuse_audit_change();
create or replace trigger audit_heads_refuse_truncate before truncate on audit_heads
  for each statement execute function app.refuse_audit_change();

-- What names a person (an address, a telephone, a member's name) stands in its table and goes when the
-- person is erased; the chain, which cannot forget, holds only that it changed.
select app.audit_table(
  'public.organizations', 'organization',
  '{name,slug,domain,city,postal_code,country,org_number,org_number_unverified,vat_number,vat_number_unverified,status,trial_ends_at,settings,logo_sha256,deleted_at,erased_at}',
  p_ignored => '{created_at}',
  p_verbs => '{erased_at:erased,status:status_changed,deleted_at=null:restored,deleted_at:deleted,settings:settings_changed,logo_sha256:logo_changed}',
  p_owner => 'id'
);
select app.audit_table(
  'public.users', 'member', '{organization_id,auth_id,role,status,erased_at}',
  p_ignored => '{created_at,last_login_at}',
  p_verbs => '{insert:added,delete:removed,erased_at:erased,role:role_changed,status:status_changed}'
);
select app.audit_table(
  'public.invitations', 'invitation', '{organization_id,invited_by,role,expires_at,accepted_at,revoked_at}',
  p_ignored => '{created_at,language,sent_count}', p_verbs => '{accepted_at:accepted,revoked_at:revoked}'
);

revoke execute on function
  app.audit_actor(), app.audit_digest(text[]), app.without_secrets(jsonb), app.shortened(jsonb),
  app.with_short_values(jsonb), app.lock_audit_head(uuid), app.record_event(uuid, text, text, text, jsonb, jsonb),
  app.audit_columns(regclass, text[]), app.audit_row_code(regclass, text[], text),
  app.audit_change_code(regclass, text[], text[]), app.audit_verb_code(text[], text, text),
  app.audit_function_code(regclass, text, text, text[], text[], text[], text),
  app.audit_table(regclass, text, text[], text[], text[], text), app.seal_audit(), app.refuse_audit_change()
from public;
grant execute on function app.record_event(uuid, text, text, text, jsonb, jsonb) to service_role;

revoke all on audit_events, audit_heads, app.audit_pending
  from public, anon, authenticated, service_role, tenant;
revoke all on sequence audit_events_id_seq, app.audit_pending_position_seq
  from public, anon, authenticated, service_role, tenant;
grant select on audit_events, audit_heads to service_role;
grant select on audit_events to authenticated;

drop policy if exists "The platform reads the audit" on audit_events;
create policy "The platform reads the audit" on audit_events for select to service_role using (true);
drop policy if exists "Admins see what was done in their organization" on audit_events;
create policy "Admins see what was done in their organization" on audit_events
  for select to authenticated
  using (organization_id = any (array(select app.my_organizations('admin'))) or (select app.is_operator()));
drop policy if exists "The platform reads the heads" on audit_heads;
create policy "The platform reads the heads" on audit_heads for select to service_role using (true);
