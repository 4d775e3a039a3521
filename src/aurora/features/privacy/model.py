"""Whose data is exported or erased, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from aurora.core.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An organization, whatever has become of it."""

    id: UUID
    slug: str
    erased_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person: memberships, sign-in accounts, and all addresses (in small letters)."""

    user_ids: list[UUID]
    auth_ids: list[UUID]
    emails: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """A table and what of it may be handed out."""

    name: str
    columns: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """A span of days, both included; None where there are none."""

    first: date | None
    last: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What an erasure touched; all zero when there was nothing left.

    Attributes:
        people: Memberships that were replaced.
        invitations: Removed; those of a person.
        contacts: Organizations whose contact address was this person's.
        keys_revoked: Keys that died.
    """

    people: int = 0
    invitations: int = 0
    contacts: int = 0
    keys_revoked: int = 0


class ConfirmationMissing(Invalid):
    """An erasure that nobody confirmed by naming what is to be erased."""

    code, title = "confirmation_missing", "Confirm by naming what is to be erased for good"
