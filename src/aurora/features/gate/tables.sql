-- The gate's change log: what every process must forget, read by each from where it last stood.

create table gate_changes (
  id bigint generated always as identity primary key,
  created_at timestamptz not null default app.now(),
  transaction_id xid8 not null default pg_current_xact_id(),

  organization_id uuid,
  key_hash text,

  seen_at timestamptz
);
create index gate_changes_transaction_id_idx on gate_changes (transaction_id);
create index gate_changes_seen_at_idx on gate_changes (seen_at);
alter table gate_changes enable row level security;
comment on table gate_changes is
  'What the gate must forget: one key, all of an organization, or everything. Only ever added to, and folded away.';
comment on column gate_changes.transaction_id is
  'Readers take what has become visible since their last snapshot, so no order of commits hides a row.';
comment on column gate_changes.key_hash is 'The one key that changed; null: all keys of the organization.';
comment on column gate_changes.organization_id is 'Whose keys changed; null with no key: everybody''s.';
comment on column gate_changes.seen_at is
  'When the worker first saw the row, which was after its commit; it is deleted a while after that.';
