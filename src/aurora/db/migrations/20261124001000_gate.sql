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

-- Every change that a cached decision stands on is noted in the transaction that makes it.

create or replace function app.note_gate_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_old constant jsonb := to_jsonb(old);
  v_new constant jsonb := to_jsonb(new);
begin
  if tg_level = 'STATEMENT' then
    insert into public.gate_changes default values;
  else
    -- A key that gets another hash is two keys to the gate. Other tables have no such column.
    insert into public.gate_changes (organization_id, key_hash)
    select distinct (coalesce(v_new, v_old) ->> tg_argv[0])::uuid, changed.of_row ->> 'key_hash'
    from unnest(array[v_old, v_new]) as changed (of_row)
    where changed.of_row is not null;
  end if;
  -- Only to hurry the readers: they look at the table anyway, several times a second.
  notify aurora_gate;
  return null;
end
$$;
comment on function app.note_gate_change() is
  'Trigger: notes what every process of the gate must forget; its argument is the column that says whose row it is. By the definer: whoever changes a key, the gate hears of it.';

create or replace trigger api_keys_note_new after insert or delete on api_keys
  for each row execute function app.note_gate_change('organization_id');
-- last_used_at, names, and metadata are left out: no decision stands on them.
create or replace trigger api_keys_note_change
  after update of organization_id, key_hash, key, kind, environment, scopes, rate_limit_tier, rate_limit_per_hour,
    burst_per_second, status, not_before, expires_at, revoked_at, allowed_origins, ip_whitelist
  on api_keys for each row execute function app.note_gate_change('organization_id');
create or replace trigger api_keys_note_truncate after truncate on api_keys
  for each statement execute function app.note_gate_change();
create or replace trigger organizations_note_change after update of status, deleted_at or delete on organizations
  for each row execute function app.note_gate_change('id');
create or replace trigger subscriptions_note_new after insert or delete on subscriptions
  for each row execute function app.note_gate_change('organization_id');
-- A bill moves every subscription on once a month, which decides nothing at the gate.
create or replace trigger subscriptions_note_change after update of
    organization_id, plan_id, status, included_impressions, quota_mode, features, billing_anchor, time_zone
  on subscriptions for each row when (
    (old.organization_id, old.plan_id, old.status, old.included_impressions, old.quota_mode, old.features,
      old.billing_anchor, old.time_zone)
    is distinct from
    (new.organization_id, new.plan_id, new.status, new.included_impressions, new.quota_mode, new.features,
      new.billing_anchor, new.time_zone)
  ) execute function app.note_gate_change('organization_id');
create or replace trigger subscriptions_note_truncate after truncate on subscriptions
  for each statement execute function app.note_gate_change();

create or replace function app.key_at_the_gate(p_key_hash text)
returns table (
  id uuid, organization_id uuid, organization_status text, plan_id text, kind text, environment text, scopes jsonb,
  status text, not_before timestamptz, expires_at timestamptz, allowed_origins jsonb, ip_whitelist jsonb,
  rate_limit_tier text, rate_limit_per_hour integer, burst_per_second integer
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- In a function, because its plan is kept: to plan three tables takes as long as all the rest.
  return query
    select k.id, k.organization_id, o.status, s.plan_id, k.kind, k.environment, k.scopes, k.status, k.not_before,
      k.expires_at, k.allowed_origins, k.ip_whitelist, k.rate_limit_tier, k.rate_limit_per_hour, k.burst_per_second
    from public.api_keys k
    join public.organizations o on o.id = k.organization_id
    left join public.subscriptions s
      on s.organization_id = k.organization_id and s.status in ('trialing', 'active', 'past_due')
    where k.key_hash = p_key_hash and o.deleted_at is null;
end
$$;
comment on function app.key_at_the_gate(text) is
  'What the gate decides on: the key, its organization, and what that has bought; no row where there is no such key.';

create or replace function app.fold_gate_changes(p_keep interval) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_folded integer;
begin
  -- A row is counted old from when it was first seen here, and not from when it was written: its
  -- transaction may have been open for hours before anybody could read it.
  delete from public.gate_changes where seen_at < app.now() - p_keep;
  get diagnostics v_folded = row_count;
  update public.gate_changes set seen_at = app.now() where seen_at is null;
  return v_folded;
end
$$;
comment on function app.fold_gate_changes(interval) is
  'Deletes changes that every process has had so long to read; returns how many.';

create or replace function app.tell_of_exposed_key(p_key_hash text, p_origin text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_key record;
begin
  select k.id, k.organization_id, k.key_prefix, k.name into v_key
  from public.api_keys k where k.key_hash = p_key_hash and k.status = 'active';
  if not found then
    return 0;
  end if;
  return app.notify_members(
    v_key.organization_id,
    'security',
    'A secret API key stands in a web page',
    format(
      'The key %s… (%s) was sent by a browser from %s and refused. Whoever opens that page can read it: '
      'rotate it, and use a publishable key there.',
      v_key.key_prefix, v_key.name, p_origin
    ),
    'critical',
    format('exposed_key:%s:%s', v_key.id, to_char(app.now() at time zone 'UTC', 'YYYY-MM-DD')),
    '/keys', 'View keys', 'admin'
  );
end
$$;
comment on function app.tell_of_exposed_key(text, text) is
  'Tells the admins once a day that a secret key came out of a browser; returns how many were told.';

revoke execute on function app.note_gate_change(), app.key_at_the_gate(text), app.fold_gate_changes(interval),
  app.tell_of_exposed_key(text, text) from public;
grant execute on function app.key_at_the_gate(text), app.fold_gate_changes(interval),
  app.tell_of_exposed_key(text, text) to service_role;

revoke all on gate_changes from public, anon, authenticated, service_role, tenant;
grant select, update (seen_at), delete on gate_changes to service_role;
drop policy if exists "The platform reads and folds the gate's changes" on gate_changes;
create policy "The platform reads and folds the gate's changes" on gate_changes
  to service_role using (true) with check (true);
