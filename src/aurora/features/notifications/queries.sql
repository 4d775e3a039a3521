-- name: list_notifications_by_organization -> Notification
-- What the people of an organization were told, newest first, after the given place.
select id, created_at, organization_id, user_id, type, title, message, priority, read, action_url, action_label
from notifications
where organization_id = :organization_id::uuid
  and (:after_created_at::timestamptz is null
    or (created_at, id) < (:after_created_at::timestamptz, :after_id::uuid))
order by created_at desc, id desc
limit :limit;
