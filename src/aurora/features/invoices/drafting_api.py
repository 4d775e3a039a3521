"""HTTP door to invoices that somebody writes: operators draft, change, issue, and void them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import drafting
from aurora.features.invoices.model import (
    MAX_ENTERED_LINES,
    MAX_NOTE_LENGTH,
    MAX_NOTES,
    DraftChanges,
    EnteredLine,
)
from aurora.features.invoices.reading_api import InvoiceOut, LineOut, TaxOut
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["invoices"])

Figure = Annotated[Decimal, Field(ge=0, max_digits=16, decimal_places=6)]
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE_LENGTH)]
EXAMPLE: Final[JsonDict] = {
    "lines": [{"description": "Onboarding, two days", "quantity": "2", "unit_price": "9500.00"}]
}


class NewLine(BaseModel):
    """A line; the price is for `base_quantity` units, without VAT."""

    model_config = ConfigDict(extra="forbid")
    description: str = Field(min_length=1, max_length=1_000)
    quantity: Figure = Decimal(1)
    unit_price: Figure
    unit: str | None = Field(
        None,
        min_length=1,
        max_length=40,
        description="month, year, day, hour, thousand, package, each, or a word of your own.",
    )
    base_quantity: Figure | None = Field(None, description="What the price is for; 1.")
    tax_code: str | None = Field(
        None,
        pattern="^[a-z][a-z0-9_]{0,40}$",
        description="What is sold: standard, reduced_15, reduced_12, or zero.",
    )
    period_start: date | None = Field(None, description="By default the day of the invoice.")
    period_end: date | None = Field(None, description="The last day, included.")


Lines = Annotated[list[NewLine], Field(min_length=1, max_length=MAX_ENTERED_LINES)]
Notes = Annotated[list[Note], Field(max_length=MAX_NOTES)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
InvoiceDate = Annotated[date | None, Field(description="By default the day on which it is issued.")]


class NewInvoice(BaseModel):
    """An invoice that somebody writes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})
    organization_id: UUID
    lines: Lines
    currency: Currency = "NOK"
    invoice_date: InvoiceDate = None
    notes: Notes = []


class DraftChange(BaseModel):
    """What is to change of a draft; what is not named stays, and `lines` replaces all of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})
    lines: Lines = []
    currency: Currency = "NOK"
    invoice_date: InvoiceDate = None
    notes: Notes = []


class ObstacleOut(BaseModel):
    """What would keep it from being issued: the refusal that would be met."""

    model_config = ConfigDict(from_attributes=True)
    code: str
    detail: str


class InvoicePreviewOut(BaseModel):
    """An invoice as it would be; nothing of it is kept."""

    model_config = ConfigDict(from_attributes=True)
    invoice_date: date
    due_date: date
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    line_items: list[LineOut]
    tax_lines: list[TaxOut]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    obstacle: ObstacleOut | None = None


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.post("/v1/invoices", status_code=201)
async def draft_invoice(body: NewInvoice, who: Who, pool: Database) -> InvoiceOut:
    """Draft an invoice of lines you write; it gets its number when it is issued (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await get_organization(conn, body.organization_id)
        made = await drafting.draft_invoice(conn, body.organization_id, **_entered(body))
    return InvoiceOut.model_validate(made)


@router.post("/v1/invoices/preview")
async def preview_invoice(body: NewInvoice, who: Who, pool: Database) -> InvoicePreviewOut:
    """Show an invoice with its VAT, and what would keep it from being issued (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await get_organization(conn, body.organization_id)
        seen = await drafting.preview_draft(conn, body.organization_id, **_entered(body))
    shown = InvoicePreviewOut.model_validate(seen.invoice)
    if seen.obstacle is not None:
        shown.obstacle = ObstacleOut.model_validate(seen.obstacle)
    return shown


@router.patch("/v1/invoices/{invoice_id}")
async def change_draft(invoice_id: UUID, body: DraftChange, who: Who, pool: Database) -> InvoiceOut:
    """Change what is named of a draft, and compute it anew (operators)."""
    who.must_be_operator()
    named = {
        field: value for field, value in _entered(body).items() if field in body.model_fields_set
    }
    async with transaction(pool, PLATFORM) as conn:
        made = await drafting.change_draft(conn, invoice_id, DraftChanges(**named))
    return InvoiceOut.model_validate(made)


@router.post("/v1/invoices/{invoice_id}/issue")
async def issue_draft(invoice_id: UUID, who: Who, pool: Database) -> InvoiceOut:
    """Give a draft the next number of its series; from then on it never changes (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        made = await drafting.issue_draft(conn, invoice_id)
    return InvoiceOut.model_validate(made)


@router.post("/v1/invoices/{invoice_id}/void")
async def void_draft(invoice_id: UUID, who: Who, pool: Database) -> InvoiceOut:
    """Put a draft aside; what has a number can only be credited (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        made = await drafting.void_draft(conn, invoice_id)
    return InvoiceOut.model_validate(made)


def _entered(body: NewInvoice | DraftChange) -> dict[str, Any]:
    """Return the fields as the service takes them."""
    fields = body.model_dump(exclude={"organization_id"})
    fields["lines"] = [msgspec.convert(line, EnteredLine) for line in fields["lines"]]
    return fields
