"""Exports and erasures, of organizations and of people (GDPR articles 15, 17, and 20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from aurora.core import clock
from aurora.core.emails import check_email
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.model import OrganizationNotFound
from aurora.features.privacy import store
from aurora.features.privacy.archive import Archive
from aurora.features.privacy.model import ConfirmationMissing, Erasure, Person, Subject

STRIP_JOB: Final = "privacy_strip_usage"
EXPORT_TIMEOUT_MS: Final = 300_000
STRIP_TIMEOUT_MS: Final = 300_000
# Claims, unfolded deltas, and counts of the last hour repeat what the raw rows and the rollups say.
# Salts are there to be forgotten.
INTERNAL_TABLES: Final = frozenset(
    {"usage_event_ids", "usage_deltas", "usage_visitor_salts", "rate_limit_windows"}
)


async def find_subject(conn: Connection, which: UUID | str) -> Subject:
    """Return an organization by id or slug, deleted or not.

    Raises:
        OrganizationNotFound: There never was one.
    """
    found = await store.find_subject(conn, which)
    if found is None:
        raise OrganizationNotFound(f"There is no organization {which}.")
    return found


async def export_organization(pool: Pool, organization_id: UUID) -> AsyncIterator[bytes]:
    """Yield a zip of every row that belongs to an organization, as JSON and CSV, without secrets.

    What is read is asked of the database's catalogue: every table with an organization_id, so that
    a new table is never forgotten.

    Args:
        pool: One connection is held until the last byte was taken.
        organization_id: Which one; that it exists is checked before.
    """

    def where(table: str, columns: Sequence[str]) -> dict[str, list[object]]:
        if table == "organizations":
            return {"id": [organization_id]}
        return {"organization_id": [organization_id]} if "organization_id" in columns else {}

    about = {"organization_id": organization_id}
    async with transaction(
        pool, PLATFORM, read_only=True, statement_timeout_ms=EXPORT_TIMEOUT_MS
    ) as conn:
        async for piece in _export(conn, about, where, {}):
            yield piece


async def export_person(pool: Pool, email: str) -> AsyncIterator[bytes]:
    """Yield a zip of every row that is about a person, in whatever organizations they are.

    Args:
        pool: One connection is held until the last byte was taken.
        email: Any of the person's addresses; of an unknown one the archive is empty.
    """
    async with transaction(
        pool, PLATFORM, read_only=True, statement_timeout_ms=EXPORT_TIMEOUT_MS
    ) as conn:
        person = await store.find_person(conn, email)

        def where(table: str, columns: Sequence[str]) -> dict[str, list[object]]:
            return _about_person(person, table, columns)

        documents = {"data/accounts.json": await store.list_accounts(conn, person.auth_ids)}
        async for piece in _export(conn, {"emails": person.emails}, where, documents):
            yield piece


def _about_person(person: Person, table: str, columns: Sequence[str]) -> dict[str, list[object]]:
    """Return which rows of a table are about a person, by the names of its columns."""
    known: dict[str, list[Any]] = {
        "user_id": person.user_ids,
        "created_by": person.user_ids,
        "invited_by": person.user_ids,
        "auth_id": person.auth_ids,
        "email": person.emails,
    }
    found: dict[str, list[object]] = {name: known[name] for name in known if name in columns}
    return {"id": list(person.user_ids), **found} if table == "users" else found


async def _export(
    conn: Connection,
    about: Mapping[str, object],
    where: Callable[[str, Sequence[str]], dict[str, list[object]]],
    documents: Mapping[str, object],
) -> AsyncIterator[bytes]:
    archive = Archive()
    for name, document in documents.items():
        yield archive.add_document(name, document)
    for table in await store.list_tables(conn):
        condition = where(table.name, table.columns)
        if not condition or table.name in INTERNAL_TABLES:
            continue
        rows = store.list_rows(conn, table, condition)
        async for piece in archive.add_table(table.name, table.columns, rows):
            yield piece
    manifest = {"exported_at": clock.now(), "about": about, "rows": archive.counts}
    yield archive.add_document("manifest.json", manifest)
    yield archive.close()


async def erase_organization(conn: Connection, organization_id: UUID, *, confirm: str) -> Erasure:
    """Erase an organization for good, but for what the law wants kept; twice is the same as once.

    Keys die, people and contacts are replaced, issued invoices stay as they are. The raw usage is
    stripped afterwards, day by day, by `strip_usage`.

    Args:
        conn: An open transaction.
        organization_id: Which one.
        confirm: Its slug, as a sign that it is meant.

    Raises:
        OrganizationNotFound: There never was one.
        ConfirmationMissing: The slug is another one.
    """
    subject = await find_subject(conn, organization_id)
    if subject.erased_at is None and confirm != subject.slug:
        raise ConfirmationMissing("Confirm the erasure with the organization's slug.")
    done = await store.erase_organization(conn, organization_id)
    return Erasure(people=done["people"], keys_revoked=done["keys_revoked"])


async def strip_usage(pool: Pool, organization_id: UUID) -> int:
    """Take from an organization's raw usage what could name a visitor; return how many rows.

    A transaction a day, so that no lock is held long; after an interruption it goes on.
    """
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        days = await store.find_usage_days(conn, organization_id)
    if days.first is None or days.last is None:
        return 0
    stripped, day = 0, days.first
    while day <= days.last:
        async with transaction(pool, PLATFORM, statement_timeout_ms=STRIP_TIMEOUT_MS) as conn:
            stripped += await store.strip_usage(conn, organization_id, day)
        day += timedelta(days=1)
    return stripped


async def erase_person(conn: Connection, email: str, *, confirm: str) -> Erasure:
    """Erase a person everywhere but in issued documents; twice is the same as once.

    Args:
        conn: An open transaction.
        email: Any of the person's addresses.
        confirm: The same address again, as a sign that it is meant.

    Raises:
        EmailInvalid: It is no address.
        ConfirmationMissing: The two differ.
        LastOwner: Somebody else must own an organization first.
    """
    address = check_email(email)
    if confirm != email:
        raise ConfirmationMissing("Confirm the erasure with the person's address.")
    done = await store.erase_person(conn, address)
    return Erasure(
        people=done["memberships"], invitations=done["invitations"], contacts=done["contacts"]
    )
