"""From a line of an invoice to the figures behind it, and from those back to the whole invoice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any, ClassVar, Final
from uuid import UUID

import msgspec

from aurora.core.errors import NotFound
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.invoices import store
from aurora.features.invoices.model import InvoiceNotFound, LineItem, Replayed, SalesDocument
from aurora.features.invoices.service import get_document

REPLAYED_AT_ONCE: Final = 50
"""Documents of one read-only transaction of a replay of all."""


class InvoiceLineNotFound(NotFound):
    """The document has no line with that number."""

    code: ClassVar[str] = "invoice_line_not_found"
    title: ClassVar[str] = "The invoice has no such line"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfUsage:
    """What one UTC day gave to a line.

    Attributes:
        billable: Billable impressions of the hours of that day that the line covers.
        events_path: Where the raw events of the day are, over HTTP.
    """

    day: date
    billable: int
    events_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineUsage:
    """The usage that a line was made from.

    Attributes:
        period_start: The first moment counted.
        period_end: The first moment not counted.
        billable: Billable impressions as the line says.
        included: None where the line corrects a month, and is the difference alone.
        counted: The same, counted now from the hours that are kept.
        agrees: Whether both are the same number.
    """

    period_start: datetime
    period_end: datetime
    billable: int
    included: int | None
    counted: int
    agrees: bool
    days: list[DayOfUsage]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditedLine:
    """The line of an invoice that a line of a credit note takes back, or a part of it.

    Attributes:
        amount: Of that line, in major units without VAT.
        credited: Of it, by all credit notes together.
        path: Where it is explained, over HTTP.
    """

    invoice_number: str
    line: int
    description: str
    amount: Decimal
    credited: Decimal
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineExplained:
    """One line of an issued document and what it was made from; amounts in major units.

    Attributes:
        entered_by_hand: Somebody wrote the line; the audit says who. False where it follows from
            a subscription, and of credit notes.
        credits: For lines of credit notes; None on an invoice.
        usage: For lines of usage; None for fees, discounts, and lines that somebody wrote.
    """

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
    credits: CreditedLine | None
    usage: LineUsage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure that is not what the stored facts give; line 0 is the document itself."""

    line: int
    field: str
    issued: Any
    replayed: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """An issued invoice or credit note beside what the stored facts give now."""

    number: str
    organization_id: UUID
    kind: str
    matches: bool
    differences: list[Difference]


async def explain_line(conn: Connection, which: UUID | str, line: int) -> LineExplained:
    """Follow a line of an invoice or credit note (from 1) to the days of usage behind it.

    Raises:
        InvoiceNotFound: There is no such document, or the caller may not see it.
        InvoiceLineNotFound: It has no such line.
    """
    document = await get_document(conn, which)
    if not 1 <= line <= len(document.line_items):
        raise InvoiceLineNotFound(f"It has {len(document.line_items)} lines, and no line {line}.")
    found = document.line_items[line - 1]
    return LineExplained(
        document_id=document.id,
        number=document.number,
        line=line,
        kind=found.kind,
        description=found.description,
        quantity=found.quantity,
        unit=found.unit,
        unit_price=found.unit_price,
        base_quantity=found.base_quantity,
        amount=found.amount,
        period_start=found.period_start,
        period_end=found.period_end,
        facts=found.facts,
        entered_by_hand=document.kind == "invoice" and found.kind == "manual",
        credits=await _credited_by(conn, document, found),
        usage=await _usage_of(conn, document.organization_id, found),
    )


async def replay_document(conn: Connection, which: str) -> Replay:
    """Compute an issued invoice or credit note anew from the facts, and compare it byte for byte.

    Lines of a subscription come from the terms, the usage, the changes, and the coupons as they
    are stored now; lines that somebody wrote from their quantities and prices. VAT comes from the
    lines, the parties on the document, and the dated rates. Usage that arrived after the invoice
    is a difference too: it is what the next adjustment is about.

    A credit note comes from its invoice, the credit notes before it, and what was asked for, which
    for a change of a subscription is the change itself.

    Raises:
        InvoiceNotFound: There is no issued document with that number.
    """
    document = await get_document(conn, which)
    if document.kind == "credit_note":
        rows = await store.list_replayed_credit_notes(
            conn, after=None, limit=1, credit_note_id=document.id
        )
    else:
        rows = await store.list_replayed(conn, after=None, limit=1, invoice_id=document.id)
    if not rows:
        raise InvoiceNotFound("Only what was issued is replayed.")
    return _compared(rows[0])


async def replay_all(pool: Pool) -> AsyncIterator[Replay]:
    """Replay every issued invoice, and then every issued credit note, by their ids."""

    async def invoices(conn: Connection, after: UUID | None) -> list[Replayed]:
        return await store.list_replayed(conn, after=after, limit=REPLAYED_AT_ONCE, invoice_id=None)

    async def credit_notes(conn: Connection, after: UUID | None) -> list[Replayed]:
        return await store.list_replayed_credit_notes(
            conn, after=after, limit=REPLAYED_AT_ONCE, credit_note_id=None
        )

    for page_of in (invoices, credit_notes):
        after: UUID | None = None
        while True:
            async with transaction(pool, PLATFORM, read_only=True) as conn:
                rows = await page_of(conn, after)
            for row in rows:
                yield _compared(row)
            if len(rows) < REPLAYED_AT_ONCE:
                break
            after = rows[-1].id


async def _credited_by(
    conn: Connection, document: SalesDocument, line: LineItem
) -> CreditedLine | None:
    if line.credits_line is None or document.credited_number is None:
        return None
    invoice = await get_document(conn, document.credited_number)
    credited = await store.get_credited(conn, invoice.id, line.credits_line)
    charged = invoice.line_items[line.credits_line - 1]
    return CreditedLine(
        invoice_number=document.credited_number,
        line=line.credits_line,
        description=charged.description,
        amount=charged.amount,
        credited=credited,
        path=f"/v1/invoices/{invoice.id}/lines/{line.credits_line}/usage",
    )


async def _usage_of(conn: Connection, organization_id: UUID, line: LineItem) -> LineUsage | None:
    usage = line.facts.get("usage")
    if usage is None:
        return None
    start = datetime.fromisoformat(usage["from"])
    end = datetime.fromisoformat(usage["to"])
    days = await store.list_billable_days(conn, organization_id, start, end)
    counted = sum(each.billable for each in days)
    return LineUsage(
        period_start=start,
        period_end=end,
        billable=usage["billable"],
        included=usage.get("included"),
        counted=counted,
        agrees=counted == usage["billable"],
        days=[
            DayOfUsage(
                day=each.day,
                billable=each.billable,
                events_path=f"/v1/usage/days/{each.day}/events?organization_id={organization_id}",
            )
            for each in days
        ],
    )


def _compared(row: Replayed) -> Replay:
    differences = [] if row.issued == row.replayed else _differences(row.issued, row.replayed)
    return Replay(
        number=row.number,
        organization_id=row.organization_id,
        kind=row.kind,
        matches=row.issued == row.replayed,
        differences=differences,
    )


def _differences(issued: str, replayed: str) -> list[Difference]:
    """Name the figures that differ; both are the canonical text of the same structure."""
    # Figures are kept as they are written: 1.0 and 1.00 are other bytes.
    before, after = _figures(issued), _figures(replayed)
    found: list[Difference] = []
    old_lines: list[dict[str, Any]] = before.pop("lines")
    new_lines: list[dict[str, Any]] = after.pop("lines")
    nothing: dict[str, Any] = {}
    lines = zip_longest(old_lines, new_lines, fillvalue=nothing)
    for number, (old, new) in enumerate([(before, after), *lines]):
        found += [
            Difference(line=number, field=field, issued=old.get(field), replayed=new.get(field))
            for field in sorted(old.keys() | new.keys())
            if old.get(field) != new.get(field)
        ]
    return found


def _figures(text: str) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.Decoder(dict[str, Any], float_hook=str).decode(text)
    return decoded | {"lines": decoded.get("lines") or []}
