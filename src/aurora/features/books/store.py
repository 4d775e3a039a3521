"""The only Python that runs the books room's SQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from uuid import UUID

from aurora.db.queries import fetch_all, load_queries
from aurora.db.transaction import Connection
from aurora.features.books.model import BookedCustomer, Entry

QUERIES = load_queries(__package__)


async def list_entries(
    conn: Connection, legal_entity_id: str, first_day: date, last_day: date, limit: int
) -> list[Entry]:
    """Return what is posted of a seller, both days included, by day and voucher."""
    return await fetch_all(
        conn,
        QUERIES["list_entries_by_day"],
        Entry,
        legal_entity_id=legal_entity_id,
        first_day=first_day,
        last_day=last_day,
        limit=limit,
    )


async def list_customers(conn: Connection, ids: Collection[UUID]) -> list[BookedCustomer]:
    """Return customers as they stand now."""
    return await fetch_all(conn, QUERIES["list_customers_by_ids"], BookedCustomer, ids=list(ids))
