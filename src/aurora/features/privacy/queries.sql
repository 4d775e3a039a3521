-- name: find_subject -> Subject
-- An organization, deleted or not, and whether it was erased.
select id, slug, erased_at from organizations where id = :organization_id::uuid;

-- name: find_subject_by_slug -> Subject
-- The organization with this slug, deleted or not.
select id, slug, erased_at from organizations where slug = :slug;

-- name: find_person -> Person
-- A person by any address.
select user_ids, auth_ids, emails from app.find_person(:email);

-- name: list_accounts
-- The sign-in accounts of a person, as one document.
select coalesce(jsonb_agg(found.account), '[]') from app.person_account(:auth_ids::uuid[]) as found (account);

-- name: list_tables -> TableColumns
-- Every table of the schema with what of it may be handed out: columns that are readable and no secrets.
select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns
from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
  and has_column_privilege(c.oid, a.attnum, 'select')
  and a.attname !~ '(^key$|hash|token|secret|password|^visitor$)'
group by c.relname
order by c.relname;

-- name: erase_person
-- Erases a person; says what was touched.
select app.erase_person(:email);

-- name: erase_organization
-- Erases an organization; says what was touched.
select app.erase_organization(:organization_id::uuid);

-- name: find_usage_days -> Days
-- The first and the last day on which an organization has raw rows.
select min(date) as first, max(date) as last from usage_analytics where organization_id = :organization_id::uuid;

-- name: strip_usage
-- Takes from one day's rows what could name a visitor; says how many.
select app.strip_usage(:organization_id::uuid, :day::date);
