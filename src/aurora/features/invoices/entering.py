"""Enters what documents stand on: exchange rates, late interest, and how a customer is invoiced."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import BillingProfile, EnteredRate


async def enter_exchange_rate(
    conn: Connection, currency: str, nok: Decimal, *, on: date, source: str
) -> EnteredRate:
    """Enter what one unit of a currency was worth; issued documents keep the rate they state.

    Args:
        conn: An open transaction of the platform.
        currency: ISO 4217, any but NOK.
        nok: Kroner for one unit.
        on: The day; an invoice takes that of its own day, or of the week before it.
        source: Who says so, such as Norges Bank (bokføringsforskriften § 5-1-1 wants a known one).

    Raises:
        ExchangeRateInvalid: Zero or less, no currency, or no source.
    """
    return await store.enter_rate(
        conn, "exchange_rate", currency=currency, rate=nok, valid_on=on, source=source
    )


async def enter_late_interest(
    conn: Connection, percent: Decimal, *, since: date, source: str
) -> EnteredRate:
    """Enter the late interest from a day on, in percent a year (forsinkelsesrenteloven § 2).

    Raises:
        LateInterestRateInvalid: Below zero, above 100, or without a source.
    """
    return await store.enter_rate(
        conn, "late_interest_rate", rate=percent, valid_on=since, source=source
    )


async def change_billing_profile(
    conn: Connection, organization_id: UUID, **changes: Any
) -> BillingProfile:
    """Change how an organization is invoiced from now on; what is not named stays.

    Args:
        conn: An open transaction of the platform.
        organization_id: Whom.
        changes: `vat_area`, `vat_treatment`, `exemption_reason`, `einvoice`, `order_reference`,
            `payment_days`; None leaves a field, an empty text empties it.

    Raises:
        BillingProfileInvalid: A value that a field cannot have, or an exemption without a reason.
    """
    names = ("vat_area", "vat_treatment", "exemption_reason", "einvoice", "order_reference")
    fields = {name: changes.get(name) for name in (*names, "payment_days")}
    return await store.update_billing_profile(conn, organization_id=organization_id, **fields)
