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
