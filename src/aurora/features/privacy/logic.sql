-- Erasure (GDPR article 17): personal data goes, what bookkeeping law wants kept (bokføringsloven § 13) stays.
-- SECURITY DEFINER: the application itself may neither delete rows of people nor touch auth.users.

create or replace function app.find_person(
  p_email text, out user_ids uuid[], out auth_ids uuid[], out emails text[]
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  auth_ids := array(
    select a.id from auth.users a where lower(a.email) = lower(p_email)
    union
    select u.auth_id from public.users u where lower(u.email) = lower(p_email) and u.auth_id is not null
  );
  user_ids := array(
    select u.id from public.users u where lower(u.email) = lower(p_email) or u.auth_id = any (auth_ids)
  );
  emails := array(
    select lower(u.email) from public.users u where u.id = any (user_ids)
    union
    select lower(a.email) from auth.users a where a.id = any (auth_ids)
    union
    select lower(p_email)
  );
end
$$;
comment on function app.find_person(text) is
  'A person by any address: memberships, accounts, and every other address these have.';

create or replace function app.person_account(p_auth_ids uuid[]) returns setof jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', a.id, 'email', a.email, 'created_at', a.created_at, 'email_confirmed_at', a.email_confirmed_at,
    'last_sign_in_at', a.last_sign_in_at
  )
  from auth.users a
  where a.id = any (p_auth_ids)
$$;
comment on function app.person_account(uuid[]) is 'What is known of sign-in accounts, without their secrets.';

create or replace function app.erase_mail(p_emails text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- The queue is installed beside the schema, so it may be missing here.
  v_queue constant regclass := to_regclass('pgqueuer.pgqueuer');
begin
  if v_queue is not null then
    execute format($sql$
      delete from %s q
      where q.entrypoint = 'mail_send'
        and case when q.entrypoint = 'mail_send'
          then lower(convert_from(q.payload, 'UTF8')::jsonb ->> 'to') = any ($1) end
    $sql$, v_queue) using p_emails;
  end if;
end
$$;
comment on function app.erase_mail(text[]) is 'Takes back mail to these addresses that was not sent, or could not be.';

create or replace function app.erase_memberships(p_user_ids uuid[], p_auth_ids uuid[]) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_erased integer;
begin
  delete from public.notifications n where n.user_id = any (p_user_ids);
  update public.users u
  set email = 'erased-' || u.id || '@erased.invalid', name = 'Erased person', avatar_url = null, auth_id = null,
    last_login_at = null, metadata = '{}', status = 'inactive', erased_at = app.now()
  where u.id = any (p_user_ids) and u.erased_at is null;
  get diagnostics v_erased = row_count;
  -- Sessions and links go with the account. One that still has a place elsewhere stays.
  delete from auth.users a
  where a.id = any (p_auth_ids) and not exists (select from public.users u where u.auth_id = a.id);
  return v_erased;
end
$$;
comment on function app.erase_memberships(uuid[], uuid[]) is
  'Replaces who these members were, and removes accounts that no membership needs any more.';

create or replace function app.erase_person(p_email text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_person record;
  v_memberships integer;
  v_invitations integer;
  v_contacts integer;
begin
  select * into v_person from app.find_person(p_email);
  perform app.erase_mail(v_person.emails);
  delete from public.invitations i where lower(i.email) = any (v_person.emails);
  get diagnostics v_invitations = row_count;
  -- What colleagues were told about the person names them too.
  delete from public.notifications n
  where n.organization_id = any (array(
      select u.organization_id from public.users u where u.id = any (v_person.user_ids)
    ))
    and exists (
      select from unnest(v_person.emails) as address
      where position(address in lower(concat_ws(' ', n.title, n.message, n.action_url, n.metadata))) > 0
    );
  v_memberships := app.erase_memberships(v_person.user_ids, v_person.auth_ids);
  update public.organizations o
  set email = case
      when lower(o.email) = any (v_person.emails) then 'erased-' || o.id || '@erased.invalid' else o.email
    end,
    billing_email = case when lower(o.billing_email) = any (v_person.emails) then null else o.billing_email end
  where lower(o.email) = any (v_person.emails) or lower(o.billing_email) = any (v_person.emails);
  get diagnostics v_contacts = row_count;
  -- What was issued is the seller's bookkeeping and never changes; a draft is not a document yet.
  update public.invoices v set buyer = v.buyer - 'email'
  where v.status in ('draft', 'void') and lower(v.buyer ->> 'email') = any (v_person.emails);
  return jsonb_build_object(
    'memberships', v_memberships, 'invitations', v_invitations, 'contacts', v_contacts
  );
end
$$;
comment on function app.erase_person(text) is
  'Erases a person everywhere but in issued documents; refuses while an organization would lose its last owner.';

create or replace function app.erase_organization(p_organization_id uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_users uuid[];
  v_auth uuid[];
  v_emails text[];
  v_keys integer;
  v_people integer;
begin
  perform from public.organizations o where o.id = p_organization_id for no key update;
  if not found then
    perform app.refuse('organization_not_found', 'There is no such organization.');
  end if;
  select coalesce(array_agg(u.id), '{}'), coalesce(array_agg(u.auth_id) filter (where u.auth_id is not null), '{}'),
    coalesce(array_agg(lower(u.email)), '{}')
  into v_users, v_auth, v_emails
  from public.users u where u.organization_id = p_organization_id;
  perform app.erase_mail(v_emails || array(
    select lower(i.email) from public.invitations i where i.organization_id = p_organization_id
  ));
  update public.subscriptions s
  set status = 'cancelled', cancelled_at = coalesce(s.cancelled_at, app.now()), closed_at = app.now(), metadata = '{}'
  where s.organization_id = p_organization_id;
  update public.api_keys k
  set status = 'revoked', revoked_at = coalesce(k.revoked_at, app.now())
  where k.organization_id = p_organization_id and k.status <> 'revoked';
  get diagnostics v_keys = row_count;
  update public.api_keys k
  set name = 'Erased key', description = null, metadata = '{}', ip_whitelist = null,
    allowed_origins = '["https://erased.invalid"]'
  where k.organization_id = p_organization_id;
  delete from public.invitations i where i.organization_id = p_organization_id;
  delete from public.notifications n where n.organization_id = p_organization_id;
  delete from public.widget_instances w where w.organization_id = p_organization_id;
  delete from public.usage_imports m where m.organization_id = p_organization_id;
  delete from public.usage_quarantine q where q.organization_id = p_organization_id;
  -- The sites it was embedded in; all other sums name nobody.
  delete from public.usage_daily d where d.organization_id = p_organization_id and d.dimension = 'origin';
  delete from public.usage_hourly h where h.organization_id = p_organization_id and h.dimension = 'origin';
  delete from public.usage_visitor_salts s where s.organization_id = p_organization_id;
  update public.usage_reversals r set reversal_id = r.event_key::text, metadata = '{}'
  where r.organization_id = p_organization_id;
  delete from public.rate_limit_windows r where r.organization_id = p_organization_id;
  delete from public.invoices v where v.organization_id = p_organization_id and v.status in ('draft', 'void');
  update public.organizations o
  set status = 'cancelled', deleted_at = coalesce(o.deleted_at, app.now()), erased_at = coalesce(o.erased_at, app.now()),
    name = 'Erased organization', slug = 'erased-' || replace(o.id::text, '-', ''),
    email = 'erased-' || o.id || '@erased.invalid', domain = null, phone = null, address = null, city = null,
    postal_code = null, org_number = null, org_number_unverified = false, vat_number = null,
    vat_number_unverified = false, billing_email = null, invoice_reference = null, settings = '{}', metadata = '{}',
    logo_sha256 = null
  where o.id = p_organization_id;
  -- What law keeps a document for, it keeps whole.
  delete from public.organization_logos l
  where l.organization_id = p_organization_id
    and not exists (
      select from public.invoices v where v.organization_id = l.organization_id and v.buyer_logo_sha256 = l.sha256
    )
    and not exists (
      select from public.credit_notes c where c.organization_id = l.organization_id and c.buyer_logo_sha256 = l.sha256
    );
  v_people := app.erase_memberships(v_users, v_auth);
  return jsonb_build_object('keys_revoked', v_keys, 'people', v_people);
end
$$;
comment on function app.erase_organization(uuid) is
  'Erases an organization but for issued documents and counts; its usage rows are stripped by app.strip_usage().';

create or replace function app.strip_usage(p_organization_id uuid, p_date date) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_stripped integer;
begin
  update public.usage_analytics u
  set ip_address = null, user_agent = null, origin = null, metadata = '{}', event_id = null, visitor = null
  where u.organization_id = p_organization_id and u.date = p_date
    and (
      u.ip_address is not null or u.user_agent is not null or u.origin is not null or u.metadata <> '{}'
      or u.event_id is not null or u.visitor is not null
    );
  get diagnostics v_stripped = row_count;
  return v_stripped;
end
$$;
comment on function app.strip_usage(uuid, date) is
  'Takes from one day''s raw rows what could name a visitor; what invoices are computed from stays.';

revoke execute on function
  app.find_person(text), app.person_account(uuid[]), app.erase_mail(text[]), app.erase_memberships(uuid[], uuid[]),
  app.erase_person(text), app.erase_organization(uuid), app.strip_usage(uuid, date)
from public;
grant execute on function
  app.find_person(text), app.person_account(uuid[]), app.erase_person(text), app.erase_organization(uuid),
  app.strip_usage(uuid, date)
to service_role;
