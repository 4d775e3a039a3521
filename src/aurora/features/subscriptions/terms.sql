-- Terms from each moment on, the periods they are paid for, and what a change of them gives back and asks for.

create or replace function app.terms_of(p_subscription public.subscriptions, p_starts_at timestamptz)
returns public.subscription_terms
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
begin
  -- By name: both tables call the same thing the same.
  v_terms := jsonb_populate_record(
    null::public.subscription_terms, to_jsonb(p_subscription) - '{id,created_at}'::text[]
  );
  v_terms.subscription_id := p_subscription.id;
  v_terms.starts_at := p_starts_at;
  v_terms.created_at := app.now();
  v_terms.is_paused := p_subscription.status = 'paused';
  v_terms.is_adjusted := false;
  return v_terms;
end
$$;
comment on function app.terms_of(public.subscriptions, timestamptz) is 'A subscription''s terms as a row of subscription_terms.';

create or replace function app.terms_at(p_subscription_id uuid, p_at timestamptz)
returns public.subscription_terms
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
begin
  select t.* into v_terms from public.subscription_terms t
  where t.subscription_id = p_subscription_id and t.starts_at <= p_at
  order by t.starts_at desc, t.id desc limit 1;
  return v_terms;
end
$$;
comment on function app.terms_at(uuid, timestamptz) is 'The terms in force at a moment; null before the first.';

create or replace function app.insert_terms(p_terms public.subscription_terms) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into public.subscription_terms (
    organization_id, subscription_id, starts_at, created_at, billing_anchor, time_zone, is_paused, is_adjusted, plan_id,
    plan_version, plan_name, price_monthly, price_yearly, currency, billing_period, included_impressions,
    overage_rate, overage_model, price_model, quota_mode, features
  ) values (
    p_terms.organization_id, p_terms.subscription_id, p_terms.starts_at, p_terms.created_at, p_terms.billing_anchor,
    p_terms.time_zone, p_terms.is_paused, p_terms.is_adjusted, p_terms.plan_id, p_terms.plan_version,
    p_terms.plan_name, p_terms.price_monthly, p_terms.price_yearly, p_terms.currency, p_terms.billing_period,
    p_terms.included_impressions, p_terms.overage_rate, p_terms.overage_model, p_terms.price_model,
    p_terms.quota_mode, p_terms.features
  )
$$;
comment on function app.insert_terms(public.subscription_terms) is 'Adds terms to a subscription from their moment on.';

create or replace function app.same_terms(p_one jsonb, p_other jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select from unnest(
      '{plan_id,plan_version,plan_name,price_monthly,price_yearly,currency,billing_period,included_impressions,overage_rate,overage_model,price_model,quota_mode,features,billing_anchor,time_zone}'::text[]
    ) f where p_one -> f is distinct from p_other -> f
  )
$$;
comment on function app.same_terms(jsonb, jsonb) is 'Whether two rows (subscriptions or subscription_terms) say the same terms.';

create or replace function app.insert_end(p_old public.subscriptions, p_begins timestamptz) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_made constant boolean := app.is_closing(p_old) or p_old.closed_at is not null;
  v_end public.subscription_terms;
begin
  -- What was never billed (a trial) sold nothing that had to end.
  if p_old.months_billed = 0 then
    return;
  end if;
  -- At its last bill, which asked for no fee; or, where that bill was not made, when the month of it is over.
  v_end := app.terms_of(p_old, least(p_begins, case when v_made
    then app.billing_moment(p_old.billing_anchor, p_old.months_billed - 1, p_old.time_zone) else p_old.next_billing_at end));
  v_end.is_paused := true;
  v_end.is_adjusted := not v_made;
  perform app.insert_terms(v_end);
end
$$;
comment on function app.insert_end(public.subscriptions, timestamptz) is
  'Keeps of an ended subscription that begins anew when nothing was sold any more, and (is_adjusted) that its last month is unbilled.';

create or replace function app.unbilled_month(p_subscription_id uuid, p_at timestamptz)
returns table (period_start timestamptz, period_end timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_end public.subscription_terms;
  v_index integer;
begin
  select t.* into v_end from public.subscription_terms t
  where t.subscription_id = p_subscription_id and t.starts_at <= p_at and t.billing_anchor <> (
    select a.billing_anchor from public.subscription_terms a
    where a.subscription_id = p_subscription_id and a.starts_at <= p_at order by a.starts_at desc, a.id desc limit 1
  )
  order by t.starts_at desc, t.id desc limit 1;
  if v_end.is_paused and v_end.is_adjusted then
    v_index := app.moment_index(v_end.billing_anchor, v_end.time_zone, v_end.starts_at - interval '1 microsecond');
    period_start := app.billing_moment(v_end.billing_anchor, v_index, v_end.time_zone);
    period_end := v_end.starts_at;
    return next;
  end if;
end
$$;
comment on function app.unbilled_month(uuid, timestamptz) is
  'The month that a subscription, begun anew at a moment, left unbilled when it ended; no row where there is none.';

create or replace function app.keep_terms() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_terms public.subscription_terms;
  -- The anchor's midnight, also where somebody wrote a later hour of that day.
  v_begins constant timestamptz :=
    least(new.current_period_start, app.billing_moment(new.billing_anchor, 0, new.time_zone));
begin
  if tg_op = 'INSERT' then
    perform app.insert_terms(app.terms_of(new, v_begins));
    return null;
  end if;
  v_terms := app.terms_at(new.id, greatest(app.now(), new.current_period_start));
  if v_terms.id is not null and app.same_terms(to_jsonb(v_terms), to_jsonb(new)) then
    return null;
  end if;
  if v_terms.id is null or v_terms.billing_anchor <> new.billing_anchor then
    -- It begins anew; what had been meant for later is gone with the old one.
    delete from public.subscription_terms t where t.subscription_id = new.id and t.starts_at >= v_begins;
    perform app.insert_end(old, v_begins);
    perform app.insert_terms(app.terms_of(new, v_begins));
  else
    -- Somebody corrects the row by hand: the terms that run say the same from their beginning.
    update public.subscription_terms t set
      plan_id = new.plan_id, plan_version = new.plan_version, plan_name = new.plan_name,
      price_monthly = new.price_monthly, price_yearly = new.price_yearly, currency = new.currency,
      billing_period = new.billing_period, included_impressions = new.included_impressions,
      overage_rate = new.overage_rate, overage_model = new.overage_model, price_model = new.price_model,
      quota_mode = new.quota_mode, features = new.features, time_zone = new.time_zone
    where t.id = v_terms.id;
  end if;
  return null;
end
$$;
comment on function app.keep_terms() is
  'Trigger: subscription_terms follow the subscription, whoever writes it: a new one, one begun anew, a correction.';
create or replace trigger subscriptions_keep_first_terms after insert on subscriptions
  for each row execute function app.keep_terms();
-- Every bill updates the row, and hardly ever one of these.
create or replace trigger subscriptions_keep_terms after update of
    plan_id, plan_version, plan_name, price_monthly, price_yearly, currency, billing_period, included_impressions,
    overage_rate, overage_model, price_model, quota_mode, features, billing_anchor, time_zone
  on subscriptions for each row when (
    (old.plan_id, old.plan_version, old.plan_name, old.price_monthly, old.price_yearly, old.currency,
      old.billing_period, old.included_impressions, old.overage_rate, old.overage_model, old.price_model,
      old.quota_mode, old.features, old.billing_anchor, old.time_zone)
    is distinct from
    (new.plan_id, new.plan_version, new.plan_name, new.price_monthly, new.price_yearly, new.currency,
      new.billing_period, new.included_impressions, new.overage_rate, new.overage_model, new.price_model,
      new.quota_mode, new.features, new.billing_anchor, new.time_zone)
  ) execute function app.keep_terms();

create or replace function app.terms_months(p_terms public.subscription_terms) returns integer
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case p_terms.billing_period when 'yearly' then 12 else 1 end;
end
$$;
comment on function app.terms_months(public.subscription_terms) is 'How many months a fee is paid for.';

create or replace function app.terms_fee(p_terms public.subscription_terms) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_terms.is_paused then 0
    when p_terms.billing_period = 'yearly' then p_terms.price_yearly else p_terms.price_monthly end;
end
$$;
comment on function app.terms_fee(public.subscription_terms) is 'The fee of one period under these terms, in major units.';

create or replace function app.moment_index(p_anchor date, p_time_zone text, p_at timestamptz) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_local constant date := (p_at at time zone p_time_zone)::date;
  v_months constant integer := (extract(year from v_local)::integer - extract(year from p_anchor)::integer) * 12
    + extract(month from v_local)::integer - extract(month from p_anchor)::integer;
begin
  return case when app.billing_moment(p_anchor, v_months, p_time_zone) > p_at then v_months - 1 else v_months end;
end
$$;
comment on function app.moment_index(date, text, timestamptz) is 'n of the last billing moment at or before a moment.';

create or replace function app.fee_period(p_terms public.subscription_terms, p_at timestamptz)
returns table (period_start timestamptz, period_end timestamptz, days integer)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_months constant integer := app.terms_months(p_terms);
  v_index integer := app.moment_index(p_terms.billing_anchor, p_terms.time_zone, p_at);
begin
  v_index := v_index - ((v_index % v_months) + v_months) % v_months;
  period_start := app.billing_moment(p_terms.billing_anchor, v_index, p_terms.time_zone);
  period_end := app.billing_moment(p_terms.billing_anchor, v_index + v_months, p_terms.time_zone);
  days := app.local_days(period_start, period_end, p_terms.time_zone);
  return next;
end
$$;
comment on function app.fee_period(public.subscription_terms, timestamptz) is
  'The whole period of a fee that holds a moment, and its days: always counted from the anchor.';

create or replace function app.local_days(p_from timestamptz, p_to timestamptz, p_time_zone text) returns integer
language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return (p_to at time zone p_time_zone)::date - (p_from at time zone p_time_zone)::date;
end
$$;
comment on function app.local_days(timestamptz, timestamptz, text) is
  'Calendar days between two moments in a zone: midnights, so a day of 23 or 25 hours is one.';

create or replace function app.prorate(p_price numeric, p_days integer, p_of_days integer, p_currency text)
returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  if p_of_days is null or p_of_days < 1 or p_days is null or p_days not between 0 and p_of_days
    or p_price is null or not (p_price >= 0 and p_price < 1e15) or app.currency_digits(p_currency) is null
  then
    perform app.refuse('proration_invalid', 'Proration takes a price of zero or more, 0 to all days of a period, and a known currency.');
  end if;
  return app.round_quotient(p_price * p_days, p_of_days, app.currency_digits(p_currency));
end
$$;
comment on function app.prorate(numeric, integer, integer, text) is
  'The price of some days of a period: price * days / days of the whole period, rounded once, halves up.';
