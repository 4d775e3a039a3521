"""Impressions by month: how many, how many of them are included, and what was billed for them."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from aurora.core import clock
from aurora.core.paging import Page, decode_cursor, page_of
from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import ImpressionMonth, MonthKind

MAX_IMPRESSION_MONTHS: Final = 36


async def list_impression_months(
    conn: Connection, organization_id: UUID, *, by: MonthKind, cursor: str | None, limit: int
) -> Page[ImpressionMonth]:
    """Return months of impressions, the running one first.

    Args:
        conn: An open transaction of the platform.
        organization_id: Whose impressions.
        by: Billing periods, or calendar months of the subscription's time zone.
        cursor: Of the page before.
        limit: How many, at most `MAX_IMPRESSION_MONTHS`.

    Raises:
        SubscriptionNotFound: Billing periods of an organization that has none.
        CursorInvalid: The cursor was not given out here.
    """
    before = clock.now() if cursor is None else decode_cursor(cursor, (datetime,))[0]
    found = await store.list_impression_months(
        conn, organization_id, by=by, before=before, limit=limit + 1
    )
    return page_of(found, limit, lambda month: (month.period_start,))
