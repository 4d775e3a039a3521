-- What follows when an invoice is not paid: the dated policy, the steps that were taken, who is exempt.

create table overdue_policies (
  id uuid primary key default gen_random_uuid(),
  valid_from date not null,
  reminder_days integer[] not null,
  suspend_days integer,
  entered_at timestamptz not null default app.now(),
  constraint overdue_policies_valid_from_key unique (valid_from),
  constraint overdue_policies_reminder_days_check check (
    cardinality(reminder_days) between 1 and 10 and array_position(reminder_days, null) is null
    and 1 <= all (reminder_days) and 365 >= all (reminder_days)
  ),
  -- Nobody is suspended who was not reminded before.
  constraint overdue_policies_suspend_days_check check (suspend_days <= 730 and suspend_days > all (reminder_days))
);
alter table overdue_policies enable row level security;
comment on table overdue_policies is
  'Days after the due date at which admins are reminded and the organization is suspended; by the due date of the invoice.';
comment on column overdue_policies.suspend_days is 'Null: nobody is suspended for what is owed.';

create table overdue_exemptions (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references organizations (id) on delete restrict,
  until date,
  reason text not null,
  entered_at timestamptz not null default app.now(),
  constraint overdue_exemptions_organization_id_key unique (organization_id),
  constraint overdue_exemptions_reason_check check (reason ~ '[^[:space:]]' and length(reason) <= 200)
);
alter table overdue_exemptions enable row level security;
comment on table overdue_exemptions is 'Organizations that are neither reminded nor suspended, up to and including a day; null: until it is taken back.';

create table overdue_steps (
  organization_id uuid not null,
  invoice_id uuid not null,
  kind text not null,
  place integer not null,
  taken_at timestamptz not null default app.now(),
  days_late integer not null,
  amount_due numeric(14, 2) not null,
  ended_at timestamptz,
  constraint overdue_steps_pkey primary key (invoice_id, kind, place),
  constraint overdue_steps_invoice_fkey foreign key (organization_id, invoice_id)
    references invoices (organization_id, id) on delete restrict,
  constraint overdue_steps_kind_check check (kind in ('reminder', 'suspension')),
  constraint overdue_steps_place_check check (place >= 1),
  constraint overdue_steps_ended_check check (ended_at is null or kind = 'suspension')
);
create index overdue_steps_organization_idx on overdue_steps (organization_id, invoice_id);
create unique index overdue_steps_suspended_key on overdue_steps (organization_id) where kind = 'suspension' and ended_at is null;
alter table overdue_steps enable row level security;
comment on table overdue_steps is 'Reminders and suspensions for an invoice that was not paid, each taken once; a suspension ends when it is paid.';
