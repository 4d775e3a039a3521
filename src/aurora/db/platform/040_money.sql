-- Money: how many digits a currency has, and the only places where SQL rounds an amount.

create or replace function app.currency_digits(p_currency text) returns integer
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- The exponents of ISO 4217 for the currencies we sell in; the same table as aurora.core.money.
  return case
    when p_currency in (
      'NOK', 'SEK', 'DKK', 'EUR', 'GBP', 'USD', 'CHF', 'PLN', 'CZK', 'HUF', 'RON', 'BGN', 'TRY', 'UAH', 'CAD', 'AUD',
      'NZD', 'SGD', 'HKD', 'CNY', 'TWD', 'THB', 'INR', 'ZAR', 'ILS', 'AED', 'MXN', 'BRL'
    ) then 2
    when p_currency in ('ISK', 'JPY', 'KRW', 'VND', 'CLP') then 0
    when p_currency in ('KWD', 'BHD', 'JOD', 'OMR', 'TND') then 3
  end;
end
$$;
comment on function app.currency_digits(text) is
  'Digits after the point of a currency (ISO 4217); null for a currency that Aurora does not sell in.';

create or replace function app.round_money(p_amount numeric, p_currency text) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- round(numeric) takes halves away from zero: a credit note is exactly minus its invoice.
  return round(p_amount, app.currency_digits(p_currency));
end
$$;
comment on function app.round_money(numeric, text) is
  'An amount in the digits of its currency, halves away from zero; null for an unknown currency.';

create or replace function app.round_quotient(p_numerator numeric, p_denominator numeric, p_digits integer) returns numeric
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  -- In whole numbers, because a quotient cut off before it is rounded can fall on the wrong side of a half.
  return round(
    sign(p_numerator) * div(2 * abs(p_numerator) * (10 ^ p_digits)::numeric + p_denominator, 2 * p_denominator)
      / (10 ^ p_digits)::numeric,
    p_digits
  );
end
$$;
comment on function app.round_quotient(numeric, numeric, integer) is
  'Numerator / denominator (above zero) to so many digits, halves away from zero, exact for any denominator.';

revoke execute on function app.currency_digits(text), app.round_money(numeric, text),
  app.round_quotient(numeric, numeric, integer) from public;
grant execute on function app.currency_digits(text), app.round_money(numeric, text),
  app.round_quotient(numeric, numeric, integer) to authenticated, service_role, tenant;
