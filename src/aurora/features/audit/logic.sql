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
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Each field with its length in bytes before it, a null as a dash: no two lists of fields give one text.
  select sha256(convert_to(string_agg(coalesce(octet_length(f.field) || ':' || f.field, '-'), ',' order by f.place), 'UTF8'))
  from unnest(p_fields) with ordinality as f (field, place)
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

create or replace function app.changed_fields(p_row jsonb, p_other jsonb, p_recorded text[]) returns jsonb
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(
    f.key,
    case
      when f.key <> all (p_recorded) then '"(withheld)"'
      -- A limit, so that a row of the audit stays small whatever is put into a text or a document.
      when pg_column_size(f.value) > 8000
        then to_jsonb(format('(%s bytes, sha256 %s)', octet_length(f.value::text),
          encode(sha256(convert_to(f.value::text, 'UTF8')), 'hex')))
      else f.value
    end
  )
  from jsonb_each(p_row) f
  where case
    when p_other is null then f.key = any (p_recorded) and f.value <> 'null'
    else f.value is distinct from p_other -> f.key
  end
$$;
comment on function app.changed_fields(jsonb, jsonb, text[]) is
  'The fields of a row that the other version has otherwise; values of fields not listed are withheld.';

create or replace function app.record_event(
  p_organization_id uuid, p_action text, p_subject_type text, p_subject_id text,
  p_before jsonb default null, p_after jsonb default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into app.audit_pending (
    organization_id, actor, database_role, request_id, action, subject_type, subject_id, before, after
  ) values (
    p_organization_id, left(app.audit_actor(), 200), coalesce(nullif(current_setting('role', true), 'none'), session_user),
    left(nullif(current_setting('app.request_id', true), ''), 200), p_action, p_subject_type, p_subject_id,
    app.without_secrets(p_before), app.without_secrets(p_after)
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
    if v_column = lower(tg_op) or (
      tg_op = 'UPDATE' and v_old -> v_column is distinct from v_new -> v_column
      and (v_value is null or v_value = coalesce(v_new ->> v_column, 'null'))
    ) then
      v_verb := split_part(v_rule, ':', 2);
      exit;
    end if;
  end loop;
  v_before := app.changed_fields(v_old, v_new, v_recorded);
  v_after := app.changed_fields(v_new, v_old, v_recorded);
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
  'Audits a table: of p_recorded the values are kept, of p_ignored nothing, of every other column only that it changed. p_verbs: ''status=revoked:revoked'', the first that fits.';

create or replace function app.seal_audit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_transaction constant xid8 := pg_current_xact_id();
  v_organization_id uuid;
  v_event app.audit_pending;
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
  -- Heads are the last rows a transaction locks, and always in this order: nobody waits in a circle.
  for v_organization_id in
    select distinct p.organization_id from app.audit_pending p where p.transaction_id = v_transaction order by 1
  loop
    insert into public.audit_heads (organization_id, sequence, hash)
    values (v_organization_id, 0, decode(repeat('00', 32), 'hex')) on conflict (chain) do nothing;
    select h.sequence, h.hash into strict v_sequence, v_previous from public.audit_heads h
    where h.chain = coalesce(v_organization_id, '00000000-0000-0000-0000-000000000000') for update;
    for v_event in
      select p.* from app.audit_pending p
      where p.transaction_id = v_transaction and p.organization_id is not distinct from v_organization_id
      order by p.position
    loop
      v_id := nextval('public.audit_events_id_seq');
      v_sequence := v_sequence + 1;
      v_hash := app.audit_digest(array[
        'aurora-audit-1', v_id::text, v_organization_id::text, v_sequence::text,
        to_char(v_event.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        v_event.actor, v_event.database_role, v_event.request_id, v_event.action, v_event.subject_type,
        v_event.subject_id, v_event.before::text, v_event.after::text, encode(v_previous, 'hex')
      ]);
      insert into public.audit_events values (
        v_id, v_organization_id, v_sequence, v_event.occurred_at, v_event.actor, v_event.database_role,
        v_event.request_id, v_event.action, v_event.subject_type, v_event.subject_id, v_event.before, v_event.after,
        v_previous, v_hash
      );
      v_previous := v_hash;
    end loop;
    update public.audit_heads h set sequence = v_sequence, hash = v_previous
    where h.chain = coalesce(v_organization_id, '00000000-0000-0000-0000-000000000000');
  end loop;
  delete from app.audit_pending p where p.transaction_id = v_transaction;
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
