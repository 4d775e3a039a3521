-- How response times are kept: in fixed buckets, so that any hours and days add up, and percentiles of them.

create or replace function app.latency_bounds() returns integer[]
language sql immutable parallel safe
as $$
  -- The least value of each bucket in ms: whole numbers up to 10, then steps of a tenth. The middle that
  -- app.latency_value() answers is at most 4.77 % from any value inside.
  select '{
    0,1,2,3,4,5,6,7,8,9,10,12,14,16,18,20,23,26,29,32,36,40,45,50,56,62,69,76,84,93,103,114,126,139,153,169,
    186,205,226,249,274,302,333,367,404,445,490,540,595,655,721,794,874,962,1059,1165,1282,1411,1553,1709,
    1880,2069,2276,2504,2755,3031,3335,3669,4036,4440,4885,5374,5912,6504,7155,7871,8659,9525,10478,11526,
    12679,13947,15342,16877,18565,20422,22465,24712,27184,29903,32894,36184,39803,43784,48163,52980,58279,
    64107,70518,77570,85328,93861,103248,113573,124931,137425,151168,166285,182914,201206,221327,243460,
    267807,294588,324047,356452,392098,431308,474439,521883,574072,631480,694629,764092,840502,924553,
    1017009,1118710,1230582,1353641,1489006,1637907,1801698,1981868,2180055,2398061,2637868,2901655,3191821,
    3511004,3862105,4248316,4673148,5140463,5654510,6219962,6841959,7526155,8278771,9106649,10017314,
    11019046,12120951,13333047,14666352,16132988,17746287,19520916,21473008,23620309,25982340,28580575,
    31438633,34582497,38040747,41844822,46029305,50632236,55695460,61265007,67391508,74130659,81543725,
    89698098,98667908,108534699,119388169,131326986,144459685,158905654,174796220,192275843,211503428,
    232653771,255919149,281511064,309662171,340628389,374691228,412160351,453376387,498714026,548585429,
    603443972,663788370,730167208,803183929,883502322,971852555,1069037811,1175941593,1293535753,1422889329,
    1565178262,1721696089,1893865698,2083252268
  }'::integer[]
$$;
comment on function app.latency_bounds() is
  'The least response time in ms of each bucket; the index of the last that is not above a time is its bucket.';

create or replace function app.latency_bucket(p_response_time_ms integer) returns smallint
language sql immutable parallel safe
as $$ select width_bucket(p_response_time_ms, app.latency_bounds())::smallint $$;
comment on function app.latency_bucket(integer) is 'The bucket of a response time in ms, from 1.';

create or replace function app.latency_value(p_bucket integer) returns numeric
language sql immutable parallel safe
as $$
  -- 2lu / (l + u): as far from the least value l as from the greatest u, in proportion to each.
  select round(case when l + u = 0 then 0 else 2.0 * l * u / (l + u) end, 1)
  from (
    select (app.latency_bounds())[p_bucket]::numeric as l,
      coalesce((app.latency_bounds())[p_bucket + 1] - 1, 2147483647)::numeric as u
  ) bucket
$$;
comment on function app.latency_value(integer) is 'The response time in ms that stands for a bucket, at most 5 % off.';
