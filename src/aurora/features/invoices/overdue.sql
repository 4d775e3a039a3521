-- After the due date: reminders, suspension, and back when it is paid.

insert into overdue_policies (valid_from, reminder_days, suspend_days)
values ('2000-01-01', '{7,21}', 45) on conflict do nothing;

create or replace function app.overdue_policy_on(p_day date) returns public.overdue_policies
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select p from public.overdue_policies p where p.valid_from <= p_day order by p.valid_from desc limit 1
$$;
comment on function app.overdue_policy_on(date) is 'The policy for invoices that were due on a day; null where there is none.';

create or replace function app.is_exempt(p_organization_id uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select from public.overdue_exemptions e
    where e.organization_id = p_organization_id
      and coalesce(e.until, 'infinity') >= (app.now() at time zone 'Europe/Oslo')::date);
end
$$;
comment on function app.is_exempt(uuid) is 'Whether an organization is neither reminded nor suspended today.';

create or replace function app.remind(p_invoice public.invoices) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy constant public.overdue_policies := app.overdue_policy_on(p_invoice.due_date);
  v_late constant integer := (app.now() at time zone 'Europe/Oslo')::date - p_invoice.due_date;
  v_due constant integer := (select count(*) from unnest(v_policy.reminder_days) d where d <= v_late);
  v_place integer;
begin
  select max(s.place) into v_place from public.overdue_steps s where s.invoice_id = p_invoice.id and s.kind = 'reminder';
  -- Of several that fell due while nobody looked, one is sent: the last.
  if v_due <= coalesce(v_place, 0) then
    return 0;
  end if;
  insert into public.overdue_steps (organization_id, invoice_id, kind, place, days_late, amount_due)
  values (p_invoice.organization_id, p_invoice.id, 'reminder', v_due, v_late, p_invoice.amount_due);
  update public.subscriptions s set status = 'past_due'
  where s.organization_id = p_invoice.organization_id and s.status = 'active';
  perform app.notify_members(
    p_invoice.organization_id, 'invoice_overdue', format('Invoice %s is overdue', p_invoice.invoice_number),
    format('%s %s was due on %s.', p_invoice.currency, p_invoice.amount_due, p_invoice.due_date)
      || case when v_policy.suspend_days is null then '' else format(
        ' The organization is suspended if it is not paid by %s.', p_invoice.due_date + v_policy.suspend_days) end,
    'warning', format('overdue:%s:%s', p_invoice.id, v_due), '/invoices/' || p_invoice.id, 'View invoice', 'admin');
  return 1;
end
$$;
comment on function app.remind(public.invoices) is 'Sends the reminder of a locked, overdue invoice that has come due; returns 1, or 0 where none has.';

create or replace function app.is_to_be_suspended(p_invoice public.invoices) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_policy constant public.overdue_policies := app.overdue_policy_on(p_invoice.due_date);
  v_today constant date := (app.now() at time zone 'Europe/Oslo')::date;
  v_last constant integer := (select max(d) from unnest(v_policy.reminder_days) d);
begin
  -- A reminder that came late gives as many days as one in time.
  return coalesce(v_today >= p_invoice.due_date + v_policy.suspend_days, false) and exists (
    select from public.overdue_steps s
    where s.invoice_id = p_invoice.id and s.kind = 'reminder' and s.place = cardinality(v_policy.reminder_days)
      and (s.taken_at at time zone 'Europe/Oslo')::date + v_policy.suspend_days - v_last <= v_today);
end
$$;
comment on function app.is_to_be_suspended(public.invoices) is
  'Whether an overdue invoice is late enough, and its last reminder long enough ago, for a suspension.';

create or replace function app.suspend_for(p_invoice public.invoices) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_place integer;
begin
  -- Who is suspended for another reason, or has ended, stays what it is.
  update public.organizations o set status = 'suspended'
  where o.id = p_invoice.organization_id and o.status in ('active', 'trial');
  if not found then
    return 0;
  end if;
  select coalesce(max(s.place), 0) + 1 into v_place from public.overdue_steps s
  where s.invoice_id = p_invoice.id and s.kind = 'suspension';
  insert into public.overdue_steps (organization_id, invoice_id, kind, place, days_late, amount_due)
  values (p_invoice.organization_id, p_invoice.id, 'suspension', v_place,
    (app.now() at time zone 'Europe/Oslo')::date - p_invoice.due_date, p_invoice.amount_due);
  perform app.notify_members(
    p_invoice.organization_id, 'organization_suspended', 'The organization is suspended',
    format('Invoice %s was due on %s: %s %s. Keys work again when it is paid.',
      p_invoice.invoice_number, p_invoice.due_date, p_invoice.currency, p_invoice.amount_due),
    'critical', format('suspended:%s:%s', p_invoice.id, v_place), '/invoices/' || p_invoice.id, 'View invoice', 'admin');
  return 1;
end
$$;
comment on function app.suspend_for(public.invoices) is 'Suspends the organization that owes an invoice, and tells its admins; returns 1, or 0 where it was not active.';

create or replace function app.reactivate(p_organization_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_step public.overdue_steps;
begin
  -- Who holds the rows now may wait for ours: then the worker comes back to it.
  perform from public.organizations o where o.id = p_organization_id for no key update skip locked;
  if not found then
    return 0;
  end if;
  if not exists (
    select from public.invoices i where i.organization_id = p_organization_id and i.status = 'overdue'
  ) then
    update public.subscriptions s set status = 'active' where s.id = (
      select l.id from public.subscriptions l
      where l.organization_id = p_organization_id and l.status = 'past_due' for update skip locked);
  end if;
  if not app.is_exempt(p_organization_id) and exists (
    select from public.invoices i
    where i.organization_id = p_organization_id and i.status = 'overdue' and app.is_to_be_suspended(i)
  ) then
    return 0;
  end if;
  update public.overdue_steps s set ended_at = app.now()
  where s.organization_id = p_organization_id and s.kind = 'suspension' and s.ended_at is null returning * into v_step;
  if not found then
    return 0;
  end if;
  -- What rests for another reason goes on resting.
  update public.organizations o set status = 'active'
  where o.id = p_organization_id and o.status = 'suspended' and not exists (
    select from public.subscriptions s where s.organization_id = o.id and s.status = 'paused');
  perform app.notify_members(
    p_organization_id, 'organization_reactivated', 'The organization is active again', 'Its keys work again.', 'info',
    format('reactivated:%s:%s', v_step.invoice_id, v_step.place), null, null, 'admin');
  return 1;
end
$$;
comment on function app.reactivate(uuid) is
  'Ends the suspension of an organization that owes nothing late enough for one any more, or is exempt; returns 1, or 0.';

create or replace function app.chase_overdue(p_limit integer default 1000)
returns table (reminded integer, suspended integer, reactivated integer)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_id uuid;
begin
  reminded := 0; suspended := 0; reactivated := 0;
  -- Whoever asks need not wait for the hour that marks what is late.
  perform app.mark_overdue(p_limit);
  for v_invoice in
    select i.* from public.invoices i cross join lateral app.overdue_policy_on(i.due_date) p
    where i.status = 'overdue' and not app.is_exempt(i.organization_id) and (
      (select count(*) from unnest(p.reminder_days) d
        where d <= (app.now() at time zone 'Europe/Oslo')::date - i.due_date)
      > coalesce((select max(s.place) from public.overdue_steps s where s.invoice_id = i.id and s.kind = 'reminder'), 0)
      or (app.is_to_be_suspended(i) and exists (
        select from public.organizations o where o.id = i.organization_id and o.status in ('active', 'trial'))))
    order by i.due_date, i.id limit p_limit for no key update of i skip locked
  loop
    reminded := reminded + app.remind(v_invoice);
    if app.is_to_be_suspended(v_invoice) then
      suspended := suspended + app.suspend_for(v_invoice);
    end if;
  end loop;
  for v_id in
    select s.organization_id from public.overdue_steps s where s.kind = 'suspension' and s.ended_at is null
    union
    select s.organization_id from public.subscriptions s where s.status = 'past_due'
    limit p_limit
  loop
    reactivated := reactivated + app.reactivate(v_id);
  end loop;
  return next;
end
$$;
comment on function app.chase_overdue(integer) is
  'Takes the steps that overdue invoices have come to, each once, and ends suspensions whose reason is gone; returns how many.';

create or replace function app.exempt_organization(p_organization_id uuid, p_until date, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if p_reason is null then
    delete from public.overdue_exemptions e where e.organization_id = p_organization_id;
    return;
  end if;
  insert into public.overdue_exemptions (organization_id, until, reason) values (p_organization_id, p_until, p_reason)
  on conflict (organization_id) do update set until = excluded.until, reason = excluded.reason, entered_at = app.now();
  perform app.reactivate(p_organization_id);
end
$$;
comment on function app.exempt_organization(uuid, date, text) is
  'Exempts an organization from reminders and suspension, also from one that is in force; without a reason that ends.';

create or replace function app.settle_overdue() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.reactivate(new.organization_id);
  return null;
end
$$;
comment on function app.settle_overdue() is 'Trigger: who pays what was overdue is active again in the same transaction.';
create or replace trigger invoices_settle_overdue after update of status on invoices
  for each row when (old.status = 'overdue' and new.status <> 'overdue') execute function app.settle_overdue();

create or replace function app.keep_suspended() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.overdue_steps s where s.organization_id = new.id and s.kind = 'suspension' and s.ended_at is null
  ) then
    perform app.refuse('organization_overdue', 'The organization is suspended for what it owes: enter the payment, or exempt it.');
  end if;
  return new;
end
$$;
comment on function app.keep_suspended() is 'Trigger: nothing but payment or an exemption ends a suspension for what is owed.';
create or replace trigger organizations_keep_suspended before update of status on organizations
  for each row when (old.status = 'suspended' and new.status = 'active') execute function app.keep_suspended();

-- An exemption is an operator's word, and a policy is the house's: both are told in the audit.
select app.audit_table('public.overdue_policies', 'overdue_policy', '{valid_from,reminder_days,suspend_days}',
  p_ignored => '{entered_at}', p_owner => '');
select app.audit_table('public.overdue_exemptions', 'overdue_exemption', '{organization_id,until,reason}',
  p_ignored => '{entered_at}');

revoke execute on function
  app.overdue_policy_on(date), app.is_exempt(uuid), app.remind(public.invoices), app.is_to_be_suspended(public.invoices),
  app.suspend_for(public.invoices), app.reactivate(uuid), app.chase_overdue(integer), app.exempt_organization(uuid, date, text),
  app.settle_overdue(), app.keep_suspended()
from public;
grant execute on function
  app.overdue_policy_on(date), app.is_exempt(uuid), app.remind(public.invoices), app.is_to_be_suspended(public.invoices),
  app.suspend_for(public.invoices), app.reactivate(uuid), app.chase_overdue(integer), app.exempt_organization(uuid, date, text),
  app.settle_overdue(), app.keep_suspended()
to service_role;

revoke all on overdue_policies, overdue_exemptions, overdue_steps from public, anon, authenticated, service_role, tenant;
grant select, insert, update on overdue_policies, overdue_steps to service_role;
grant select, insert, update, delete on overdue_exemptions to service_role;
drop policy if exists "The platform keeps the overdue policy" on overdue_policies;
create policy "The platform keeps the overdue policy" on overdue_policies to service_role using (true) with check (true);
drop policy if exists "The platform exempts organizations" on overdue_exemptions;
create policy "The platform exempts organizations" on overdue_exemptions to service_role using (true) with check (true);
drop policy if exists "The platform takes the steps" on overdue_steps;
create policy "The platform takes the steps" on overdue_steps to service_role using (true) with check (true);
