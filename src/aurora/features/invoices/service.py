"""Reading invoices, rendering them, and the seller who stands on them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aurora.core.money import Language
from aurora.core.paging import Page, decode_cursor, page_of
from aurora.core.taxids import check_org_number
from aurora.db.transaction import Connection
from aurora.features.invoices import store
from aurora.features.invoices.document import invoice_pdf_async
from aurora.features.invoices.model import (
    BillLine,
    Invoice,
    InvoiceNotFound,
    LegalEntity,
    SalesDocument,
    SellerMissing,
)
from aurora.features.invoices.refusals import SellerIncomplete
from aurora.features.invoices.rendering import attachments_of, ehf_of, printed
from aurora.features.organizations.model import Logo, LogoNotFound
from aurora.integrations.pictures import Picture

DEFAULT_SELLER = "default"
DELIVER_BATCH = 500
_IDENTITY: Final = ("name", "org_number", "address", "postal_code", "city", "email")
_ACCOUNTS: Final = ("bank_account", "iban")
_SPECIMENS_OWN: Final = (*_IDENTITY, *_ACCOUNTS, "website", "phone", "bic")
OVERDUE_BATCH = 10_000


async def get_invoice(conn: Connection, which: UUID | str) -> Invoice:
    """Return one invoice by id or number.

    Raises:
        InvoiceNotFound: There is none, or the caller may not see it.
    """
    found = (
        await store.find_invoice(conn, which)
        if isinstance(which, UUID)
        else await store.find_invoice_by_number(conn, which)
    )
    if found is None:
        raise InvoiceNotFound
    return found


async def list_invoices(
    conn: Connection, organization_id: UUID | None, *, cursor: str | None, limit: int
) -> Page[Invoice]:
    """Return a page of invoices, newest first; of all organizations where none is named."""
    after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
    found = await store.list_invoices(conn, organization_id, after=after, limit=limit + 1)
    return page_of(found, limit, lambda row: (row.created_at, row.id))


async def preview_bill(conn: Connection, organization_id: UUID) -> list[BillLine]:
    """Return what the next bill would say if it were made now.

    Raises:
        SubscriptionNotFound: The organization has no subscription.
    """
    return await store.list_bill_lines(conn, organization_id)


async def get_document(conn: Connection, which: UUID | str) -> SalesDocument:
    """Return one invoice or credit note by id or number, as it is printed and sent.

    Raises:
        InvoiceNotFound: There is none, or the caller may not see it.
    """
    found = (
        await store.find_document(conn, which)
        if isinstance(which, UUID)
        else await store.find_document_by_number(conn, which)
    )
    if found is None:
        raise InvoiceNotFound
    return found


async def render_document(document: SalesDocument, language: Language | None = None) -> bytes:
    """Return a document as PDF/A-3b with its EHF file in it; the same document, the same bytes.

    Args:
        document: An invoice or credit note; a draft is marked as one and has no EHF file.
        language: Of the page; by default the document's own.
    """
    return await invoice_pdf_async(
        printed(document, language or document.language),
        language or document.language,
        attachments=attachments_of(document),
    )


def write_ehf(document: SalesDocument) -> bytes:
    """Return a document as EHF 3 (Peppol BIS Billing 3.0); the same document, the same bytes.

    Raises:
        InvoiceNotIssued: It is a draft, or void.
        EInvoiceBlocked: Seller or buyer has no address in the Peppol network.
    """
    return ehf_of(document)


async def deliver_invoice(conn: Connection, invoice_id: UUID) -> int:
    """Tell the organization's admins of an invoice, and mark it sent; return how many were told."""
    return await store.deliver_invoice(conn, invoice_id)


async def deliver_credit_notes(conn: Connection) -> int:
    """Tell admins of a bounded number of credit notes; return how many were sent."""
    return await store.deliver_credit_notes(conn, DELIVER_BATCH)


async def mark_overdue(conn: Connection) -> int:
    """Mark a bounded number of invoices whose due date has passed; return how many."""
    return await store.mark_overdue(conn, OVERDUE_BATCH)


async def get_seller(conn: Connection, legal_entity_id: str = DEFAULT_SELLER) -> LegalEntity:
    """Return who sells.

    Raises:
        SellerMissing: Nobody is entered, or nobody of that id.
    """
    found = await store.find_legal_entity(conn, legal_entity_id)
    if found is None and legal_entity_id != DEFAULT_SELLER:
        raise SellerMissing(f"No seller {legal_entity_id!r} is entered.")
    if found is None:
        raise SellerMissing
    return found


async def enter_seller(conn: Connection, **changes: object) -> LegalEntity:
    """Enter the real seller; fields that are not named stay as they are.

    Nothing that tells who somebody is stays of the specimen: it is nobody's.

    Raises:
        OrgNumberInvalid: The organization number's check digit is wrong.
        SellerIncomplete: The specimen's place is taken by somebody without a name or an account.
        SellerMissing: The database holds no seller to change.
    """
    fields: dict[str, Any] = asdict(await get_seller(conn))
    if fields["is_specimen"]:
        fields.update(dict.fromkeys(_SPECIMENS_OWN))
    fields.update({name: value for name, value in changes.items() if value is not None})
    lacking = [name for name in _IDENTITY if not fields[name]]
    if not any(fields[name] for name in _ACCOUNTS):
        lacking.append(" or ".join(_ACCOUNTS))
    if lacking:
        raise SellerIncomplete(f"Still missing: {', '.join(lacking)}.")
    fields["org_number"] = check_org_number(fields["org_number"], fields["country"])
    fields["legal_entity_id"] = fields.pop("id")
    del fields["is_specimen"]
    return await store.update_legal_entity(conn, **fields)


async def set_seller_logo(conn: Connection, picture: Picture | None) -> str | None:
    """Give the seller a logo, or none; documents that were made keep the one they show.

    Args:
        conn: An open transaction of the platform.
        picture: What `aurora.features.organizations.logos.draw_logo` returned.

    Returns:
        The SHA-256 by which documents name it.

    Raises:
        SellerMissing: Nobody is entered.
    """
    kept = Picture(b"", 0, 0) if picture is None else picture
    return await store.set_seller_logo(
        conn,
        legal_entity_id=DEFAULT_SELLER,
        content=kept.content or None,
        width=kept.width,
        height=kept.height,
    )


async def get_seller_logo(conn: Connection) -> Logo:
    """Return the logo that the seller has now.

    Raises:
        LogoNotFound: None is set.
    """
    found = await store.find_seller_logo(conn, DEFAULT_SELLER)
    if found is None:
        raise LogoNotFound
    return found
