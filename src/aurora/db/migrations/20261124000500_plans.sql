-- The catalogue: what can be bought, each version of its terms, and coupons. A subscription copies what it
-- bought, so a change here never reaches it.

create table plans (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),

  name text not null,
  sort_order integer not null,
  is_active boolean not null default true,
  version integer not null default 1,

  price_monthly numeric(14, 2),
  price_yearly numeric(14, 2),
  currency text not null default 'NOK',

  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null default 'per_begun_1000',
  price_model jsonb,
  quota_mode text not null default 'soft',

  rate_limit_tier text not null default 'basic',
  rate_limit_per_hour integer not null default 10000,
  features jsonb not null default '{}',

  constraint plans_id_check check (id ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint plans_version_check check (version >= 1),
  constraint plans_price_monthly_check
    check (price_monthly >= 0 and price_monthly = app.round_money(price_monthly, currency)),
  constraint plans_price_yearly_check
    check (price_yearly >= 0 and price_yearly = app.round_money(price_yearly, currency)),
  constraint plans_currency_check check (coalesce(app.currency_digits(currency), 9) <= 2),
  constraint plans_included_impressions_check check (included_impressions >= 0),
  constraint plans_overage_rate_check check (overage_rate >= 0),
  constraint plans_overage_model_check check (overage_model in ('per_begun_1000', 'pro_rata', 'price_model')),
  constraint plans_price_model_check check (
    (overage_model = 'price_model') = (price_model is not null) and (price_model is null or overage_rate is null)
  ),
  constraint plans_quota_mode_check check (quota_mode in ('soft', 'hard')),
  constraint plans_rate_limit_per_hour_check check (rate_limit_per_hour >= 0),
  constraint plans_features_check check (jsonb_typeof(features) = 'object')
);
alter table plans enable row level security;
comment on table plans is 'The catalogue of plans with the terms sold now; null price means by agreement.';
comment on column plans.version is 'Counts up with every change of the terms; plan_versions keeps each of them.';
comment on column plans.overage_rate is 'Price of 1000 impressions beyond the included ones; null: none is billed.';
comment on column plans.price_model is
  'What usage beyond the included impressions costs where one rate does not say it: see app.rate().';

create table plan_versions (
  plan_id text not null references plans (id) on delete cascade,
  version integer not null,
  created_at timestamptz not null default app.now(),
  name text not null,
  price_monthly numeric(14, 2),
  price_yearly numeric(14, 2),
  currency text not null,
  included_impressions bigint,
  overage_rate numeric(14, 4),
  overage_model text not null,
  price_model jsonb,
  quota_mode text not null,
  rate_limit_tier text not null,
  rate_limit_per_hour integer not null,
  features jsonb not null,
  constraint plan_versions_pkey primary key (plan_id, version)
);
alter table plan_versions enable row level security;
comment on table plan_versions is 'Every terms a plan was ever sold on; written by a trigger on plans, never changed.';

create table coupons (
  id text primary key,
  created_at timestamptz not null default app.now(),
  updated_at timestamptz not null default app.now(),
  description text not null default '',
  percent numeric(6, 3),
  amount numeric(14, 2),
  currency text,
  periods integer,
  max_redemptions integer,
  redemptions integer not null default 0,
  redeem_until timestamptz,
  is_active boolean not null default true,
  constraint coupons_id_check check (id ~ '^[A-Z0-9][A-Z0-9_-]{0,39}$'),
  constraint coupons_value_check check (
    (percent is null) <> (amount is null) and (amount is null) = (currency is null)
  ),
  constraint coupons_percent_check check (percent > 0 and percent <= 100),
  constraint coupons_amount_check check (amount > 0 and amount = app.round_money(amount, currency)),
  constraint coupons_currency_check check (currency is null or coalesce(app.currency_digits(currency), 9) <= 2),
  constraint coupons_periods_check check (periods between 1 and 1200),
  constraint coupons_max_redemptions_check check (max_redemptions >= 1),
  constraint coupons_redemptions_check
    check (redemptions >= 0 and redemptions <= coalesce(max_redemptions, redemptions))
);
alter table coupons enable row level security;
comment on table coupons is 'Discounts that may be redeemed: percent of a bill, or an amount of one currency a bill.';
comment on column coupons.id is 'The code that is redeemed.';
comment on column coupons.periods is 'On how many bills a redemption works; null: on all of them.';

-- The rating engine: the one place that says what so many units cost under a price model.

create or replace function app.model_number(p_model jsonb, p_name text, p_default numeric default null)
returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_text constant text := p_model ->> p_name;
begin
  if v_text is null then
    return p_default;
  end if;
  -- A bounded, plain decimal: what 1e131071 would cost nobody wants to compute.
  if v_text !~ '^[0-9]{1,15}([.][0-9]{1,12})?$' then
    perform app.refuse(
      'price_model_invalid', format('%s of a price model is a number of zero or more, not %L.', p_name, left(v_text, 40))
    );
  end if;
  return v_text::numeric;
end
$$;
comment on function app.model_number(jsonb, text, numeric) is
  'A number of a price model, from JSON text or number; refuses what is negative, huge, or no number.';

create or replace function app.check_model_tiers(p_model jsonb) returns void
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_tiers constant jsonb := p_model -> 'tiers';
  v_tier jsonb;
  v_place integer := 0;
  v_reached numeric := 0;
  v_up_to numeric;
begin
  if jsonb_typeof(v_tiers) is distinct from 'array' or jsonb_array_length(v_tiers) not between 1 and 100 then
    perform app.refuse('price_model_invalid', 'This price model has 1 to 100 tiers.');
  end if;
  for v_tier in select value from jsonb_array_elements(v_tiers) loop
    v_place := v_place + 1;
    if jsonb_typeof(v_tier) <> 'object' then
      perform app.refuse('price_model_invalid', format('Tier %s is no object.', v_place));
    end if;
    if exists (
      select from jsonb_object_keys(v_tier) k
      where k not in ('up_to', 'unit_price', 'per', 'flat_fee', 'rate_pct', 'block', 'max_blocks', 'price')
    ) then
      perform app.refuse('price_model_invalid', format('Tier %s has a field that no tier has.', v_place));
    end if;
    v_up_to := app.model_number(v_tier, 'up_to');
    perform app.model_number(v_tier, f) from unnest(array['unit_price', 'flat_fee', 'rate_pct', 'price']) f;
    if app.model_number(v_tier, 'per', 1) = 0 then
      perform app.refuse('price_model_invalid', 'per is above zero.');
    end if;
    if p_model ->> 'model' = 'blocks' then
      if coalesce(app.model_number(v_tier, 'block'), 0) = 0
        or v_tier ->> 'price' is null or coalesce(app.model_number(v_tier, 'max_blocks'), 1) = 0
        or (v_tier ->> 'max_blocks' is null and v_place < jsonb_array_length(v_tiers))
      then
        perform app.refuse('price_model_invalid', format(
          'Tier %s needs a block, a price, and, unless it is the last, max_blocks above zero.', v_place));
      end if;
    elsif v_place < jsonb_array_length(v_tiers) and (v_up_to is null or v_up_to <= v_reached) then
      perform app.refuse('tiers_overlap', format('Tier %s has to reach further than the one before it.', v_place));
    elsif v_place = jsonb_array_length(v_tiers) and v_up_to is not null then
      perform app.refuse('tiers_end', 'The last tier has no up_to: every number of units has a price.');
    end if;
    v_reached := coalesce(v_up_to, v_reached);
  end loop;
end
$$;
comment on function app.check_model_tiers(jsonb) is
  'Refuses tiers that overlap, leave a gap, end, or hold what no tier holds.';

create or replace function app.check_price_model(p_model jsonb) returns boolean
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_model constant text := p_model ->> 'model';
  v_fields text[];
begin
  if jsonb_typeof(p_model) is distinct from 'object' then
    perform app.refuse('price_model_invalid', 'A price model is an object.');
  end if;
  v_fields := case
    when v_model = 'standard' then '{unit_price,per}'::text[]
    when v_model = 'package' then '{package_size,package_amount,round}'::text[]
    when v_model = 'percentage' then '{rate_pct,fixed_per_event,min_per_event,max_per_event}'::text[]
    when v_model in ('graduated', 'volume', 'graduated_percentage') then '{tiers}'::text[]
    when v_model = 'blocks' then '{tiers,mode}'::text[]
  end;
  if v_fields is null then
    perform app.refuse('price_model_invalid', format(
      'There is no price model %L; there are standard, package, graduated, volume, percentage, graduated_percentage, and blocks.',
      left(v_model, 40)));
  end if;
  if exists (
    select from jsonb_object_keys(p_model) k
    where k <> all (v_fields || '{model,free_units,minimum}'::text[])
  ) then
    perform app.refuse('price_model_invalid', format(
      'A %s model has the fields %s, free_units, and minimum.', v_model, array_to_string(v_fields, ', ')));
  end if;
  perform app.model_number(p_model, f) from unnest(array[
    'free_units', 'minimum', 'unit_price', 'package_amount', 'rate_pct', 'fixed_per_event', 'min_per_event',
    'max_per_event'
  ]) f;
  if (v_model = 'standard' and (p_model ->> 'unit_price' is null or app.model_number(p_model, 'per', 1) = 0))
    or (v_model = 'package' and (p_model ->> 'package_amount' is null
      or coalesce(app.model_number(p_model, 'package_size'), 0) = 0
      or coalesce(p_model ->> 'round', 'up') not in ('up', 'down')))
    or (v_model = 'percentage' and (p_model ->> 'rate_pct' is null
      or app.model_number(p_model, 'min_per_event') > app.model_number(p_model, 'max_per_event')))
    or (v_model = 'blocks' and coalesce(p_model ->> 'mode', 'all_tiers') not in ('all_tiers', 'top_tier'))
  then
    perform app.refuse('price_model_invalid', format('A field of the %s model is missing or makes no sense.', v_model));
  end if;
  if 'tiers' = any (v_fields) then
    perform app.check_model_tiers(p_model);
  end if;
  return true;
end
$$;
comment on function app.check_price_model(jsonb) is
  'True for a price model that app.rate() can apply; refuses any other with a sentence that says what is wrong.';

create or replace function app.usage_price_model(p_overage_rate numeric, p_overage_model text, p_price_model jsonb)
returns jsonb
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_price_model is not null then p_price_model
    when p_overage_rate is null then null
    when p_overage_model = 'pro_rata'
      then jsonb_build_object('model', 'standard', 'unit_price', p_overage_rate::text, 'per', '1000')
    else jsonb_build_object('model', 'package', 'package_amount', p_overage_rate::text, 'package_size', '1000')
  end
$$;
comment on function app.usage_price_model(numeric, text, jsonb) is
  'The price model of a plan''s or subscription''s usage: its own, or what rate and overage model mean; null: free.';

create or replace function app.rate_tiers(p_model jsonb, p_units numeric)
returns table (tier integer, kind text, quantity numeric, unit text, unit_price numeric, base_quantity numeric, amount numeric)
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_model constant text := p_model ->> 'model';
  v_tier jsonb;
  v_from numeric := 0;
  v_up_to numeric;
  v_in numeric;
begin
  tier := 0;
  for v_tier in select value from jsonb_array_elements(p_model -> 'tiers') loop
    tier := tier + 1;
    v_up_to := app.model_number(v_tier, 'up_to');
    -- Graduated: the units that lie in each tier. Volume: all of them in the tier that holds the last.
    v_in := case v_model
      when 'volume' then case when (p_units > v_from or tier = 1) and (v_up_to is null or p_units <= v_up_to)
        then p_units end
      else greatest(0, least(p_units, coalesce(v_up_to, p_units)) - v_from)
    end;
    if v_in > 0 or (v_in = 0 and tier = 1) then
      if v_in > 0 then
        kind := 'usage'; quantity := v_in;
        if v_model = 'graduated_percentage' then
          unit := 'amount'; unit_price := app.model_number(v_tier, 'rate_pct', 0); base_quantity := 100;
        else
          unit := 'unit'; unit_price := app.model_number(v_tier, 'unit_price', 0);
          base_quantity := app.model_number(v_tier, 'per', 1);
        end if;
        amount := quantity * unit_price * 1.00000000000000000000 / base_quantity;
        return next;
      end if;
      -- The first tier's flat fee is owed at zero units too; that of a later tier once it is entered.
      if app.model_number(v_tier, 'flat_fee', 0) > 0 then
        kind := 'flat_fee'; quantity := 1; unit := 'fee'; base_quantity := 1;
        unit_price := app.model_number(v_tier, 'flat_fee');
        amount := unit_price;
        return next;
      end if;
    end if;
    v_from := v_up_to;
    exit when v_from is null or (p_units <= v_from);
  end loop;
end
$$;
comment on function app.rate_tiers(jsonb, numeric) is
  'The lines of a graduated, volume, or graduated_percentage model; amounts are not rounded.';

create or replace function app.rate_blocks(p_model jsonb, p_units numeric)
returns table (tier integer, kind text, quantity numeric, unit text, unit_price numeric, base_quantity numeric, amount numeric)
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_top constant boolean := p_model ->> 'mode' = 'top_tier';
  v_tier jsonb;
  v_left numeric := p_units;
  v_block numeric;
  v_room numeric;
  v_in numeric;
begin
  tier := 0; kind := 'usage'; unit := 'block'; base_quantity := 1;
  for v_tier in select value from jsonb_array_elements(p_model -> 'tiers') loop
    exit when v_left <= 0;
    tier := tier + 1;
    v_block := app.model_number(v_tier, 'block');
    v_room := v_block * app.model_number(v_tier, 'max_blocks');
    v_in := least(v_left, coalesce(v_room, v_left));
    v_left := v_left - v_in;
    unit_price := app.model_number(v_tier, 'price');
    -- Top tier: all units at the block and price of the tier that the last unit falls in.
    quantity := ceil(case when v_top then p_units else v_in end / v_block);
    amount := quantity * unit_price;
    if not v_top or v_left <= 0 then
      return next;
    end if;
  end loop;
  if v_left > 0 then
    perform app.refuse('units_beyond_tiers', format('%s units lie beyond the last tier.', v_left));
  end if;
end
$$;
comment on function app.rate_blocks(jsonb, numeric) is
  'The lines of a blocks model: begun blocks, tier by tier, or all in the tier that is reached.';

create or replace function app.rate_plain(p_model jsonb, p_units numeric, p_amounts numeric[])
returns table (tier integer, kind text, quantity numeric, unit text, unit_price numeric, base_quantity numeric, amount numeric)
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_event numeric;
begin
  tier := 1; kind := 'usage'; unit := 'unit'; base_quantity := 1; quantity := p_units;
  if p_model ->> 'model' = 'package' then
    unit := 'package';
    base_quantity := app.model_number(p_model, 'package_size');
    quantity := case p_model ->> 'round' when 'down' then floor(p_units / base_quantity) else ceil(p_units / base_quantity) end;
    unit_price := app.model_number(p_model, 'package_amount');
    base_quantity := 1;
    amount := quantity * unit_price;
  elsif p_model ->> 'model' = 'standard' then
    unit_price := app.model_number(p_model, 'unit_price');
    base_quantity := app.model_number(p_model, 'per', 1);
    amount := quantity * unit_price * 1.00000000000000000000 / base_quantity;
  else
    unit := 'amount';
    unit_price := app.model_number(p_model, 'rate_pct');
    base_quantity := 100;
    foreach v_event in array coalesce(p_amounts, array[p_units]) loop
      tier := coalesce(tier, 0);
      quantity := v_event;
      amount := least(
        greatest(
          v_event * unit_price / 100 + case when v_event > 0 then app.model_number(p_model, 'fixed_per_event', 0) else 0 end,
          app.model_number(p_model, 'min_per_event', 0)
        ),
        coalesce(app.model_number(p_model, 'max_per_event'), 'infinity')
      );
      if v_event > 0 then
        return next;
      end if;
      tier := tier + 1;
    end loop;
    return;
  end if;
  if quantity > 0 then
    return next;
  end if;
end
$$;
comment on function app.rate_plain(jsonb, numeric, numeric[]) is
  'The lines of a standard, package, or percentage model; amounts are not rounded.';

create or replace function app.rate(p_model jsonb, p_units numeric, p_amounts numeric[] default null)
returns table (
  line_number integer, tier integer, kind text, quantity numeric, unit text, unit_price numeric,
  base_quantity numeric, amount numeric
)
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_units numeric;
  v_sum numeric := 0;
  v_line record;
begin
  perform app.check_price_model(p_model);
  if p_units is null or not (p_units >= 0 and p_units < 1e15) or (p_amounts is not null and p_model ->> 'model' <> 'percentage')
    or exists (select from unnest(p_amounts) a where a is null or not (a >= 0 and a < 1e15))
  then
    perform app.refuse('units_invalid', 'Units are a number from 0 to below 10^15; only percentage takes amounts of events.');
  end if;
  v_units := greatest(0, p_units - app.model_number(p_model, 'free_units', 0));
  line_number := 0;
  for v_line in
    select r.* from app.rate_tiers(p_model, v_units) r
    where p_model ->> 'model' in ('graduated', 'volume', 'graduated_percentage')
    union all
    select r.* from app.rate_blocks(p_model, v_units) r where p_model ->> 'model' = 'blocks'
    union all
    select r.* from app.rate_plain(p_model, v_units, p_amounts) r
    where p_model ->> 'model' in ('standard', 'package', 'percentage')
  loop
    line_number := line_number + 1;
    tier := v_line.tier; kind := v_line.kind; quantity := v_line.quantity; unit := v_line.unit;
    unit_price := v_line.unit_price; base_quantity := v_line.base_quantity; amount := v_line.amount;
    v_sum := v_sum + amount;
    return next;
  end loop;
  if v_sum < app.model_number(p_model, 'minimum', 0) then
    line_number := line_number + 1;
    tier := null; kind := 'minimum'; quantity := 1; unit := 'fee'; base_quantity := 1;
    unit_price := app.model_number(p_model, 'minimum') - v_sum;
    amount := unit_price;
    return next;
  end if;
end
$$;
comment on function app.rate(jsonb, numeric, numeric[]) is
  'What so many units cost under a price model: lines with exact amounts, which the bill rounds one by one.';

create or replace function app.spread(p_amount numeric, p_weights numeric[], p_digits integer default 2)
returns numeric[]
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Each share is the difference of two rounded running sums, so the shares add up to the amount exactly.
  with running as (
    select n, sum(w) over (order by n) as upto, sum(w) over () as total
    from unnest(p_weights) with ordinality as t (w, n)
  ), rounded as (
    select n, case when total = 0 then 0 else app.round_quotient(p_amount * upto, total, p_digits) end as upto
    from running
  )
  select coalesce(array_agg(upto - coalesce(before, 0) order by n), '{}')
  from (select n, upto, lag(upto) over (order by n) as before from rounded) shares
$$;
comment on function app.spread(numeric, numeric[], integer) is
  'An amount spread over weights of zero or more, to so many digits; the shares add up to it exactly.';

-- The five plans of the house, what keeps their versions, and who may read them.

create or replace function app.count_plan_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What a subscription freezes; a plan may be sorted otherwise or retired without a new version.
  v_terms constant text[] :=
    '{name,price_monthly,price_yearly,currency,included_impressions,overage_rate,overage_model,price_model,quota_mode,rate_limit_tier,rate_limit_per_hour,features}'::text[];
begin
  if new.price_model is not null then
    perform app.check_price_model(new.price_model);
  end if;
  if tg_op = 'INSERT' then
    new.version := 1;
  elsif new.id <> old.id then
    perform app.refuse('plan_id_fixed', 'A plan keeps its id: subscriptions and versions are known by it.');
  else
    new.version := old.version + (exists (
      select from unnest(v_terms) t where to_jsonb(new) -> t is distinct from to_jsonb(old) -> t
    ))::integer;
  end if;
  return new;
end
$$;
comment on function app.count_plan_version() is
  'Trigger: a change of a plan''s terms makes a new version, whoever makes it; its price model is checked.';

create or replace function app.keep_plan_version() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.plan_versions (
    plan_id, version, name, price_monthly, price_yearly, currency, included_impressions, overage_rate, overage_model,
    price_model, quota_mode, rate_limit_tier, rate_limit_per_hour, features
  ) values (
    new.id, new.version, new.name, new.price_monthly, new.price_yearly, new.currency, new.included_impressions,
    new.overage_rate, new.overage_model, new.price_model, new.quota_mode, new.rate_limit_tier,
    new.rate_limit_per_hour, new.features
  ) on conflict do nothing;
  return null;
end
$$;
comment on function app.keep_plan_version() is 'Trigger: plan_versions keeps the terms of each version.';

create or replace function app.refuse_version_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform app.refuse('plan_version_fixed', 'A version of a plan is never changed; a change of the plan makes a new one.');
  return null;
end
$$;
comment on function app.refuse_version_change() is 'Trigger: what somebody may have bought stays as it was.';

create or replace trigger plans_count_version before insert or update on plans
  for each row execute function app.count_plan_version();
create or replace trigger plans_keep_version after insert or update on plans
  for each row execute function app.keep_plan_version();
create or replace trigger plan_versions_refuse_change before update on plan_versions
  for each row execute function app.refuse_version_change();
create or replace trigger plans_touch_updated_at before update on plans
  for each row execute function app.touch_updated_at();
create or replace trigger coupons_touch_updated_at before update on coupons
  for each row execute function app.touch_updated_at();
select app.audit_table(
  'public.plans', 'plan',
  '{name,is_active,version,price_monthly,price_yearly,currency,included_impressions,overage_rate,overage_model,price_model,quota_mode,rate_limit_tier,rate_limit_per_hour,features}',
  p_ignored => '{created_at,sort_order}', p_owner => ''
);
select app.audit_table(
  'public.coupons', 'coupon',
  '{id,description,percent,amount,currency,periods,max_redemptions,redeem_until,is_active}',
  p_ignored => '{created_at,redemptions}', p_owner => ''
);

insert into plans (
  id, name, sort_order, price_monthly, price_yearly, included_impressions, overage_rate, quota_mode,
  rate_limit_tier, rate_limit_per_hour, features
) values
  ('demo', 'Demo Plan', 1, 0, 0, 1000, null, 'soft', 'demo', 100, '{"badge": true}'),
  ('basic', 'Basic Plan', 2, 3500, 35000, 50000, 50, 'soft', 'basic', 10000, '{}'),
  ('premium', 'Premium Plan', 3, 7000, 70000, 150000, 50, 'soft', 'premium', 50000,
    '{"remove_branding": true}'),
  ('premium_plus', 'Premium Plus Plan', 4, 14000, 140000, 500000, 50, 'soft', 'premium_plus', 200000,
    '{"remove_branding": true, "custom_domain": true}'),
  ('enterprise', 'Enterprise Plan', 5, null, null, null, 50, 'soft', 'premium_plus', 1000000,
    '{"remove_branding": true, "custom_domain": true, "priority_support": true}')
on conflict (id) do nothing;

revoke execute on function
  app.model_number(jsonb, text, numeric), app.check_model_tiers(jsonb), app.check_price_model(jsonb),
  app.usage_price_model(numeric, text, jsonb), app.rate_tiers(jsonb, numeric), app.rate_blocks(jsonb, numeric),
  app.rate_plain(jsonb, numeric, numeric[]), app.rate(jsonb, numeric, numeric[]),
  app.spread(numeric, numeric[], integer), app.count_plan_version(), app.keep_plan_version(),
  app.refuse_version_change()
from public;
grant execute on function
  app.model_number(jsonb, text, numeric), app.check_model_tiers(jsonb), app.check_price_model(jsonb),
  app.usage_price_model(numeric, text, jsonb), app.rate_tiers(jsonb, numeric), app.rate_blocks(jsonb, numeric),
  app.rate_plain(jsonb, numeric, numeric[]), app.rate(jsonb, numeric, numeric[]),
  app.spread(numeric, numeric[], integer)
to service_role;

revoke all on plans, plan_versions, coupons from public, anon, authenticated, service_role, tenant;
grant select, insert, update, delete on plans to service_role;
grant select, insert on plan_versions to service_role;
grant select, insert, update on coupons to service_role;
grant select on plans to authenticated, tenant;

drop policy if exists "The platform keeps the catalogue" on plans;
create policy "The platform keeps the catalogue" on plans to service_role using (true) with check (true);
drop policy if exists "Customers read what can be bought" on plans;
create policy "Customers read what can be bought" on plans
  for select to authenticated, tenant using (is_active);
drop policy if exists "Operators read the whole catalogue" on plans;
create policy "Operators read the whole catalogue" on plans
  for select to authenticated using ((select app.is_operator()));
drop policy if exists "The platform keeps every version" on plan_versions;
create policy "The platform keeps every version" on plan_versions to service_role using (true) with check (true);
drop policy if exists "The platform keeps the coupons" on coupons;
create policy "The platform keeps the coupons" on coupons to service_role using (true) with check (true);
