-- name: insert_organization -> Organization
-- A new customer on trial.
insert into organizations (
  name, slug, email, phone, domain, address, city, postal_code, country, org_number, vat_number, billing_email,
  invoice_reference, status, trial_ends_at, settings, metadata
) values (
  :name, :slug, :email, :phone, :domain, :address, :city, :postal_code, :country, :org_number, :vat_number,
  :billing_email, :invoice_reference, 'trial', app.now() + make_interval(days => :trial_days::integer), :settings, :metadata
)
returning id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings;

-- name: find_organization -> Organization
-- The organization with this id, unless it was deleted.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings
from organizations
where id = :organization_id::uuid and deleted_at is null;

-- name: find_organization_by_slug -> Organization
-- The organization with this slug, unless it was deleted.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings
from organizations
where slug = :slug and deleted_at is null;

-- name: list_organization_ids
-- Which of these ids are organizations, as one array.
select array(select id from organizations where id = any (:organization_ids::uuid[]) and deleted_at is null);

-- name: list_organizations_by_created_at -> Organization
-- A page of organizations, newest first, after the given place.
select id, created_at, updated_at, name, slug, domain, email, phone, address, city, postal_code, country,
  org_number, vat_number, billing_email, invoice_reference, status, trial_ends_at, settings
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
where organization_id = :organization_id::uuid
order by created_at, id
limit :limit;
