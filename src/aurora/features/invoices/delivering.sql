-- When a month may be billed, and how what was issued reaches the customer.

create or replace function app.billing_grace() returns interval
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- Senders batch and retry: most of what a month still owes arrives within the hour. What does not, comes late.
  return interval '1 hour';
end
$$;
comment on function app.billing_grace() is 'How long after a month has ended its usage may still arrive before it is billed.';

create or replace function app.usage_is_folded(p_organization_id uuid, p_until timestamptz) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return not exists (
    select from public.usage_deltas d where d.organization_id = p_organization_id and d.first_hour < p_until
  );
end
$$;
comment on function app.usage_is_folded(uuid, timestamptz) is 'Whether all usage of an organization before a moment is folded.';

create or replace function app.enqueue_delivery(p_invoice_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The queue is a library's, installed after the schema: where SQL stands alone, nobody delivers.
  if to_regprocedure('pgqueuer.enqueue_job(text,bytea)') is not null then
    execute 'select pgqueuer.enqueue_job($1, $2)' using 'invoice_deliver', convert_to(p_invoice_id::text, 'UTF8');
  end if;
end
$$;
comment on function app.enqueue_delivery(uuid) is 'Enqueues the delivery of an invoice; the job exists exactly if the transaction commits.';

create or replace function app.deliver_invoice(p_invoice_id uuid) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_told integer;
begin
  select app.notify_members(
    i.organization_id, 'invoice_issued', 'Invoice ' || i.invoice_number,
    format('%s %s is due on %s.', i.currency, i.total, i.due_date), 'info', 'invoice:' || i.id,
    '/invoices/' || i.id, 'View invoice', 'admin'
  ) into v_told
  from public.invoices i where i.id = p_invoice_id and i.invoice_number is not null;
  if v_told > 0 then
    update public.invoices i set sent_at = app.now(), status = case i.status when 'issued' then 'sent' else i.status end
    where i.id = p_invoice_id and i.sent_at is null;
  end if;
  return coalesce(v_told, 0);
end
$$;
comment on function app.deliver_invoice(uuid) is
  'Tells an organization''s admins of an issued invoice, once, and marks it sent where somebody was told; returns how many were.';

create or replace function app.deliver_credit_notes(p_limit integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_note record;
  v_sent integer := 0;
begin
  for v_note in
    select c.id, c.organization_id, c.credit_note_number, c.currency, c.total, i.invoice_number
    from public.credit_notes c join public.invoices i on i.organization_id = c.organization_id and i.id = c.invoice_id
    where c.status = 'issued' order by c.issued_at limit p_limit for no key update of c skip locked
  loop
    perform app.notify_members(
      v_note.organization_id, 'credit_note_issued', 'Credit note ' || v_note.credit_note_number,
      format('%s %s of invoice %s are credited.', v_note.currency, v_note.total, v_note.invoice_number), 'info',
      'credit_note:' || v_note.id, '/credit-notes/' || v_note.id, 'View credit note', 'admin');
    update public.credit_notes c set status = 'sent', sent_at = app.now() where c.id = v_note.id;
    v_sent := v_sent + 1;
  end loop;
  return v_sent;
end
$$;
comment on function app.deliver_credit_notes(integer) is
  'Tells admins of issued credit notes, each once, and marks them sent; returns how many.';
