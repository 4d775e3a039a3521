-- How long usage is kept: months of raw rows, addresses, hourly sums. Sums by day stay.

create table app.usage_policy (
  is_only boolean not null default true,
  keep_months integer not null default 25,
  address_days integer not null default 30,
  hourly_days integer not null default 92,
  addresses_truncated_to date,
  constraint usage_policy_pkey primary key (is_only),
  constraint usage_policy_is_only_check check (is_only),
  constraint usage_policy_keep_months_check check (keep_months between 4 and 240),
  constraint usage_policy_address_days_check check (address_days between 1 and 3700),
  constraint usage_policy_hourly_days_check check (hourly_days between 40 and 3700)
);
alter table app.usage_policy enable row level security;
comment on table app.usage_policy is
  'How long usage is kept, one row: months of raw rows, days of whole addresses, days of hourly sums by dimension.';
comment on column app.usage_policy.keep_months is
  'At least 4: ids are remembered for 100 days, and a row may be taken back as long.';
comment on column app.usage_policy.addresses_truncated_to is 'Before this day no row holds a whole address; null: not known.';
insert into app.usage_policy default values;
