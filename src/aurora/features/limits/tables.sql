-- Rate limits (data plane): what each key was granted in the last hour, one row a key, one lock a grant.

create table rate_limit_windows (
  organization_id uuid not null,
  api_key_id uuid not null,

  seen_at timestamptz not null,
  ahead interval not null default '0',

  first_bucket bigint not null,
  counts integer[] not null,
  first_slot bigint not null,
  slots integer[] not null,

  constraint rate_limit_windows_pkey primary key (organization_id, api_key_id),
  constraint rate_limit_windows_counts_check check (array_length(counts, 1) = 362),
  constraint rate_limit_windows_slots_check check (array_length(slots, 1) = 12)
) with (fillfactor = 65, autovacuum_vacuum_scale_factor = 0.05);
alter table rate_limit_windows enable row level security;
comment on table rate_limit_windows is
  'Requests granted to a key by ten seconds (counts) and tenth of a second (slots). Logged: a crash must not open a window.';
comment on column rate_limit_windows.seen_at is 'The key''s own time at its last grant; it never goes back.';
comment on column rate_limit_windows.ahead is
  'How far PostgreSQL''s clock runs ahead of the key''s time, where it was seen to jump.';
comment on column rate_limit_windows.first_bucket is 'Number of the ten seconds, counted from 1970, of the first of counts.';
