-- What is recorded of a row's change: each audited table has a trigger function of its own, written here.

create or replace function app.audit_columns(p_table regclass, p_ignored text[])
returns table (number integer, name text, is_json boolean, old_value text, new_value text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- json alone has no equality.
  select row_number() over (order by a.attnum)::integer, a.attname::text, a.atttypid in ('json'::regtype, 'jsonb'::regtype),
    format('old.%I%s', a.attname, case a.atttypid when 'json'::regtype then '::jsonb' end),
    format('new.%I%s', a.attname, case a.atttypid when 'json'::regtype then '::jsonb' end)
  from pg_catalog.pg_attribute a
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attname <> all (p_ignored)
$$;
comment on function app.audit_columns(regclass, text[]) is
  'The columns of an audited table beside the ignored ones, and how its trigger names their values.';

create or replace function app.audit_row_code(p_table regclass, p_recorded text[], p_row text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Nulls are left out; those within a document belong to it. One call takes a hundred arguments at most.
  with recorded as (
    select c.number, c.name, c.is_json, case p_row when 'old' then c.old_value else c.new_value end as value
    from app.audit_columns(p_table, '{}') c where c.name = any (p_recorded)
  ), parts as (
    select min(r.number) as place,
      format('jsonb_strip_nulls(jsonb_build_object(%s))', string_agg(format('%L, %s', r.name, r.value), ', ' order by r.number)) as code
    from recorded r where not r.is_json group by r.number / 40
    union all
    select r.number,
      format('case when nullif(%2$s, %3$L) is null then %4$L else jsonb_build_object(%1$L, %2$s) end', r.name, r.value, 'null', '{}')
    from recorded r where r.is_json
  )
  select coalesce(string_agg(p.code, ' || ' order by p.place), quote_literal('{}')) from parts p
$$;
comment on function app.audit_row_code(regclass, text[], text) is
  'The expression for what is recorded of a row that came (new) or went (old): the recorded columns that hold something.';

create or replace function app.audit_change_code(p_table regclass, p_recorded text[], p_ignored text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Eight at a time: most columns of most changes are the same, and every statement has its price.
  with groups as (
    select c.number / 8 as place, string_agg(c.old_value, ', ' order by c.number) as old_values,
      string_agg(c.new_value, ', ' order by c.number) as new_values,
      string_agg(format(
        'if %1$s is distinct from %2$s then v_before := v_before || jsonb_build_object(%3$L, %4$s);'
        ' v_after := v_after || jsonb_build_object(%3$L, %5$s); end if;', c.old_value, c.new_value, c.name,
        case when c.name = any (p_recorded) then c.old_value else quote_literal('(withheld)') end,
        case when c.name = any (p_recorded) then c.new_value else quote_literal('(withheld)') end
      ), e'\n      ' order by c.number) as statements
    from app.audit_columns(p_table, p_ignored) c group by 1
  )
  select string_agg(
    format(e'if (%s) is distinct from (%s) then\n      %s\n    end if;', g.old_values, g.new_values, g.statements),
    e'\n    ' order by g.place
  ) from groups g
$$;
comment on function app.audit_change_code(regclass, text[], text[]) is
  'The statements that note what an update took and gave: values of recorded columns; of all others but the ignored, that they changed.';

create or replace function app.audit_verb_code(p_verbs text[], p_operation text, p_default text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  with rules as (
    select v.n, split_part(v.rule, ':', 2) as verb, split_part(split_part(v.rule, ':', 1), '=', 1) as name,
      nullif(split_part(split_part(v.rule, ':', 1), '=', 2), '') as value
    from unnest(p_verbs) with ordinality v (rule, n)
  )
  select format('case %s else %L end', coalesce(string_agg(case
    when r.name = p_operation and r.value is null then format('when true then %L', r.verb)
    when r.name = p_operation then format('when new.%I is not null then %L', r.value, r.verb)
    when r.value is null then format('when old.%1$I is distinct from new.%1$I then %2$L', r.name, r.verb)
    else format('when old.%1$I is distinct from new.%1$I and coalesce(new.%1$I::text, %4$L) = %3$L then %2$L',
      r.name, r.verb, r.value, 'null')
    end, ' ' order by r.n), 'when false then null'), p_default)
  from rules r where r.name = p_operation or (p_operation = 'update' and r.name not in ('insert', 'delete'))
$$;
comment on function app.audit_verb_code(text[], text, text) is
  'The expression for what an insert, update, or delete is called in the audit: by the first rule that fits, or the default.';

create or replace function app.audit_function_code(
  p_table regclass, p_name text, p_subject text, p_recorded text[], p_ignored text[], p_verbs text[], p_owner text
) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- Written out column by column: to ask each row what columns it has takes longer than to compare them all.
  select format($code$
create or replace function app.%1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $body$
declare
  v_verb text;
  v_before jsonb;
  v_after jsonb;
begin
  if tg_op = 'INSERT' then
    v_after := %2$s;
    v_verb := %3$s;
  elsif tg_op = 'UPDATE' then
    v_before := '{}'; v_after := '{}';
    %4$s
    if v_after = '{}' then
      return null;
    end if;
    v_verb := %5$s;
  else
    v_before := %6$s;
    v_verb := %7$s;
  end if;
  if pg_column_size(v_before) > 8000 or pg_column_size(v_after) > 8000 then
    v_before := app.with_short_values(v_before); v_after := app.with_short_values(v_after);
  end if;
  if tg_op <> 'DELETE' then
    perform app.record_event(%8$s, %10$s || '.' || v_verb, %10$s, new.id::text, v_before, v_after);
  else
    perform app.record_event(%9$s, %10$s || '.' || v_verb, %10$s, old.id::text, v_before, v_after);
  end if;
  -- A row that moves to another organization is told in the chain that it leaves as well.
  if tg_op = 'UPDATE' and %9$s is distinct from %8$s then
    perform app.record_event(%9$s, %10$s || '.moved', %10$s, old.id::text, v_before, v_after);
  end if;
  return null;
end
$body$
$code$, p_name,
    app.audit_row_code(p_table, p_recorded, 'new'), app.audit_verb_code(p_verbs, 'insert', 'created'),
    app.audit_change_code(p_table, p_recorded, p_ignored), app.audit_verb_code(p_verbs, 'update', 'updated'),
    app.audit_row_code(p_table, p_recorded, 'old'), app.audit_verb_code(p_verbs, 'delete', 'deleted'),
    coalesce('new.' || p_owner, 'null'), coalesce('old.' || p_owner, 'null'), p_subject)
$$;
comment on function app.audit_function_code(regclass, text, text, text[], text[], text[], text) is
  'The trigger function of an audited table; its name, subject, and owner''s column come quoted, as SQL.';

create or replace function app.audit_table(
  p_table regclass, p_subject text, p_recorded text[], p_ignored text[] default '{}', p_verbs text[] default '{}',
  p_owner text default 'organization_id'
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_ignored constant text[] := p_ignored || '{updated_at}'::text[];
  v_columns constant text[] := array(select c.name from app.audit_columns(p_table, '{}') c);
  v_function constant text := 'audit_' || (select c.relname from pg_catalog.pg_class c where c.oid = p_table);
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
  execute app.audit_function_code(
    p_table, quote_ident(v_function), quote_literal(p_subject), p_recorded, v_ignored, p_verbs, quote_ident(nullif(p_owner, '')));
  execute format('comment on function app.%I() is %L', v_function, format('Trigger: notes what changes in %s.', p_table));
  execute format('revoke execute on function app.%I() from public', v_function);
  execute format(
    'create or replace trigger audit_change after insert or update or delete on %s
     for each row execute function app.%I(%L, %L)', p_table, v_function, p_recorded, v_ignored
  );
end
$$;
comment on function app.audit_table(regclass, text, text[], text[], text[], text) is
  'Audits a table: of p_recorded the values are kept, of p_ignored nothing, of every other column only that it changed; call it again when a column is added. p_verbs: ''status=revoked:revoked'', ''insert=number:issued'' for a row that begins with a number; the first that fits.';
