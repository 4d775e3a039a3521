-- What is recorded of a change, how it is sealed at the commit, and who may read it.

create or replace function app.audit_actor() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  -- Inside a security definer current_user is the definer; the setting still says who was assumed.
  v_role constant text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
  v_subject text := nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
  v_name constant text := nullif(current_setting('app.actor', true), '');
begin
  -- Anyone may set app.actor. People who reach SQL themselves are who their token says, nothing else.
  if v_role in ('authenticated', 'anon') then
    return case when v_subject is null then v_role else 'user:' || v_subject end;
  end if;
  return coalesce(v_name, 'database:' || v_role || coalesce(':' || v_subject, ''));
end
$$;
comment on function app.audit_actor() is
  'Who acts: app.actor where the application said so, the person of the token, or the database role.';

create or replace function app.audit_digest(p_fields text[]) returns bytea
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_field text;
  v_text text := '';
begin
  -- Each field with its length in bytes before it, a null as a dash: no two lists of fields give one text.
  foreach v_field in array p_fields loop
    v_text := v_text || coalesce(octet_length(v_field) || ':' || v_field, '-') || ',';
  end loop;
  return sha256(convert_to(left(v_text, -1), 'UTF8'));
end
$$;
comment on function app.audit_digest(text[]) is 'SHA-256 over fields as netstrings; aurora.features.audit.chain computes the same.';

create or replace function app.without_secrets(p_fields jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  -- A key that somebody pasted into a name, and members of settings that are named like secrets.
  v_key constant text := '(tro_(live|test)|whsec)_[0-9A-Za-z+/=]{20,}';
  v_member constant text := '("[^"]*(password|secret|token|hash|credential)[^"]*": )"([^"\\]|\\.)*"';
  v_text text := p_fields::text;
begin
  if v_text !~ v_key and v_text !~* v_member then
    return p_fields;
  end if;
  v_text := regexp_replace(v_text, v_key, '(withheld)', 'g');
  return regexp_replace(v_text, v_member, '\1"(withheld)"', 'gi')::jsonb;
end
$$;
comment on function app.without_secrets(jsonb) is 'The fields with every key, and every member named like a secret, taken out.';

create or replace function app.shortened(p_value jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- A limit, so that a row of the audit stays small whatever is put into a text or a document.
  return to_jsonb(format('(%s bytes, sha256 %s)', octet_length(p_value::text),
    encode(sha256(convert_to(p_value::text, 'UTF8')), 'hex')));
end
$$;
comment on function app.shortened(jsonb) is 'What stands in the audit for a value too long for it: its length and digest.';

create or replace function app.changed_fields(
  p_old jsonb, p_new jsonb, p_recorded text[], out before jsonb, out after jsonb
)
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  if p_old is not null and p_new is not null then
    select jsonb_object_agg(n.key, case when n.key <> all (p_recorded) then '"(withheld)"'
        when pg_column_size(o.value) > 8000 then app.shortened(o.value) else o.value end),
      jsonb_object_agg(n.key, case when n.key <> all (p_recorded) then '"(withheld)"'
        when pg_column_size(n.value) > 8000 then app.shortened(n.value) else n.value end)
    into before, after
    from jsonb_each(p_new) n cross join lateral (select p_old -> n.key as value) o
    where n.value is distinct from o.value;
    return;
  end if;
  -- A row that came or went: what is recorded of it, and only that.
  select jsonb_object_agg(f.key, case when pg_column_size(f.value) > 8000 then app.shortened(f.value) else f.value end)
  into after from jsonb_each(coalesce(p_new, p_old)) f
  where f.key = any (p_recorded) and f.value <> 'null';
  if p_new is null then
    before := after; after := null;
  end if;
end
$$;
comment on function app.changed_fields(jsonb, jsonb, text[]) is
  'What a change took from a row and what it gave it, field by field; values of fields not listed are withheld.';

create or replace function app.record_event(
  p_organization_id uuid, p_action text, p_subject_type text, p_subject_id text,
  p_before jsonb default null, p_after jsonb default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Looked through together: nearly always there is nothing to find.
  v_clean constant jsonb := app.without_secrets(jsonb_build_array(p_before, p_after));
begin
  insert into app.audit_pending (
    organization_id, actor, database_role, request_id, action, subject_type, subject_id, before, after
  ) values (
    p_organization_id, left(app.audit_actor(), 200), coalesce(nullif(current_setting('role', true), 'none'), session_user),
    left(nullif(current_setting('app.request_id', true), ''), 200), p_action, p_subject_type, p_subject_id,
    nullif(v_clean -> 0, 'null'), nullif(v_clean -> 1, 'null')
  );
end
$$;
comment on function app.record_event(uuid, text, text, text, jsonb, jsonb) is
  'Notes an event that no row tells of, such as an export; it enters the chain when the transaction commits.';

create or replace function app.record_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_subject constant text := tg_argv[0];
  v_owner constant text := tg_argv[1];
  v_recorded constant text[] := tg_argv[2]::text[];
  v_ignored constant text[] := tg_argv[3]::text[];
  v_verb text := case tg_op when 'INSERT' then 'created' when 'UPDATE' then 'updated' else 'deleted' end;
  v_old jsonb;
  v_new jsonb;
  v_rule text;
  v_column text;
  v_value text;
  v_before jsonb;
  v_after jsonb;
begin
  if tg_op <> 'INSERT' then v_old := to_jsonb(old) - v_ignored; end if;
  if tg_op <> 'DELETE' then v_new := to_jsonb(new) - v_ignored; end if;
  if v_old = v_new then
    return null;
  end if;
  foreach v_rule in array tg_argv[4]::text[] loop
    v_column := split_part(split_part(v_rule, ':', 1), '=', 1);
    v_value := nullif(split_part(split_part(v_rule, ':', 1), '=', 2), '');
    if (v_column = lower(tg_op) and (v_value is null or v_new ->> v_value is not null)) or (
      tg_op = 'UPDATE' and v_old -> v_column is distinct from v_new -> v_column
      and (v_value is null or v_value = coalesce(v_new ->> v_column, 'null'))
    ) then
      v_verb := split_part(v_rule, ':', 2);
      exit;
    end if;
  end loop;
  select c.before, c.after into v_before, v_after from app.changed_fields(v_old, v_new, v_recorded) c;
  perform app.record_event(
    (coalesce(v_new, v_old) ->> v_owner)::uuid, v_subject || '.' || v_verb, v_subject,
    coalesce(v_new, v_old) ->> 'id', v_before, v_after
  );
  -- A row that moves to another organization is told in the chain that it leaves as well.
  if tg_op = 'UPDATE' and v_old -> v_owner is distinct from v_new -> v_owner then
    perform app.record_event(
      (v_old ->> v_owner)::uuid, v_subject || '.moved', v_subject, v_old ->> 'id', v_before, v_after
    );
  end if;
  return null;
end
$$;
comment on function app.record_change() is
  'Trigger: notes what an insert, update, or delete changed; see app.audit_table for its arguments.';

create or replace function app.audit_table(
  p_table regclass, p_subject text, p_recorded text[], p_ignored text[] default '{}', p_verbs text[] default '{}',
  p_owner text default 'organization_id'
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_columns constant text[] := array(
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped
  );
  v_secret text;
begin
  -- The second lock on the door: the list says what may be shown, and no list may show these.
  select c into v_secret from unnest(p_recorded) c
  where c = 'key' or c ~ '(password|secret|token|hash|credential)';
  if found then
    perform app.refuse('audit_column_secret', format('Column %s of %s is a secret; the audit must not record it.', v_secret, p_table));
  end if;
  if not (p_recorded || p_ignored) <@ v_columns then
    perform app.refuse('audit_column_unknown', format('%s does not have all the columns that are to be audited.', p_table));
  end if;
  execute format(
    'create or replace trigger audit_change after insert or update or delete on %s
     for each row execute function app.record_change(%L, %L, %L, %L, %L)',
    p_table, p_subject, p_owner, p_recorded, p_ignored || '{updated_at}'::text[], p_verbs
  );
end
$$;
comment on function app.audit_table(regclass, text, text[], text[], text[], text) is
  'Audits a table: of p_recorded the values are kept, of p_ignored nothing, of every other column only that it changed. p_verbs: ''status=revoked:revoked'', ''insert=number:issued'' for a row that begins with a number; the first that fits.';

create or replace function app.lock_audit_head(p_organization_id uuid, out sequence bigint, out hash bytea)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_chain constant uuid := coalesce(p_organization_id, '00000000-0000-0000-0000-000000000000');
begin
  for v_try in 1..2 loop
    select h.sequence, h.hash into sequence, hash from public.audit_heads h where h.chain = v_chain for update;
    exit when found;
    insert into public.audit_heads (organization_id, sequence, hash)
    values (p_organization_id, 0, decode(repeat('00', 32), 'hex')) on conflict (chain) do nothing;
  end loop;
end
$$;
comment on function app.lock_audit_head(uuid) is 'How long a chain is and its last hash, locked until the transaction ends; begins the chain where there is none.';

create or replace function app.seal_audit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_transaction constant xid8 := pg_current_xact_id();
  v_event app.audit_pending;
  v_of uuid;
  v_sealed bigint := 0;
  v_id bigint;
  v_sequence bigint;
  v_previous bytea;
  v_hash bytea;
begin
  -- The first row to come here takes all of its transaction along; the others find themselves gone.
  if not exists (
    select from app.audit_pending p where p.transaction_id = v_transaction and p.position = new.position
  ) then
    return null;
  end if;
  for v_event in
    with taken as (delete from app.audit_pending p where p.transaction_id = v_transaction returning p.*)
    select t.* from taken t order by t.organization_id, t.position
  loop
    -- Heads are the last rows a transaction locks, and always in this order: nobody waits in a circle.
    if v_sealed = 0 or v_of is distinct from v_event.organization_id then
      if v_sealed > 0 then
        update public.audit_heads h set sequence = v_sequence, hash = v_previous
        where h.chain = coalesce(v_of, '00000000-0000-0000-0000-000000000000');
      end if;
      v_of := v_event.organization_id;
      select h.sequence, h.hash into strict v_sequence, v_previous from app.lock_audit_head(v_of) h;
    end if;
    v_sealed := v_sealed + 1; v_sequence := v_sequence + 1;
    v_id := nextval('public.audit_events_id_seq');
    v_hash := app.audit_digest(array[
      'aurora-audit-1', v_id::text, v_of::text, v_sequence::text,
      to_char(v_event.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      v_event.actor, v_event.database_role, v_event.request_id, v_event.action, v_event.subject_type,
      v_event.subject_id, v_event.before::text, v_event.after::text, encode(v_previous, 'hex')
    ]);
    insert into public.audit_events values (
      v_id, v_of, v_sequence, v_event.occurred_at, v_event.actor, v_event.database_role,
      v_event.request_id, v_event.action, v_event.subject_type, v_event.subject_id, v_event.before, v_event.after,
      v_previous, v_hash
    );
    v_previous := v_hash;
  end loop;
  update public.audit_heads h set sequence = v_sequence, hash = v_previous
  where h.chain = coalesce(v_of, '00000000-0000-0000-0000-000000000000');
  return null;
end
$$;
comment on function app.seal_audit() is
  'Trigger, deferred to the commit: gives the transaction''s events their places in the chains, hashed.';

create or replace function app.refuse_audit_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.refuse('audit_immutable', 'The audit is only ever added to.');
  return null;
end
$$;
comment on function app.refuse_audit_change() is 'Trigger: nobody changes, deletes, or empties what was recorded.';
