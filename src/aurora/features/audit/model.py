"""Events of the audit, heads of chains, and what a check of a chain can find."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from aurora.core.errors import Conflict, Invalid

Fault = Literal[
    "changed",
    "missing",
    "out_of_place",
    "unlinked",
    "cut_off",
    "beyond_head",
    "head_missing",
    "head_changed",
    "not_as_noted",
]
"""changed: a row's content is not what was hashed. missing: a place in the sequence is empty.
out_of_place: a row stands where another belongs. unlinked: a row does not follow from the one
before. cut_off: rows at the end are gone. beyond_head: there are more rows than the head counts.
head_missing: a chain without a head. head_changed: the head's hash is not the last row's.
not_as_noted: the row is not the one that was noted outside the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One change; `before` and `after` hold only what changed, never a secret."""

    id: int
    organization_id: UUID | None
    sequence: int
    occurred_at: datetime
    actor: str
    database_role: str
    request_id: str | None
    action: str
    subject_type: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedEvent:
    """One row of a chain as it was hashed: documents as the text that PostgreSQL gives."""

    id: int
    organization_id: UUID | None
    sequence: int
    occurred_at: datetime
    actor: str
    database_role: str
    request_id: str | None
    action: str
    subject_type: str
    subject_id: str
    before: str | None
    after: str | None
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain: how many events it has, and the hash (hex) of the last one."""

    organization_id: UUID | None
    sequence: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where a chain is first broken, and how."""

    organization_id: UUID | None
    sequence: int
    fault: Fault
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check found: nothing in `broken` means that every chain is whole."""

    chains: int
    events: int
    broken: list[Break]


class AuditImmutable(Conflict):
    """The audit is only ever added to."""

    code, title = "audit_immutable", "The audit is only ever added to"


class HeadsUnreadable(Invalid):
    """The file of noted heads is not what `aurora audit head --json` prints."""

    code, title = "heads_unreadable", "The file does not hold heads of the audit"
