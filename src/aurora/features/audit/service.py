"""What can be done with the audit: read it, note an event, check its chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from aurora.core.paging import Page, decode_cursor, page_of
from aurora.db.transaction import Connection
from aurora.features.audit import store
from aurora.features.audit.chain import ChainChecker, check_events, digest_of
from aurora.features.audit.model import AuditEvent, Break, ChainedEvent, Head, Verification


async def list_events(
    conn: Connection,
    *,
    organization_id: UUID | None = None,
    platform_only: bool = False,
    action: str | None = None,
    subject_id: str | None = None,
    cursor: str | None,
    limit: int,
) -> Page[AuditEvent]:
    """Return a page of events that the caller may see, newest first.

    Args:
        conn: Of whoever asks: row level security decides what is seen.
        organization_id: Only this organization's.
        platform_only: Only the platform's own: plans, sellers, operators.
        action: Only this, such as `api_key.revoked`.
        subject_id: Only what was done to this row.
        cursor: Where the page before ended.
        limit: Events on the page.

    Raises:
        CursorInvalid: The cursor was not given out here.
    """
    after_id = None if cursor is None else decode_cursor(cursor, (int,))[0]
    found = await store.list_events(
        conn,
        organization_id=organization_id,
        platform_only=platform_only,
        action=action,
        subject_id=subject_id,
        after_id=after_id,
        limit=limit + 1,
    )
    return page_of(found, limit, lambda event: (event.id,))


async def record_event(
    conn: Connection,
    *,
    organization_id: UUID | None,
    action: str,
    subject_type: str,
    subject_id: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Note an event that no audited row tells of, such as an export of data.

    Args:
        conn: Of the platform (`service_role`).
        organization_id: In whose chain; None is the platform's own.
        action: `<subject>.<verb in the past>`.
        subject_type: What it was done to.
        subject_id: Which one.
        before: What changed, as it was; without secrets.
        after: What changed, as it is; without secrets.
    """
    await store.insert_event(
        conn,
        organization_id=organization_id,
        action=action,
        subject_type=subject_type,
        subject_id=subject_id,
        before=before,
        after=after,
    )


async def list_heads(conn: Connection, organization_id: UUID | None = None) -> list[Head]:
    """Return the heads of all chains, or of one organization's, the platform's first."""
    return await store.list_heads(conn, organization_id)


async def verify_chains(
    conn: Connection,
    organization_id: UUID | None = None,
    *,
    noted: Sequence[Head] = (),
    on_checked: Callable[[int], None] = lambda _count: None,
    digest: Callable[[ChainedEvent], bytes] = digest_of,
) -> Verification:
    """Recompute every chain and tell where each broken one is first broken.

    Memory is bounded by `store.EVENTS_PER_FETCH`, however long a chain is. Changes made meanwhile
    disturb nothing: a chain is read as of one moment, and its head may only have moved on.

    Args:
        conn: Of the platform, in a transaction that may last.
        organization_id: Only this organization's chain.
        noted: Heads that were kept outside the database. Without them nobody can tell that a
            superuser cut a chain and set its head back, or wrote a whole chain anew.
        on_checked: Called with the number of events checked since its last call.
        digest: Recomputes an event's hash.
    """
    heads: dict[UUID | None, Head | None] = {
        head.organization_id: head for head in await store.list_heads(conn, organization_id)
    }
    for headless in await store.list_headless(conn, organization_id):
        heads.setdefault(headless, None)
    kept: dict[UUID | None, dict[int, str]] = {}
    for head in noted:
        if organization_id in (None, head.organization_id):
            heads.setdefault(head.organization_id, None)
            kept.setdefault(head.organization_id, {})[head.sequence] = head.hash
    broken: list[Break] = []
    events = 0
    for chain, head_before in heads.items():
        checker = ChainChecker(chain, head_before, noted=kept.get(chain), digest=digest)
        async with aclosing(store.stream_chain(conn, chain)) as rows:
            found = await check_events(checker, rows, on_checked)
        if found is None:
            found = checker.finish(await store.find_head(conn, chain))
        if found is not None:
            broken.append(found)
        events += checker.sequence
    return Verification(chains=len(heads), events=events, broken=broken)
