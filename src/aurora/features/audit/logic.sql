-- How an event is noted, and sealed at the commit.

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

create or replace function app.with_short_values(p_fields jsonb) returns jsonb
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select jsonb_object_agg(f.key, case when pg_column_size(f.value) > 8000 then app.shortened(f.value) else f.value end)
  from jsonb_each(p_fields) f
$$;
comment on function app.with_short_values(jsonb) is 'The fields, with every value that is too long for the audit shortened.';

create or replace function app.record_event(
  p_organization_id uuid, p_action text, p_subject_type text, p_subject_id text,
  p_before jsonb default null, p_after jsonb default null
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_before jsonb := p_before;
  v_after jsonb := p_after;
begin
  -- Nearly always there is nothing to find; where one of these words stands, it is looked at closely.
  if concat(p_before, p_after) ~* 'tro_|whsec_|password|secret|token|hash|credential' then
    v_before := app.without_secrets(p_before); v_after := app.without_secrets(p_after);
  end if;
  insert into app.audit_pending (
    organization_id, actor, database_role, request_id, action, subject_type, subject_id, before, after
  ) values (
    p_organization_id, left(app.audit_actor(), 200), coalesce(nullif(current_setting('role', true), 'none'), session_user),
    left(nullif(current_setting('app.request_id', true), ''), 200), p_action, p_subject_type, p_subject_id, v_before, v_after
  );
end
$$;
comment on function app.record_event(uuid, text, text, text, jsonb, jsonb) is
  'Notes an event that no row tells of, such as an export; it enters the chain when the transaction commits.';

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
  v_event app.audit_pending;
  v_of uuid;
  v_chain uuid;
  v_id bigint;
  v_sequence bigint;
  v_previous bytea;
  v_hash bytea;
begin
  -- The first row to come here takes all of its transaction along; the others find nothing left.
  for v_event in
    with taken as (delete from app.audit_pending p where p.transaction_id = pg_current_xact_id() returning p.*)
    select t.* from taken t order by t.organization_id, t.position
  loop
    -- Heads are the last rows a transaction locks, and always in this order: nobody waits in a circle.
    if v_chain is null or v_of is distinct from v_event.organization_id then
      if v_chain is not null then
        update public.audit_heads h set sequence = v_sequence, hash = v_previous where h.chain = v_chain;
      end if;
      v_of := v_event.organization_id;
      v_chain := coalesce(v_of, '00000000-0000-0000-0000-000000000000');
      select h.sequence, h.hash into v_sequence, v_previous from public.audit_heads h where h.chain = v_chain for update;
      if not found then
        select h.sequence, h.hash into strict v_sequence, v_previous from app.lock_audit_head(v_of) h;
      end if;
    end if;
    v_sequence := v_sequence + 1;
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
  if v_chain is not null then
    update public.audit_heads h set sequence = v_sequence, hash = v_previous where h.chain = v_chain;
  end if;
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
