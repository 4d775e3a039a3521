-- Tries statements one by one as whoever calls, takes each back, and tells what became of it.
create schema attempts;
grant usage, create on schema attempts to anon, authenticated, tenant, service_role;
create function attempts.attempt(p_statements text[])
returns table (state text, affected bigint, message text)
language plpgsql as $$
declare
  v_statement text;
begin
  foreach v_statement in array p_statements loop
    state := null; affected := 0; message := null;
    begin
      execute v_statement;
      get diagnostics affected = row_count;
      raise exception using errcode = 'ZZ999';
    exception
      when sqlstate 'ZZ999' then null;
      when others then get stacked diagnostics state = returned_sqlstate, message = message_text;
    end;
    return next;
  end loop;
end
$$;
grant execute on function attempts.attempt(text[]) to public;
