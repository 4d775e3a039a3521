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
