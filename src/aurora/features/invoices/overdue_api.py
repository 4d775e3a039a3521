"""HTTP door to what is overdue: operators see it, enter the policy, exempt, and take the steps."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import overdue
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(prefix="/v1", tags=["invoices"])

Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
Days = Annotated[int, Field(ge=1, le=365)]


class OverdueOut(BaseModel):
    """An invoice whose due date has passed; `amount_due` in major units with VAT."""

    model_config = ConfigDict(from_attributes=True)
    slug: str
    invoice_number: str
    due_date: date
    days_late: int
    amount_due: Decimal
    currency: str
    reminders: int
    suspended: bool
    exempt: bool


class OverdueList(BaseModel):
    """What is overdue, the longest first; at most `limit` of it."""

    items: list[OverdueOut]


class ChasedOut(BaseModel):
    """How many reminders were sent, and organizations suspended and made active again."""

    model_config = ConfigDict(from_attributes=True)
    reminded: int
    suspended: int
    reactivated: int


class OverduePolicyIn(BaseModel):
    """What follows for invoices due from a day on; days are counted from the due date."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"valid_from": "2027-01-01", "reminder_days": [7, 21], "suspend_days": 45}]
        },
    )
    valid_from: date
    reminder_days: list[Days] = Field(min_length=1, max_length=10)
    suspend_days: Days | None = Field(None, description="Without it nobody is suspended.")


class OverduePolicyOut(BaseModel):
    """A policy as it was entered, here or on the command line."""

    model_config = ConfigDict(from_attributes=True)
    valid_from: date
    reminder_days: list[int]
    suspend_days: int | None


class OverduePolicyList(BaseModel):
    """The policies, the newest first."""

    items: list[OverduePolicyOut]


class Exemption(BaseModel):
    """Why an organization is exempt from reminders and suspension, and for how long."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "A disputed invoice"}]}
    )
    reason: str = Field(min_length=1, max_length=200)
    until: date | None = Field(None, description="The last day; without end if absent.")


@router.get("/overdue")
async def list_overdue(
    who: Who,
    pool: Database,
    organization_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> OverdueList:
    """List what is overdue, the longest first, of one organization or of all (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        if organization_id is not None:
            await get_organization(conn, organization_id)
        found = await overdue.list_overdue(conn, organization_id, limit)
    return OverdueList(items=[OverdueOut.model_validate(each) for each in found])


@router.post("/overdue/chase")
async def chase(who: Who, pool: Database) -> ChasedOut:
    """Remind, suspend, and reactivate now, as the worker does every five minutes (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        return ChasedOut.model_validate(await overdue.chase_overdue(conn))


@router.get("/overdue/policies")
async def list_overdue_policies(who: Who, pool: Database) -> OverduePolicyList:
    """List what follows when an invoice is not paid, by its due date (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await overdue.list_policies(conn)
    return OverduePolicyList(items=[OverduePolicyOut.model_validate(each) for each in found])


@router.post("/overdue/policies", status_code=201)
async def enter_overdue_policy(body: OverduePolicyIn, who: Who, pool: Database) -> OverduePolicyOut:
    """Enter what follows for invoices whose due date is that day or later (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        made = await overdue.enter_policy(
            conn,
            since=body.valid_from,
            reminder_days=body.reminder_days,
            suspend_days=body.suspend_days,
        )
    return OverduePolicyOut.model_validate(made)


@router.put("/organizations/{organization_id}/overdue-exemption", status_code=204)
async def exempt(organization_id: UUID, body: Exemption, who: Who, pool: Database) -> None:
    """Exempt an organization from reminders and suspension (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await get_organization(conn, organization_id)
        await overdue.exempt(conn, organization_id, reason=body.reason, until=body.until)


@router.delete("/organizations/{organization_id}/overdue-exemption", status_code=204)
async def end_exemption(organization_id: UUID, who: Who, pool: Database) -> None:
    """End an exemption; what is late is chased again (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await get_organization(conn, organization_id)
        await overdue.exempt(conn, organization_id, reason=None)
