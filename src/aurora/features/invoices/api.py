"""HTTP door of the invoices room."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import transaction
from aurora.features.invoices import billing_run, impressions_api, preview_api, service
from aurora.features.invoices.drafting_api import router as drafting_router
from aurora.features.invoices.explain_api import router as explain_router
from aurora.features.invoices.model import Invoice, SalesDocument
from aurora.features.invoices.overdue_api import router as overdue_router
from aurora.features.invoices.reading_api import BILLING_SCOPE, InvoiceOut, actor_of
from aurora.features.invoices.seller_api import router as seller_router
from aurora.features.invoices.settling_api import router as settling_router
from aurora.features.organizations.service import get_organization
from aurora.integrations.http import NO_STORE, Caller, caller_of, pool_of

router = APIRouter(tags=["invoices"])
router.include_router(drafting_router)
router.include_router(settling_router)
router.include_router(explain_router)
router.include_router(seller_router)
router.include_router(overdue_router)


class InvoicePage(BaseModel):
    """A page of invoices, newest first."""

    items: list[InvoiceOut]
    next_cursor: str | None


class NewBillingRun(BaseModel):
    """A billing run to make."""

    model_config = ConfigDict(extra="forbid")
    as_of: date = Field(description="Bill every billing moment on or before this day.")
    organization_id: UUID | None = None
    dry_run: bool = False


class IssuedOut(BaseModel):
    """An invoice that a run issued."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    invoice_number: str
    organization_id: UUID
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str


class FailedOut(BaseModel):
    """A subscription that a run could not bill; its period did not move."""

    model_config = ConfigDict(from_attributes=True)
    subscription_id: UUID
    code: str
    detail: str


class BillingRunOut(BaseModel):
    """What a billing run did."""

    model_config = ConfigDict(from_attributes=True)
    as_of: date
    dry_run: bool
    issued: list[IssuedOut]
    nothing_owed: int
    failed: list[FailedOut]
    waiting: int


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.get("/v1/invoices")
async def list_invoices(
    who: Who,
    pool: Database,
    organization_id: UUID | None = None,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> InvoicePage:
    """List invoices, newest first: an operator any or all organizations', a key its own."""
    organization = organization_id
    if who.kind == "key":
        organization = who.organization(organization_id, scope=BILLING_SCOPE)
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        if organization is not None:
            await get_organization(conn, organization)
        page = await service.list_invoices(conn, organization, cursor=cursor, limit=limit)
    return InvoicePage(
        items=[InvoiceOut.model_validate(item) for item in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/v1/invoices/{invoice_id}")
async def get_invoice(invoice_id: UUID, who: Who, pool: Database) -> InvoiceOut:
    """Return one invoice: any to an operator, its own to a key."""
    return InvoiceOut.model_validate(await _read(invoice_id, who, pool))


@router.get(
    "/v1/invoices/{invoice_id}/pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {}}, "description": "PDF/A-3b"}},
)
async def get_invoice_pdf(
    invoice_id: UUID, who: Who, pool: Database, language: Literal["nb", "en"] | None = None
) -> Response:
    """Return one invoice or credit note as PDF/A-3b, in its own language if none is named."""
    document = await _read_document(invoice_id, who, pool)
    pdf = await service.render_document(document, language)
    name = document.number or f"draft-{document.id}"
    return _file(pdf, "application/pdf", f"{name}.pdf")


@router.get(
    "/v1/invoices/{invoice_id}/ehf",
    response_class=Response,
    responses={200: {"content": {"application/xml": {}}, "description": "UBL 2.1"}},
)
async def get_invoice_ehf(invoice_id: UUID, who: Who, pool: Database) -> Response:
    """Return one issued invoice or credit note as EHF 3 (Peppol BIS Billing 3.0)."""
    document = await _read_document(invoice_id, who, pool)
    return _file(service.write_ehf(document), "application/xml", f"{document.number}.xml")


@router.post("/v1/billing/runs")
async def run_billing(body: NewBillingRun, who: Who, pool: Database) -> BillingRunOut:
    """Bill every subscription that is due (operators); safe to send again after a lost answer."""
    who.must_be_operator("billing:run")
    return BillingRunOut.model_validate(await billing_run.run_billing(pool, **body.model_dump()))


def _file(content: bytes, media_type: str, name: str) -> Response:
    disposition = f'inline; filename="{name}"'
    return Response(
        content,
        media_type=media_type,
        headers={**NO_STORE, "content-disposition": disposition},
    )


async def _read_document(document_id: UUID, who: Caller, pool: Pool) -> SalesDocument:
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        return await service.get_document(conn, document_id)


async def _read(invoice_id: UUID, who: Caller, pool: Pool) -> Invoice:
    async with transaction(pool, actor_of(who), read_only=True) as conn:
        return await service.get_invoice(conn, invoice_id)


router.include_router(impressions_api.router)
router.include_router(preview_api.router)
