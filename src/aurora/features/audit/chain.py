"""Checks one chain of audit events: every row's content, its place, and its link to the last."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC
from typing import Final
from uuid import UUID

from aurora.features.audit.model import Break, ChainedEvent, Fault, Head

VERSION: Final = "aurora-audit-1"
GENESIS: Final = bytes(32)
"""What the first event of a chain follows."""

PROGRESS_STEP: Final = 1_000
"""Events between two calls of on_checked."""


def digest_of(event: ChainedEvent) -> bytes:
    """Return the SHA-256 that the event must bear; `app.audit_digest` computed it when it was new.

    Every field is preceded by its length in bytes, so that no two lists of fields are one text:
    otherwise ("ab", "c") could be passed off as ("a", "bc").
    """
    fields = (
        VERSION,
        str(event.id),
        None if event.organization_id is None else str(event.organization_id),
        str(event.sequence),
        event.occurred_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        event.actor,
        event.database_role,
        event.request_id,
        event.action,
        event.subject_type,
        event.subject_id,
        event.before,
        event.after,
        event.previous_hash.hex(),
    )
    return hashlib.sha256(b",".join(_netstring(field) for field in fields)).digest()


def _netstring(field: str | None) -> bytes:
    if field is None:
        return b"-"
    data = field.encode()
    return b"%d:%b" % (len(data), data)


class ChainChecker:
    """Takes the events of one chain in order and tells the first that is wrong.

    Args:
        organization_id: Whose chain.
        head: As it was before the events were read; None when the chain has none.
        noted: Hashes (hex) that were noted outside the database, by sequence.
        digest: Recomputes an event's hash.
    """

    def __init__(
        self,
        organization_id: UUID | None,
        head: Head | None,
        *,
        noted: Mapping[int, str] | None = None,
        digest: Callable[[ChainedEvent], bytes] = digest_of,
    ) -> None:
        self.organization_id, self.head, self.digest = organization_id, head, digest
        self.noted = dict(noted or {})
        self.sequence = 0
        self.hash = GENESIS

    def check(self, event: ChainedEvent) -> Break | None:
        """Return what is wrong with the next event, or None."""
        expected, found = self.sequence + 1, event.hash.hex()
        fault: Fault
        if event.sequence > expected:
            fault, detail = "missing", f"the next row is {event.sequence}"
        elif event.sequence < expected:
            fault, detail = "out_of_place", f"there is a second row {event.sequence}"
        elif self.digest(event) != event.hash:
            fault, detail = "changed", "its content is not what was hashed"
        elif event.previous_hash != self.hash:
            fault, detail = "unlinked", "it does not follow from the row before it"
        elif self.noted.get(expected, found) != found:
            fault, detail = "not_as_noted", "another row stood here when it was noted"
        elif self.head and expected == self.head.sequence and found != self.head.hash:
            fault, detail = "head_changed", "the head has another hash"
        else:
            self.sequence, self.hash = expected, event.hash
            return None
        return self._broken(fault, min(expected, event.sequence), detail)

    def finish(self, head_now: Head | None) -> Break | None:
        """Return what is wrong with the end of the chain, or None.

        Args:
            head_now: The head after the events were read: it may have moved on meanwhile.
        """
        after = self.sequence + 1
        expected = max(self.head.sequence if self.head else 0, *self.noted, 0)
        if self.sequence < expected:
            return self._broken("cut_off", after, f"there were {expected} rows")
        if self.sequence and head_now is None:
            return self._broken("head_missing", self.sequence, "the chain has no head")
        if head_now is not None and head_now.sequence < self.sequence:
            return self._broken(
                "beyond_head", head_now.sequence + 1, f"the head counts {head_now.sequence}"
            )
        if head_now and head_now.sequence == self.sequence and head_now.hash != self.hash.hex():
            return self._broken("head_changed", self.sequence, "the head has another hash")
        return None

    def _broken(self, fault: Fault, sequence: int, detail: str) -> Break:
        return Break(
            organization_id=self.organization_id, sequence=sequence, fault=fault, detail=detail
        )


async def check_events(
    checker: ChainChecker,
    events: AsyncIterator[ChainedEvent],
    on_checked: Callable[[int], None] = lambda _count: None,
) -> Break | None:
    """Return the first break among the events, reading no further than that.

    Args:
        checker: Of this chain.
        events: In the order of their sequence.
        on_checked: Called with the number of events since its last call.
    """
    since = 0
    async for event in events:
        if (found := checker.check(event)) is not None:
            return found
        since += 1
        if since == PROGRESS_STEP:
            on_checked(since)
            since = 0
    on_checked(since)
    return None
