"""After the due date: the policy, the steps it asks for, and who is exempt from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import Chased, OverdueInvoice, OverduePolicy

CHASE_BATCH: Final = 1_000
MAX_POLICIES: Final = 100


async def chase_overdue(conn: Connection, limit: int = CHASE_BATCH) -> Chased:
    """Take the steps that up to `limit` overdue invoices have come to, each once."""
    [chased] = await store.ask_overdue(conn, "chase_overdue", Chased, limit=limit)
    return chased


async def chase(conn: Connection) -> int:
    """Take a bounded number of steps; return how many."""
    chased = await chase_overdue(conn)
    return chased.reminded + chased.suspended + chased.reactivated


async def enter_policy(
    conn: Connection, *, since: date, reminder_days: Sequence[int], suspend_days: int | None
) -> OverduePolicy:
    """Enter what follows for invoices whose due date is that day or later.

    Args:
        conn: An open transaction of the platform.
        since: The first due date it holds for; an invoice keeps the policy of its due date.
        reminder_days: Days after the due date at which admins are reminded.
        suspend_days: Days after it at which the organization is suspended; None: never.

    Raises:
        OverduePolicyInvalid: No reminder, a day outside 1 to 365, or a suspension before the last.
    """
    [policy] = await store.ask_overdue(
        conn,
        "insert_overdue_policy",
        OverduePolicy,
        valid_from=since,
        reminder_days=sorted(set(reminder_days)),
        suspend_days=suspend_days,
    )
    return policy


async def list_policies(conn: Connection) -> list[OverduePolicy]:
    """Return the policies, the newest first."""
    return await store.ask_overdue(
        conn, "list_overdue_policies_by_day", OverduePolicy, limit=MAX_POLICIES
    )


async def exempt(
    conn: Connection, organization_id: UUID, *, reason: str | None, until: date | None = None
) -> None:
    """Exempt an organization from reminders and suspension, or end that with no reason.

    A suspension that is in force for what it owes ends with it.

    Raises:
        OverduePolicyInvalid: The reason is empty, or longer than 200 characters.
    """
    await store.exempt_organization(
        conn, organization_id=organization_id, until=until, reason=reason
    )


async def list_overdue(
    conn: Connection, organization_id: UUID | None, limit: int
) -> list[OverdueInvoice]:
    """Return what is overdue, the longest first, of one organization or of all."""
    return await store.ask_overdue(
        conn,
        "list_overdue_by_organization",
        OverdueInvoice,
        organization_id=organization_id,
        limit=limit,
    )
