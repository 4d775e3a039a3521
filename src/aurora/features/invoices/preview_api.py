"""HTTP door to previews: what a change would give back, ask for, and put on which document."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices.change_preview import preview_change
from aurora.features.invoices.reading_api import LineOut
from aurora.features.organizations.service import place_of
from aurora.features.subscriptions.model import PlanChange
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["subscriptions"])


class PreviewOut(BaseModel):
    """What a change does; `credit` and `charge` are without VAT, the totals with it.

    `credited_…` is what credit notes give back at once, `charged_…` what an invoice asks for at
    once; the rest is the next invoice.
    """

    model_config = ConfigDict(from_attributes=True)
    effective_at: datetime
    plan_id: str
    currency: str
    credit: Decimal
    charge: Decimal
    credited_total: Decimal
    credited_lines: list[LineOut]
    charged_total: Decimal
    charged_lines: list[LineOut]
    invoice_date: date
    lines: list[LineOut]
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal


@router.post("/v1/organizations/{organization_id}/subscription/preview")
async def preview(
    organization_id: UUID,
    body: PlanChange,
    who: Annotated[Caller, Depends(caller_of)],
    pool: Annotated[Pool, Depends(pool_of)],
) -> PreviewOut:
    """Show what a change would do, with VAT; nothing stays changed (admins)."""
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be("admin")
        return PreviewOut.model_validate(
            await preview_change(conn, organization_id, **body.asked(who))
        )
