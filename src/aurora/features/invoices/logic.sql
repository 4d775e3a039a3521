-- VAT of a buyer, and the check digit of a KID.

create or replace function app.tax_for(p_country text, p_date date, p_vat_registered boolean)
returns table (category text, rate numeric, reason text)
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- mval section 5-1 (25 % since 2005); section 6-22: services to a recipient outside the VAT area are exempt.
  -- Who is not in the register may not charge it at all (section 15-11).
  select 'S', 25.00, null where p_vat_registered and p_country = 'NO'
  union all
  select 'G', 0.00, 'Fritatt for merverdiavgift, mval § 6-22 (export of services)'
  where p_vat_registered and p_country <> 'NO'
  union all
  select 'O', 0.00, 'Selger er ikke registrert i Merverdiavgiftsregisteret' where not p_vat_registered
$$;
comment on function app.tax_for(text, date, boolean) is
  'VAT category (UNCL5305), rate in percent, and reason for a buyer''s country and a seller''s registration.';

create or replace function app.mod10(p_digits text) returns text
language plpgsql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  v_sum integer := 0;
  v_digit integer;
begin
  for i in 1..length(p_digits) loop
    v_digit := substr(reverse(p_digits), i, 1)::integer * case when i % 2 = 1 then 2 else 1 end;
    v_sum := v_sum + v_digit / 10 + v_digit % 10;
  end loop;
  return ((10 - v_sum % 10) % 10)::text;
end
$$;
comment on function app.mod10(text) is 'The MOD10 (Luhn) check digit: of a KID, Brukerhåndbok OCR giro.';
