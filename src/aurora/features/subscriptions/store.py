"""The only Python that runs the subscriptions room's SQL."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aurora.db.queries import execute, fetch_all, fetch_optional, fetch_value, load_queries
from aurora.db.transaction import Connection
from aurora.features.subscriptions.model import (
    MAX_TERMS_LISTED,
    CountedPeriod,
    ScheduledChange,
    Subscription,
    Terms,
)

QUERIES = load_queries(__package__)


async def insert_subscription(conn: Connection, **fields: Any) -> Subscription | None:
    """Subscribe to a plan with its terms of this moment; None where one runs already."""
    model = fields["price_model"]
    fields["price_model"] = None if model is None else Jsonb(model)
    return await fetch_optional(conn, QUERIES["insert_subscription"], Subscription, **fields)


async def find_subscription(conn: Connection, organization_id: UUID) -> Subscription | None:
    """Return the organization's subscription, if it has one."""
    return await fetch_optional(
        conn,
        QUERIES["find_subscription_by_organization"],
        Subscription,
        organization_id=organization_id,
    )


async def set_cancel_at_period_end(
    conn: Connection, organization_id: UUID, *, cancel: bool
) -> Subscription | None:
    """Cancel at period end or take it back; None without a running subscription."""
    return await fetch_optional(
        conn,
        QUERIES["update_subscription_cancel_at_period_end"],
        Subscription,
        organization_id=organization_id,
        cancel=cancel,
    )


async def find_scheduled(conn: Connection, organization_id: UUID) -> ScheduledChange | None:
    """Return the terms that begin when the paid period ends, if any were agreed."""
    query = QUERIES["find_scheduled_change"]
    return await fetch_optional(conn, query, ScheduledChange, organization_id=organization_id)


async def list_terms(conn: Connection, organization_id: UUID) -> list[Terms]:
    """Return the terms from each moment on, oldest first."""
    query = QUERIES["list_terms_by_organization"]
    return await fetch_all(
        conn, query, Terms, organization_id=organization_id, limit=MAX_TERMS_LISTED
    )


async def change_plan(conn: Connection, overrides: dict[str, Any], **fields: Any) -> datetime:
    """Move to a plan's present terms; return from when they hold."""
    query = QUERIES["change_plan"]
    moment: datetime = await fetch_value(conn, query, overrides=Jsonb(overrides), **fields)
    return moment


async def withdraw_change(conn: Connection, organization_id: UUID) -> None:
    """Take back what was scheduled."""
    await execute(conn, QUERIES["withdraw_change"], organization_id=organization_id)


async def pause(conn: Connection, organization_id: UUID, on_day: date | None) -> datetime:
    """Sell nothing from a day on; return from when."""
    query = QUERIES["pause_subscription"]
    moment: datetime = await fetch_value(
        conn, query, organization_id=organization_id, on_day=on_day
    )
    return moment


async def resume(conn: Connection, organization_id: UUID, on_day: date | None) -> datetime:
    """Sell again from a day on; return from when."""
    query = QUERIES["resume_subscription"]
    moment: datetime = await fetch_value(
        conn, query, organization_id=organization_id, on_day=on_day
    )
    return moment


async def redeem_coupon(conn: Connection, organization_id: UUID, code: str) -> UUID:
    """Redeem a coupon from the next bill on; return the redemption's id."""
    query = QUERIES["redeem_coupon"]
    found: UUID = await fetch_value(conn, query, organization_id=organization_id, code=code)
    return found


async def end_trials(conn: Connection, until: datetime | None) -> int:
    """End the trials that are over; return how many."""
    ended: int = await fetch_value(conn, QUERIES["end_trials"], until=until)
    return ended


async def list_periods(conn: Connection, **fields: Any) -> list[CountedPeriod]:
    """Return billing periods from an anchor on; fields are those of the query."""
    return await fetch_all(conn, QUERIES["list_periods_by_anchor"], CountedPeriod, **fields)


async def prorate(
    conn: Connection, price: Decimal, days: int, of_days: int, currency: str
) -> Decimal:
    """Return the price of some days of a period."""
    query = QUERIES["get_prorated_amount"]
    amount: Decimal = await fetch_value(
        conn, query, price=price, days=days, of_days=of_days, currency=currency
    )
    return amount
