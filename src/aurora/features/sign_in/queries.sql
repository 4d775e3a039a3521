-- name: find_credentials -> Credentials
-- The person with this address, and the hash of the password.
select auth_id, email, password_hash from app.find_credentials(:email);

-- name: find_person_credentials -> Credentials
-- The same for a person who is known already.
select auth_id, email, password_hash from app.find_person_credentials(:auth_id::uuid);

-- name: set_password
-- Whether the new hash was written: not where the old one changed meanwhile.
select app.set_password(:auth_id::uuid, :password_hash, :expected);

-- name: must_keep_passwords
-- Refuses where Supabase signs people in.
select app.must_keep_passwords();

-- name: take_sign_in_attempt
-- Seconds to wait; 0 where the attempt may be made and was counted.
select app.take_sign_in_attempt(:kind, :bucket::integer, :limit::integer, :window::interval);

-- name: make_sign_in_link
-- The address that the link goes to; null for strangers.
select app.make_sign_in_link(:email, :purpose, :token_hash, :lifetime::interval);

-- name: use_sign_in_link
-- Whose link it was; null where it opens nothing.
select app.use_sign_in_link(:token_hash, :purpose);

-- name: note_sign_in
-- Writes down that a person came.
select app.note_sign_in(:auth_id::uuid, :address_is_proven::boolean);

-- name: insert_session -> Session
-- A new signed-in browser.
insert into sessions (auth_id, token_hash, method, user_agent_family, expires_at)
values (:auth_id::uuid, :token_hash, :method, :user_agent_family, app.now() + :lifetime::interval)
returning id, created_at, auth_id, method, user_agent_family, last_seen_at, expires_at;

-- name: use_session -> SessionUse
-- Whose living session this is.
select id, auth_id, email, is_operator
from app.use_session(:token_hash, :idle_timeout::interval, :touch_every::interval);

-- name: list_sessions_by_person -> Session
-- A person's living sessions, newest first.
select id, created_at, auth_id, method, user_agent_family, last_seen_at, expires_at
from sessions
where auth_id = :auth_id::uuid and revoked_at is null and expires_at > app.now()
  and last_seen_at > app.now() - :idle_timeout::interval
order by created_at desc, id desc
limit :limit;

-- name: update_session_revoked_at
-- Ends one session of a person.
update sessions set revoked_at = app.now()
where id = :session_id::uuid and auth_id = :auth_id::uuid and revoked_at is null;

-- name: update_sessions_revoked_at
-- Ends every session of a person but one, or all where that is null.
update sessions set revoked_at = app.now()
where auth_id = :auth_id::uuid and revoked_at is null and id is distinct from :kept::uuid;

-- name: update_surplus_sessions_revoked_at
-- Ends a person's oldest living sessions past the newest few.
update sessions set revoked_at = app.now()
where id in (
  select id from sessions
  where auth_id = :auth_id::uuid and revoked_at is null
  order by created_at desc, id desc
  offset :kept
);

-- name: list_memberships_by_person -> Membership
-- Where the signed-in person belongs; row level security shows only one's own.
select o.id as organization_id, o.name, o.slug, o.status, u.role
from users u
join organizations o on o.id = u.organization_id
where u.auth_id = :auth_id::uuid and u.status = 'active' and o.deleted_at is null
order by o.name, o.id
limit :limit;

-- name: find_is_operator
-- Whether the person on whose behalf this transaction runs is an operator.
select app.is_operator();

-- name: delete_old_sessions
-- Sessions that ended long enough ago.
delete from sessions where id in (
  select id from sessions
  where expires_at < app.now() - :kept::interval or revoked_at < app.now() - :kept::interval
  limit :limit
);

-- name: delete_old_links
-- Links that no longer open anything.
delete from sign_in_links where id in (
  select id from sign_in_links where expires_at < app.now() - :kept::interval limit :limit
);

-- name: delete_idle_limits
-- Buckets that are whole again.
delete from sign_in_limits where (kind, bucket) in (
  select kind, bucket from sign_in_limits where full_at < app.now() limit :limit
);

-- name: insert_service_token -> ServiceToken
-- A token of an operator's program.
insert into service_tokens (name, token_hash, token_prefix, scopes, expires_at)
values (:name, :token_hash, :token_prefix, :scopes, :expires_at)
returning id, created_at, name, token_prefix, scopes, expires_at, last_used_at, revoked_at;

-- name: use_service_token -> ServiceTokenUse
-- Which living token this is.
select id, name, scopes from app.use_service_token(:token_hash, :touch_every::interval);

-- name: list_service_tokens_by_created_at -> ServiceToken
-- Tokens, newest first.
select id, created_at, name, token_prefix, scopes, expires_at, last_used_at, revoked_at
from service_tokens
order by created_at desc, id desc
limit :limit;

-- name: update_service_token_revoked_at -> ServiceToken
-- Revokes a token; a second time changes nothing.
update service_tokens set revoked_at = coalesce(revoked_at, app.now())
where id = :token_id::uuid
returning id, created_at, name, token_prefix, scopes, expires_at, last_used_at, revoked_at;
