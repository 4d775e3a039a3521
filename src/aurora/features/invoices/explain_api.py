"""HTTP door to what stands behind an invoice line."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict

from aurora.db.pool import Pool
from aurora.db.transaction import transaction
from aurora.features.invoices.explaining import explain_line
from aurora.features.invoices.reading_api import actor_of
from aurora.integrations.http import Caller, caller_of, pool_of

MAX_LINE = 10_000

router = APIRouter(tags=["invoices"])

LineNumber = Annotated[int, Path(ge=1, le=MAX_LINE, description="The first is 1.")]


class DayOut(BaseModel):
    """Billable impressions of one UTC day; its raw events are at `events_path`."""

    model_config = ConfigDict(from_attributes=True)
    day: date
    billable: int
    events_path: str


class LineUsageOut(BaseModel):
    """The usage that a line was made from, as issued and as counted now."""

    model_config = ConfigDict(from_attributes=True)
    period_start: datetime
    period_end: datetime
    billable: int
    included: int | None
    counted: int
    agrees: bool
    days: list[DayOut]


class CreditedLineOut(BaseModel):
    """The line of an invoice that a line of a credit note takes back; it is explained at `path`."""

    model_config = ConfigDict(from_attributes=True)
    invoice_number: str
    line: int
    description: str
    amount: Decimal
    credited: Decimal
    path: str


class LineExplainedOut(BaseModel):
    """A line and what it was made from: the usage, or of a credit note the line it takes back."""

    model_config = ConfigDict(from_attributes=True)
    document_id: UUID
    number: str | None
    line: int
    kind: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    base_quantity: Decimal
    amount: Decimal
    period_start: date
    period_end: date
    facts: dict[str, Any]
    entered_by_hand: bool
    credits: CreditedLineOut | None
    usage: LineUsageOut | None


@router.get("/v1/invoices/{invoice_id}/lines/{line}/usage")
async def get_line_usage(
    invoice_id: UUID,
    line: LineNumber,
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
) -> LineExplainedOut:
    """Explain a line of an invoice or credit note, down to the days of usage it was made from."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        return LineExplainedOut.model_validate(await explain_line(conn, invoice_id, line))
