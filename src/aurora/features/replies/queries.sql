-- name: delete_reply_expired
-- Forgets what was answered longer ago than it is kept, for one key.
delete from replies
where caller = :caller and key_digest = :key_digest::bytea
  and begun_at < app.now() - make_interval(secs => :keep_s::double precision);

-- name: insert_reply
-- Claims a key for a call: one row where nobody had it. Whoever claims at the same time waits here.
insert into replies (caller, key_digest, request_digest)
values (:caller, :key_digest::bytea, :request_digest::bytea)
on conflict (caller, key_digest) do nothing
returning true;

-- name: get_reply -> Reply
-- What is known of a call with this key.
select request_digest, sealed, extract(epoch from app.now() - begun_at)::double precision as age_s
from replies where caller = :caller and key_digest = :key_digest::bytea;

-- name: update_reply_sealed
-- Keeps what a call was answered.
update replies set sealed = :sealed::bytea
where caller = :caller and key_digest = :key_digest::bytea and request_digest = :request_digest::bytea;

-- name: delete_reply
-- Gives a key back that had no effect.
delete from replies
where caller = :caller and key_digest = :key_digest::bytea
  and request_digest = :request_digest::bytea and sealed is null;

-- name: delete_replies_expired
-- Forgets up to so many answers that are older than they are kept; returns how many.
with gone as (
  delete from replies where (caller, key_digest) in (
    select caller, key_digest from replies
    where begun_at < app.now() - make_interval(secs => :keep_s::double precision)
    order by begun_at limit :limit::integer
  ) returning 1
)
select count(*)::integer from gone;
