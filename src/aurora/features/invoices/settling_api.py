"""HTTP door to credit notes and payments: operators make them, a customer reads its own."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Actor, transaction
from aurora.features.invoices import service, settling
from aurora.features.invoices.model import (
    MAX_CREDITED_LINES,
    CreditNote,
    LineToCredit,
    PaymentMethod,
)
from aurora.features.invoices.reading_api import BILLING_SCOPE, LineOut, TaxOut, actor_of
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import NO_STORE, Caller, caller_of, pool_of

router = APIRouter(tags=["invoices"])

Amount = Annotated[Decimal, Field(gt=0, max_digits=14, decimal_places=2)]
LineAmount = Annotated[Decimal, Field(max_digits=14, decimal_places=2)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class CreditedLine(BaseModel):
    """A line to credit; without an amount, all that is left of it."""

    model_config = ConfigDict(extra="forbid")
    line: int = Field(ge=1, description="Place on the invoice, from 1.")
    amount: LineAmount | None = Field(None, description="Without VAT; the sign is the line's.")


class NewCreditNote(BaseModel):
    """What of an invoice to credit: all that is left, lines of it, or an amount without VAT."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "Outage", "amount": "200.00"}]}
    )
    reason: Text
    lines: list[CreditedLine] | None = Field(None, min_length=1, max_length=MAX_CREDITED_LINES)
    amount: Amount | None = None


class CreditNoteOut(BaseModel):
    """A credit note; amounts are positive decimal strings in major units of `currency`."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    invoice_id: UUID
    invoice_number: str
    credit_note_number: str | None
    credit_note_date: date
    issued_at: datetime | None
    reason: str
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
    status: str
    amount_allocated: Decimal
    amount_open: Decimal


class CreditNotePage(BaseModel):
    """A page of credit notes, newest first."""

    items: list[CreditNoteOut]
    next_cursor: str | None


class NewPayment(BaseModel):
    """Money that arrived; the reference makes the same arrival count once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"amount": "4375.00", "received_on": "2026-12-03", "reference": "bank 4711"}
            ]
        },
    )
    organization_id: UUID
    invoice_id: UUID | None = Field(None, description="Paid first; then the oldest open ones.")
    amount: Amount
    currency: str = Field("NOK", pattern="^[A-Z]{3}$")
    received_on: date
    reference: str = Field(min_length=1, max_length=200)
    method: PaymentMethod = "bank_transfer"


class PaymentOut(BaseModel):
    """A payment; `amount_open` waits for the customer's next invoice."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    organization_id: UUID
    received_on: date
    amount: Decimal
    currency: str
    method: str
    reference: str
    amount_allocated: Decimal
    amount_open: Decimal
    reversed_at: datetime | None
    reversal_reason: str | None


class PaymentPage(BaseModel):
    """A page of payments, newest first."""

    items: list[PaymentOut]
    next_cursor: str | None


class Reversal(BaseModel):
    """Why a payment is taken back."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "It bounced"}]}
    )
    reason: Text


class NewAllocation(BaseModel):
    """What to set off: as far as both are open, or an amount."""

    model_config = ConfigDict(extra="forbid")
    payment_id: UUID | None = None
    credit_note_id: UUID | None = None
    amount: Amount | None = None


class AllocationOut(BaseModel):
    """How much of an invoice a payment or a credit note settled; negative: taken back."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    created_at: datetime
    invoice_id: UUID
    invoice_number: str
    payment_id: UUID | None
    credit_note_id: UUID | None
    amount: Decimal


class AllocationList(BaseModel):
    """What settled an invoice, oldest first."""

    items: list[AllocationOut]


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
Cursor = Annotated[str | None, Query(max_length=600)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)]


@router.post("/v1/invoices/{invoice_id}/credit-notes", status_code=201)
async def credit_invoice(
    invoice_id: UUID, body: NewCreditNote, who: Who, pool: Database
) -> CreditNoteOut:
    """Credit an issued invoice, whole or in part, never more than it (operators)."""
    who.must_be_operator()
    lines = None
    if body.lines is not None:
        lines = [LineToCredit(line=each.line, amount=each.amount) for each in body.lines]
    async with transaction(pool, PLATFORM) as conn:
        made = await settling.credit_invoice(
            conn, invoice_id, reason=body.reason, lines=lines, amount=body.amount
        )
    return CreditNoteOut.model_validate(made)


@router.get("/v1/credit-notes")
async def list_credit_notes(
    who: Who,
    pool: Database,
    organization_id: UUID | None = None,
    invoice_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_SIZE,
) -> CreditNotePage:
    """List credit notes, newest first: an operator any or all organizations', a key its own."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        asked = await _asked(conn, who, organization_id, invoice_id)
        page = await settling.list_credit_notes(
            conn, asked, invoice_id=invoice_id, cursor=cursor, limit=limit
        )
    return CreditNotePage(
        items=[CreditNoteOut.model_validate(item) for item in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/v1/credit-notes/{credit_note_id}")
async def get_credit_note(credit_note_id: UUID, who: Who, pool: Database) -> CreditNoteOut:
    """Return one credit note: any to an operator, its own to a key."""
    return CreditNoteOut.model_validate(await _read(credit_note_id, who, pool))


@router.get(
    "/v1/credit-notes/{credit_note_id}/pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}, "description": "PDF/A-3b"}},
)
async def get_credit_note_pdf(
    credit_note_id: UUID, who: Who, pool: Database, language: Literal["nb", "en"] | None = None
) -> Response:
    """Return one credit note as PDF/A-3b, in its own language if none is named."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        note = await settling.get_credit_note(conn, credit_note_id)
        document = await service.get_document(conn, note.id)
    pdf = await service.render_document(document, language)
    disposition = f'inline; filename="{document.number or document.id}.pdf"'
    headers = {**NO_STORE, "content-disposition": disposition}
    return Response(pdf, media_type="application/pdf", headers=headers)


@router.post("/v1/payments", status_code=201)
async def enter_payment(body: NewPayment, who: Who, pool: Database) -> PaymentOut:
    """Enter money that arrived; it pays the named invoice, then the oldest (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await get_organization(conn, body.organization_id)
        made = await settling.enter_payment(conn, **body.model_dump())
    return PaymentOut.model_validate(made)


@router.get("/v1/payments")
async def list_payments(
    who: Who,
    pool: Database,
    organization_id: UUID | None = None,
    invoice_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE_SIZE,
) -> PaymentPage:
    """List payments, newest first: an operator any or all organizations', a key its own."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        asked = await _asked(conn, who, organization_id, invoice_id)
        page = await settling.list_payments(
            conn, asked, invoice_id=invoice_id, cursor=cursor, limit=limit
        )
    return PaymentPage(
        items=[PaymentOut.model_validate(item) for item in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/v1/payments/{payment_id}")
async def get_payment(payment_id: UUID, who: Who, pool: Database) -> PaymentOut:
    """Return one payment: any to an operator, its own to a key."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        return PaymentOut.model_validate(await settling.get_payment(conn, payment_id))


@router.post("/v1/payments/{payment_id}/reverse")
async def reverse_payment(payment_id: UUID, body: Reversal, who: Who, pool: Database) -> PaymentOut:
    """Take back a payment that was wrong or bounced; its invoices are open again (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        made = await settling.reverse_payment(conn, payment_id, reason=body.reason)
    return PaymentOut.model_validate(made)


@router.post("/v1/invoices/{invoice_id}/allocations", status_code=201)
async def allocate(
    invoice_id: UUID, body: NewAllocation, who: Who, pool: Database
) -> AllocationList:
    """Set what is open of a payment or a credit note off against an invoice (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await settling.allocate(conn, invoice_id, **body.model_dump())
        found = await settling.list_allocations(conn, invoice_id)
    return AllocationList(items=[AllocationOut.model_validate(each) for each in found])


@router.get("/v1/invoices/{invoice_id}/allocations")
async def list_allocations(invoice_id: UUID, who: Who, pool: Database) -> AllocationList:
    """List what settled an invoice, oldest first: any to an operator, its own to a key."""
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        found = await settling.list_allocations(conn, invoice_id)
    return AllocationList(items=[AllocationOut.model_validate(each) for each in found])


async def _asked(
    conn: Any, who: Caller, organization_id: UUID | None, invoice_id: UUID | None
) -> UUID | None:
    """Return whose documents are asked for, having found what is named."""
    asked = organization_id
    if who.kind == "key":
        asked = who.organization(organization_id, scope=BILLING_SCOPE)
    if asked is not None:
        await get_organization(conn, asked)
    if invoice_id is not None:
        await service.get_invoice(conn, invoice_id)
    return asked


async def _read(credit_note_id: UUID, who: Caller, pool: Pool) -> CreditNote:
    actor: Actor = actor_of(who)
    async with transaction(pool, actor, read_only=True) as conn:
        return await settling.get_credit_note(conn, credit_note_id)
