"""What a change of a subscription would cost, found by making it and taking it back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from aurora.core.periods import zone_of
from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.model import CreditNote, Invoice, LineItem
from aurora.features.subscriptions import service as subscriptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePreview:
    """What a change does; amounts in major units of `currency`, None where nothing is billed.

    `credit` and `charge` are without VAT; `credited_total` is what credit notes give back at once,
    with VAT, and `charged_total` what an invoice asks for at once, with VAT. Their lines are
    `credited_lines` and `charged_lines`. `subtotal`, `tax_amount`, and `total` are those of the
    next invoice, on `invoice_date`, whose lines are `lines`. Open credit settles invoices first.
    """

    effective_at: datetime
    plan_id: str
    currency: str
    credit: Decimal
    charge: Decimal
    credited_total: Decimal
    credited_lines: list[LineItem]
    charged_total: Decimal
    charged_lines: list[LineItem]
    invoice_date: date
    lines: list[LineItem]
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal


MAX_DOCUMENTS_COMPARED = 50


async def _newest(
    conn: Connection, organization_id: UUID, but: Collection[UUID] = ()
) -> tuple[list[CreditNote], list[Invoice]]:
    notes = await store.list_credit_notes(
        conn, organization_id, None, after=None, limit=MAX_DOCUMENTS_COMPARED
    )
    invoices = await store.list_invoices(
        conn, organization_id, after=None, limit=MAX_DOCUMENTS_COMPARED
    )
    return [n for n in notes if n.id not in but], [i for i in invoices if i.id not in but]


async def preview_change(
    conn: Connection, organization_id: UUID, *, plan_id: str, **change: Any
) -> ChangePreview:
    """Return what moving to a plan would do at once and to the next invoice; nothing stays changed.

    The change with its documents and the next invoice are made as they would be, and rolled back:
    so the preview is what then happens, to the øre.

    Args:
        conn: An open transaction.
        organization_id: Whose subscription.
        plan_id: The plan, in its present version.
        **change: As `subscriptions.service.change_plan` takes them.

    Raises:
        As `subscriptions.service.change_plan`, and what keeps an invoice from being drafted.
    """
    async with conn.transaction(force_rollback=True):
        notes, invoices = await _newest(conn, organization_id)
        before = {note.id for note in notes} | {each.id for each in invoices}
        effective_at = await subscriptions.change_plan(
            conn, organization_id, plan_id=plan_id, preview=True, **change
        )
        found = await subscriptions.get_subscription(conn, organization_id)
        on = found.next_billing_at.astimezone(zone_of(found.time_zone)).date()
        notes, invoices = await _newest(conn, organization_id, before)
        drafted = await store.draft_invoice(conn, found.id, as_of=on)
        invoice = None if drafted is None else await store.find_invoice(conn, drafted)
        lines = [] if invoice is None else invoice.line_items
        at_once = [line for each in invoices for line in each.line_items]
        zero = Decimal("0.00")
        return ChangePreview(
            effective_at=effective_at,
            plan_id=plan_id,
            currency=found.currency,
            credit=sum((note.subtotal for note in notes), zero)
            + sum((-line.amount for line in (*at_once, *lines) if line.kind == "credit"), zero),
            charge=sum((line.amount for line in (*at_once, *lines) if line.kind == "charge"), zero),
            credited_total=sum((note.total for note in notes), zero),
            credited_lines=[line for note in notes for line in note.line_items],
            charged_total=sum((each.total for each in invoices), zero),
            charged_lines=at_once,
            invoice_date=on,
            lines=lines,
            subtotal=zero if invoice is None else invoice.subtotal,
            tax_amount=zero if invoice is None else invoice.tax_amount,
            total=zero if invoice is None else invoice.total,
        )
