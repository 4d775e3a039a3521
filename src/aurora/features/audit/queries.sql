-- name: list_audit_events_by_id -> AuditEvent
-- A page of events, newest first, of one organization, of the platform itself, or of all.
select id, organization_id, sequence, occurred_at, actor, database_role, request_id, action, subject_type, subject_id,
  before, after, encode(hash, 'hex') as hash
from audit_events
where (:organization_id::uuid is null or organization_id = :organization_id::uuid)
  and (not :platform_only::boolean or organization_id is null)
  and (:action::text is null or action = :action::text)
  and (:subject_id::text is null or subject_id = :subject_id::text)
  and (:after_id::bigint is null or id < :after_id::bigint)
order by id desc
limit :limit;

-- name: list_chained_events_by_organization -> ChainedEvent
-- A whole chain in its order, with documents as the text that was hashed.
select id, organization_id, sequence, occurred_at, actor, database_role, request_id, action, subject_type, subject_id,
  before::text as before, after::text as after, previous_hash, hash
from audit_events
where organization_id = :organization_id::uuid
order by sequence, id;

-- name: list_chained_events_of_platform -> ChainedEvent
-- The platform's own chain in its order.
select id, organization_id, sequence, occurred_at, actor, database_role, request_id, action, subject_type, subject_id,
  before::text as before, after::text as after, previous_hash, hash
from audit_events
where organization_id is null
order by sequence, id;

-- name: list_audit_heads_by_organization -> Head
-- The heads of the chains, the platform's first.
select organization_id, sequence, encode(hash, 'hex') as hash
from audit_heads
where :organization_id::uuid is null or organization_id = :organization_id::uuid
order by organization_id nulls first;

-- name: list_headless_chains_by_organization
-- Chains with events and no head: somebody took the head away.
select distinct e.organization_id
from audit_events e
where not exists (
    select from audit_heads h where h.organization_id is not distinct from e.organization_id
  )
  and (:organization_id::uuid is null or e.organization_id = :organization_id::uuid);

-- name: find_audit_head -> Head
-- The head of one chain.
select organization_id, sequence, encode(hash, 'hex') as hash
from audit_heads
where organization_id is not distinct from :organization_id::uuid;

-- name: insert_audit_event
-- Notes an event that no row tells of.
select app.record_event(
  :organization_id::uuid, :action, :subject_type, :subject_id, :before::jsonb, :after::jsonb
);
