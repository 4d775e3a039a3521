create table replies (
  caller text not null,
  key_digest bytea not null,
  request_digest bytea not null,
  begun_at timestamptz not null default app.now(),
  sealed bytea,

  primary key (caller, key_digest),
  constraint replies_caller_check check (length(caller) between 1 and 200),
  constraint replies_key_digest_check check (length(key_digest) = 32),
  constraint replies_request_digest_check check (length(request_digest) = 32),
  constraint replies_sealed_check check (length(sealed) <= 1100000)
);
create index replies_begun_at_idx on replies (begun_at);
alter table replies enable row level security;
comment on table replies is
  'Unsafe calls that bore an Idempotency-Key, and what they were answered, for a day. A row without an answer is a call under way, or one whose end nobody knows.';
comment on column replies.key_digest is 'SHA-256 of the Idempotency-Key.';
comment on column replies.request_digest is
  'SHA-256 of method, path, query, and body: the same key with another one is a mistake of the caller.';
comment on column replies.sealed is
  'The answer, sealed by AES-GCM with what only the caller has: credential and Idempotency-Key. A stolen table holds no new key of anybody.';
