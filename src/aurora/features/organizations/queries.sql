-- name: insert_organization -> Organization
-- A new customer on trial.
insert into organizations (
  name, slug, email, phone, domain, address, city, postal_code, country, org_number, vat_number, billing_email,
  invoice_reference, status, trial_ends_at, settings, metadata, org_number_unverified, vat_number_unverified
) values (
  :name, :slug, :email, :phone, :domain, :address, :city, :postal_code, :country, :org_number, :vat_number,
  :billing_email, :invoice_reference, 'trial', app.now() + make_interval(days => :trial_days::integer), :settings, :metadata,
  :org_number_unverified, :vat_number_unverified
)
returning id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at;

-- name: find_organization -> Organization
-- The organization with this id, unless it was deleted.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at
from organizations
where id = :organization_id::uuid and deleted_at is null;

-- name: find_organization_by_slug -> Organization
-- The organization with this slug, unless it was deleted.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at
from organizations
where slug = :slug and deleted_at is null;

-- name: list_organization_ids
-- Which of these ids are organizations, as one array.
select array(select id from organizations where id = any (:organization_ids::uuid[]) and deleted_at is null);

-- name: list_organizations_by_created_at -> Organization
-- A page of organizations, newest first, after the given place.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at
from organizations
where deleted_at is null
  and (:after_created_at::timestamptz is null
    or (created_at, id) < (:after_created_at::timestamptz, :after_id::uuid))
order by created_at desc, id desc
limit :limit;

-- name: update_organization_status
-- Moves an organization to another status.
update organizations set status = :status where id = :organization_id::uuid and deleted_at is null;

-- name: insert_user -> User
-- A person's membership in an organization.
insert into users (organization_id, email, name, role, status)
values (:organization_id, :email, :name, :role, :status)
returning id, created_at, updated_at, organization_id, email, name, avatar_url, role, status, last_login_at;

-- name: list_users_by_organization -> User
-- The people of an organization, oldest membership first.
select id, created_at, updated_at, organization_id, email, name, avatar_url, role, status, last_login_at
from users
where organization_id = :organization_id::uuid and erased_at is null
order by created_at, id
limit :limit;

-- name: update_organization -> Organization
-- Changes the named fields and leaves the others; of the settings too. (What only operators change is not here,
-- so that an admin may run it.)
update organizations as o
set (
  name, domain, email, phone, address, city, postal_code, country, org_number, org_number_unverified,
  vat_number, vat_number_unverified, billing_email, invoice_reference, settings
) = (
  select n.name, n.domain, n.email, n.phone, n.address, n.city, n.postal_code, n.country, n.org_number,
    n.org_number_unverified, n.vat_number, n.vat_number_unverified, n.billing_email, n.invoice_reference,
    jsonb_strip_nulls(o.settings || :settings::jsonb)
  from jsonb_populate_record(o, :changes::jsonb) as n
)
where o.id = :organization_id::uuid and o.deleted_at is null
returning id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at;

-- name: update_organization_slug
-- Gives an organization another slug.
update organizations set slug = :slug where id = :organization_id::uuid and deleted_at is null;

-- name: update_organization_deleted -> Organization
-- Deletes an organization softly, at the first time that was said.
update organizations set deleted_at = coalesce(deleted_at, app.now())
where id = :organization_id::uuid
returning id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at;

-- name: update_organization_restored -> Organization
-- Takes a soft deletion back.
update organizations set deleted_at = null
where id = :organization_id::uuid
returning id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings,
  org_number_unverified, vat_number_unverified, logo_sha256, deleted_at;

-- name: find_organization_transition
-- Who at least may move an organization from one status to another; nothing where nobody may.
select t.may from app.organization_transitions() t where t.from_status = :from_status and t.to_status = :to_status;

-- name: find_user -> User
-- One membership of an organization; an erased one is gone.
select id, created_at, updated_at, organization_id, email, name, avatar_url, role, status, last_login_at
from users
where organization_id = :organization_id::uuid and id = :user_id::uuid and erased_at is null;

-- name: find_user_by_auth_id -> User
-- The active membership of a person in an organization that was not deleted.
select u.id, u.created_at, u.updated_at, u.organization_id, u.email, u.name, u.avatar_url, u.role, u.status, u.last_login_at
from users u
  join organizations o on o.id = u.organization_id
where u.organization_id = :organization_id::uuid and u.auth_id = :auth_id::uuid and u.status = 'active'
  and o.deleted_at is null;

-- name: update_user -> User
-- Changes the named fields of a membership and leaves the others.
update users as u
set (name, role, status) = (
  select n.name, n.role, n.status from jsonb_populate_record(u, :changes::jsonb) as n
)
where u.organization_id = :organization_id::uuid and u.id = :user_id::uuid and u.erased_at is null
returning id, created_at, updated_at, organization_id, email, name, avatar_url, role, status, last_login_at;

-- name: count_active_members_by_email
-- How many active members of an organization have this address: none or one.
select count(*) from users
where organization_id = :organization_id::uuid and lower(email) = lower(:email) and status = 'active';

-- name: count_open_invitations
-- How many invitations of an organization wait for an answer.
select count(*) from invitations
where organization_id = :organization_id::uuid and accepted_at is null and revoked_at is null;

-- name: update_invitations_expired
-- Closes the invitations of an organization that nobody can accept any more.
update invitations set revoked_at = app.now()
where organization_id = :organization_id::uuid and accepted_at is null and revoked_at is null
  and expires_at <= app.now();

-- name: insert_invitation -> Invitation
-- An invitation, by the hash of its token.
insert into invitations (organization_id, invited_by, email, name, role, language, token_hash, expires_at)
values (
  :organization_id, :invited_by, :email, :name, :role, :language, :token_hash,
  app.now() + make_interval(days => :days::integer)
)
returning id, created_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count, accepted_at,
  revoked_at;

-- name: find_invitation -> Invitation
-- One invitation of an organization.
select id, created_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count, accepted_at,
  revoked_at
from invitations
where organization_id = :organization_id::uuid and id = :invitation_id::uuid;

-- name: list_invitations_by_organization -> Invitation
-- The invitations of an organization, newest first.
select id, created_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count, accepted_at,
  revoked_at
from invitations
where organization_id = :organization_id::uuid
order by created_at desc, id desc
limit :limit;

-- name: update_invitation_token -> Invitation
-- Gives an open invitation a new token and time; the old token is dead.
update invitations
set token_hash = :token_hash, expires_at = app.now() + make_interval(days => :days::integer), sent_count = sent_count + 1
where organization_id = :organization_id::uuid and id = :invitation_id::uuid
  and accepted_at is null and revoked_at is null
returning id, created_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count, accepted_at,
  revoked_at;

-- name: update_invitation_revoked -> Invitation
-- Takes an invitation back; one that was taken back keeps its first time.
update invitations set revoked_at = coalesce(revoked_at, app.now())
where organization_id = :organization_id::uuid and id = :invitation_id::uuid and accepted_at is null
returning id, created_at, organization_id, invited_by, email, name, role, language, expires_at, sent_count, accepted_at,
  revoked_at;

-- name: accept_invitation -> User
-- Makes the holder of the token a member.
select id, created_at, updated_at, organization_id, email, name, avatar_url, role, status, last_login_at from app.accept_invitation(:token_hash, :name);

-- name: set_organization_logo
-- Gives an organization a logo, or none; what nothing shows any more is removed. Returns the digest.
select app.set_organization_logo(:organization_id::uuid, :content::bytea, :width::integer, :height::integer);

-- name: find_organization_logo -> Logo
-- The logo of an organization as it is now.
select l.sha256, l.width, l.height, l.content
from organizations o join organization_logos l on l.organization_id = o.id and l.sha256 = o.logo_sha256
where o.id = :organization_id::uuid and o.deleted_at is null;
