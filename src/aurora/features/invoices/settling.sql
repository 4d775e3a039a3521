-- What settles invoices: allocations of payments and credit notes, and the status that follows.

create or replace function app.settle_allocation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_paid numeric;
  v_paid_on date;
begin
  -- The checks of the three rows refuse an allocation that is more than any of them has.
  if new.payment_id is not null then
    update public.payments p set amount_allocated = p.amount_allocated + new.amount where p.id = new.payment_id;
  else
    update public.credit_notes c set amount_allocated = c.amount_allocated + new.amount where c.id = new.credit_note_id;
  end if;
  select coalesce(sum(a.amount), 0), max(p.received_on) into v_paid, v_paid_on
  from public.allocations a join public.payments p on p.id = a.payment_id
  where a.organization_id = new.organization_id and a.invoice_id = new.invoice_id;
  update public.invoices i set
    amount_settled = i.amount_settled + new.amount,
    status = case
      when i.amount_settled + new.amount < i.total then case
        when i.due_date < (app.now() at time zone 'Europe/Oslo')::date then 'overdue'
        when i.sent_at is not null then 'sent' else 'issued' end
      when v_paid > 0 then 'paid' else 'credited' end,
    paid_at = case when i.amount_settled + new.amount >= i.total and v_paid > 0 then v_paid_on::timestamp at time zone 'Europe/Oslo' end
  where i.id = new.invoice_id;
  return null;
end
$$;
comment on function app.settle_allocation() is 'Trigger: an invoice''s status follows what was set off against it.';

create or replace trigger allocations_settle after insert on allocations
  for each row execute function app.settle_allocation();

create or replace function app.allocate(
  p_invoice_id uuid, p_payment_id uuid default null, p_credit_note_id uuid default null, p_amount numeric default null
) returns numeric
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_invoice public.invoices;
  v_open numeric;
  v_currency text;
  v_seller text;
  v_amount numeric;
begin
  -- Always the invoice first: two that settle the same one wait here, and nobody waits in a circle.
  select * into v_invoice from public.invoices i where i.id = p_invoice_id for no key update;
  if not found or v_invoice.status in ('draft', 'void') then
    perform app.refuse('invoice_not_issued', 'Only an issued invoice can be settled.');
  end if;
  if p_payment_id is not null then
    select p.amount - p.amount_allocated, p.currency, p.legal_entity_id into v_open, v_currency, v_seller from public.payments p
    where p.id = p_payment_id and p.organization_id = v_invoice.organization_id and p.reversed_at is null for update;
  else
    select c.total - c.amount_allocated, c.currency, c.legal_entity_id into v_open, v_currency, v_seller from public.credit_notes c
    where c.id = p_credit_note_id and c.organization_id = v_invoice.organization_id and c.status <> 'draft' for update;
  end if;
  if (v_currency, v_seller) is distinct from (v_invoice.currency, v_invoice.legal_entity_id) then
    perform app.refuse('allocation_invalid', 'A payment or credit note settles invoices of its own customer, seller, and currency.');
  end if;
  v_amount := coalesce(p_amount, least(v_open, v_invoice.total - v_invoice.amount_settled));
  if v_amount < 0 or (v_amount = 0 and p_amount is not null)
    or v_amount > least(v_open, v_invoice.total - v_invoice.amount_settled)
  then
    perform app.refuse('allocation_invalid', format(
      'At most %s can be set off: %s is open on the invoice, %s on the other side.',
      least(v_open, v_invoice.total - v_invoice.amount_settled), v_invoice.total - v_invoice.amount_settled, v_open
    ));
  end if;
  if v_amount > 0 then
    insert into public.allocations (organization_id, invoice_id, payment_id, credit_note_id, amount)
    values (v_invoice.organization_id, p_invoice_id, p_payment_id, p_credit_note_id, v_amount);
  end if;
  return v_amount;
end
$$;
comment on function app.allocate(uuid, uuid, uuid, numeric) is
  'Sets a payment or credit note off against an invoice, as far as both are open or by an amount; returns how much.';

create or replace function app.apply_balance(p_organization_id uuid, p_invoice_id uuid) returns numeric
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_source record;
  v_applied numeric := 0;
  v_currency text;
  v_seller text;
begin
  select i.currency, i.legal_entity_id into v_currency, v_seller from public.invoices i where i.id = p_invoice_id;
  for v_source in
    select c.id as credit_note_id, null::uuid as payment_id, c.issued_at as at from public.credit_notes c
    where c.organization_id = p_organization_id and c.amount_allocated < c.total and c.status <> 'draft'
      and c.currency = v_currency and c.legal_entity_id = v_seller
    union all
    select null, p.id, p.created_at from public.payments p
    where p.organization_id = p_organization_id and p.amount_allocated < p.amount and p.reversed_at is null
      and p.currency = v_currency and p.legal_entity_id = v_seller
    order by 3, 1, 2
  loop
    v_applied := v_applied + app.allocate(p_invoice_id, v_source.payment_id, v_source.credit_note_id);
  end loop;
  return v_applied;
end
$$;
comment on function app.apply_balance(uuid, uuid) is
  'Sets off what a customer has to its credit against an invoice, oldest first; returns how much.';

create or replace function app.enter_payment(
  p_organization_id uuid, p_amount numeric, p_currency text, p_received_on date, p_reference text,
  p_method text default 'bank_transfer', p_invoice_id uuid default null
) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_invoice_id uuid;
  -- Whose account it came to: that of the seller who is paid, or of who would send the next invoice.
  v_seller constant text := coalesce(
    (select i.legal_entity_id from public.invoices i where i.id = p_invoice_id),
    (select i.legal_entity_id from public.invoices i
      where i.organization_id = p_organization_id and i.status in ('issued', 'sent', 'overdue') and i.currency = p_currency
      order by i.due_date, i.invoice_number limit 1),
    (select b.legal_entity_id from public.billing_profiles b where b.organization_id = p_organization_id), 'default');
begin
  if p_received_on > (app.now() at time zone 'Europe/Oslo')::date then
    perform app.refuse('payment_invalid', 'Money is entered once it has arrived: the day lies in the future.');
  end if;
  if coalesce(p_amount, 0) <= 0 or p_amount <> app.round_money(p_amount, p_currency) then
    perform app.refuse('payment_invalid', 'A payment is above zero, in the digits of a known currency.');
  end if;
  insert into public.payments (organization_id, legal_entity_id, amount, currency, received_on, reference, method)
  values (p_organization_id, v_seller, p_amount, p_currency, p_received_on, p_reference, p_method) returning id into v_id;
  if p_invoice_id is not null then
    perform app.allocate(p_invoice_id, v_id);
  end if;
  -- What is left pays the oldest invoices, as a bank would expect.
  for v_invoice_id in
    select i.id from public.invoices i
    where i.organization_id = p_organization_id and i.status in ('issued', 'sent', 'overdue') and i.currency = p_currency
      and i.legal_entity_id = v_seller
    order by i.due_date, i.invoice_number
  loop
    exit when (select p.amount_allocated = p.amount from public.payments p where p.id = v_id);
    perform app.allocate(v_invoice_id, v_id);
  end loop;
  return v_id;
end
$$;
comment on function app.enter_payment(uuid, numeric, text, date, text, text, uuid) is
  'Enters money that arrived, once for each reference, and pays the named invoice and then the oldest open ones.';

create or replace function app.reverse_payment(p_payment_id uuid, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- The invoices first, as everywhere.
  perform from public.invoices i where i.id in (
    select a.invoice_id from public.allocations a where a.payment_id = p_payment_id
  ) order by i.id for no key update;
  update public.payments p set reversed_at = app.now(), reversal_reason = p_reason
  where p.id = p_payment_id and p.reversed_at is null;
  if not found then
    perform app.refuse('payment_invalid', 'There is no such payment, or it was taken back already.');
  end if;
  insert into public.allocations (organization_id, invoice_id, payment_id, amount)
  select a.organization_id, a.invoice_id, a.payment_id, -sum(a.amount) from public.allocations a
  where a.payment_id = p_payment_id group by 1, 2, 3 having sum(a.amount) <> 0;
end
$$;
comment on function app.reverse_payment(uuid, text) is
  'Takes a payment back that was wrong or bounced; its invoices are open again.';

create or replace function app.mark_overdue(p_limit integer default 10000) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_marked integer;
begin
  update public.invoices i set status = 'overdue'
  where i.id in (
    select d.id from public.invoices d
    where d.status in ('issued', 'sent') and d.due_date < (app.now() at time zone 'Europe/Oslo')::date
    order by d.due_date limit p_limit for update skip locked
  );
  get diagnostics v_marked = row_count;
  return v_marked;
end
$$;
comment on function app.mark_overdue(integer) is 'Marks invoices whose due date has passed; returns how many.';
