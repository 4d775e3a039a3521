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

revoke execute on function app.organization_transitions(), app.guard_organization() from public;
grant execute on function app.organization_transitions() to service_role;
