"""Invoices: the document, its lines, and its VAT."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from aurora.core.errors import AuroraError, Conflict, Invalid, NotFound
from aurora.features.invoices import refusals as refusals  # noqa: PLC0414 - their codes are ours
from aurora.features.invoices.entered import BillingProfile as BillingProfile  # noqa: PLC0414
from aurora.features.invoices.entered import DraftChanges as DraftChanges  # noqa: PLC0414
from aurora.features.invoices.entered import EnteredLine as EnteredLine  # noqa: PLC0414
from aurora.features.invoices.entered import EnteredRate as EnteredRate  # noqa: PLC0414
from aurora.features.invoices.lines import LineItem as LineItem  # noqa: PLC0414 - part of the model
from aurora.features.invoices.lines import TaxLine as TaxLine  # noqa: PLC0414
from aurora.features.invoices.lines import with_lines
from aurora.features.invoices.runs import BillingRun as BillingRun  # noqa: PLC0414
from aurora.features.invoices.runs import BillingStep as BillingStep  # noqa: PLC0414
from aurora.features.invoices.runs import FailedBill as FailedBill  # noqa: PLC0414
from aurora.features.invoices.runs import IssuedInvoice as IssuedInvoice  # noqa: PLC0414
from aurora.features.invoices.sales_document import DocumentRow as DocumentRow  # noqa: PLC0414
from aurora.features.invoices.sales_document import SalesDocument as SalesDocument  # noqa: PLC0414
from aurora.features.organizations.model import Logo as Logo  # noqa: PLC0414 - the seller's is one

MonthKind = Literal["billing_period", "calendar_month"]
InvoiceStatus = Literal["draft", "issued", "sent", "paid", "credited", "overdue", "void"]
PaymentMethod = Literal["bank_transfer", "card", "invoice"]
MAX_CREDITED_LINES = 500
MAX_ENTERED_LINES = 1_000
MAX_NOTES = 20
MAX_NOTE_LENGTH = 500
MAX_MONTHS_SIMULATED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A sales document with seller and buyer as they were; amounts in major units of `currency`."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    subscription_id: UUID | None
    kind: str
    invoice_number: str | None
    invoice_date: date
    due_date: date
    issued_at: datetime | None
    kid: str | None
    period_start: date
    period_end: date
    subtotal: Decimal
    tax_amount: Decimal
    total: Decimal
    currency: str
    line_items: list[LineItem]
    tax_lines: list[TaxLine]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    status: InvoiceStatus
    paid_at: datetime | None
    sent_at: datetime | None
    amount_credited: Decimal
    amount_settled: Decimal
    amount_due: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceRow(Invoice):
    """An invoice as its row gives it: lines and VAT are JSON text, so that no figure is a float."""

    line_items: str  # type: ignore[assignment]
    tax_lines: str  # type: ignore[assignment]

    def parsed(self) -> Invoice:
        """Return the invoice with its lines as structures."""
        return with_lines(self, Invoice)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigure:
    """Billable impressions of a UTC day."""

    day: date
    billable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """An issued document as it is and as the stored facts give it now, both as canonical JSON."""

    id: UUID
    organization_id: UUID
    number: str
    kind: str
    issued: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """What corrects an invoice; amounts are positive, in major units of `currency`.

    `amount_open` waits for the customer's next invoice; the rest is set off.
    """

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
    line_items: list[LineItem]
    tax_lines: list[TaxLine]
    seller: dict[str, Any]
    buyer: dict[str, Any]
    status: Literal["draft", "issued", "sent"]
    amount_allocated: Decimal
    amount_open: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteRow(CreditNote):
    """A credit note as its row gives it: lines and VAT are JSON text, so no figure is a float."""

    line_items: str  # type: ignore[assignment]
    tax_lines: str  # type: ignore[assignment]

    def parsed(self) -> CreditNote:
        """Return the credit note with its lines as structures."""
        return with_lines(self, CreditNote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money that arrived; `amount_open` waits for the customer's next invoice."""

    id: UUID
    created_at: datetime
    organization_id: UUID
    received_on: date
    amount: Decimal
    currency: str
    method: PaymentMethod
    reference: str
    amount_allocated: Decimal
    amount_open: Decimal
    reversed_at: datetime | None
    reversal_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How much of an invoice a payment or a credit note settled; negative: taken back."""

    id: int
    created_at: datetime
    organization_id: UUID
    invoice_id: UUID
    invoice_number: str
    payment_id: UUID | None
    credit_note_id: UUID | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class LineToCredit:
    """A line of an invoice (from 1), and how much of it without VAT; None: all that is left."""

    line: int
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """A line of a bill that nobody was sent: what calculate_monthly_bill() says."""

    line_number: int
    kind: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    base_quantity: Decimal
    amount: Decimal
    period_start: datetime
    period_end: datetime
    impressions: int | None
    included: int | None
    tax_code: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpressionMonth:
    """Impressions of a month, [period_start, period_end); amounts without VAT, in major units.

    Attributes:
        impressions: All that were shown, also with test keys.
        billable: Those that count.
        included: None where nothing limits them; so is `overage`.
        usage_amount: What billable impressions come to now; of a billing period only.
        billed_amount: What was asked for them, with what was corrected since; None until then.
    """

    period_start: datetime
    period_end: datetime
    impressions: int
    billable: int
    included: int | None
    overage: int | None
    usage_amount: Decimal | None
    billed_amount: Decimal | None
    currency: str | None

    @property
    def pending_amount(self) -> Decimal | None:
        """Return what came or was taken back since; the next bill corrects it."""
        if self.usage_amount is None or self.billed_amount is None:
            return None
        return self.usage_amount - self.billed_amount


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalEntity:
    """Who sells: what stands on every document."""

    id: str
    is_specimen: bool
    name: str
    org_number: str
    vat_registered: bool
    in_business_register: bool
    address: str
    postal_code: str
    city: str
    country: str
    email: str
    phone: str | None
    website: str | None
    bank_account: str | None
    iban: str | None
    bic: str | None
    payment_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCustomer:
    """What a customer paid in `months` months, and would have paid; without VAT and coupons."""

    organization_id: UUID
    slug: str
    plan_id: str
    currency: str
    months: int
    billable: Decimal
    paid: Decimal
    would_pay: Decimal
    difference: Decimal
    fee: Decimal
    usage: Decimal
    new_fee: Decimal
    new_usage: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What all customers paid and would have paid, in major units of `currency`."""

    plan_id: str
    currency: str
    customers: list[SimulatedCustomer]
    paid: Decimal
    would_pay: Decimal
    difference: Decimal


class InvoiceNotFound(NotFound):
    """No such invoice, or not one that the caller may see."""

    code, title = "invoice_not_found", "There is no such invoice"


class InvoiceNumberTaken(Conflict):
    """The number is another invoice's."""

    code, title = "invoice_number_taken", "Another invoice has this number"
    constraints = ("invoices_number_key",)


class AlreadyBilled(Conflict):
    """The billing moment was billed before."""

    code, title = "already_billed", "This billing moment was billed already"
    constraints = ("invoices_subscription_billed_key",)


class InvoiceImmutable(Conflict):
    """An issued document is neither changed nor deleted."""

    code = "invoice_immutable"
    title = "An issued invoice is never changed; it is corrected by a credit note"


class InvoiceNotDraft(Conflict):
    """Only drafts are issued."""

    code, title = "invoice_not_draft", "Only a draft can be issued"


class SellerMissing(Conflict):
    """Nobody is entered who sells."""

    code, title = "seller_missing", "No seller is entered: use aurora invoice seller"


class BillingMomentInvalid(Invalid):
    """A bill is asked for a moment at which none is made."""

    code, title = "billing_moment_invalid", "Bills are made where a billing month begins"


class BillFailed(AuroraError):
    """The database refused the bill for a reason that no error of ours stands for."""

    code, title = "bill_failed", "The bill could not be made; the log says why"


class AsOfInFuture(Invalid):
    """Nothing is invoiced before its day."""

    code, title = "as_of_in_future", "Bills are not made for days to come"


class CreditNoteNotFound(NotFound):
    """No such credit note, or not one that the caller may see."""

    code, title = "credit_note_not_found", "There is no such credit note"


class PaymentNotFound(NotFound):
    """No such payment, or not one that the caller may see."""

    code, title = "payment_not_found", "There is no such payment"


class MonthsInvalid(Invalid):
    """So many months cannot be replayed."""

    code, title = "months_invalid", "So many months cannot be replayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverduePolicy:
    """What follows for invoices due from a day on; days are counted from the due date.

    Attributes:
        suspend_days: None where nobody is suspended.
    """

    valid_from: date
    reminder_days: list[int]
    suspend_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chased:
    """How many reminders were sent, and organizations suspended and made active again."""

    reminded: int
    suspended: int
    reactivated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueInvoice:
    """An invoice whose due date has passed; `amount_due` in major units with VAT."""

    slug: str
    invoice_number: str
    due_date: date
    days_late: int
    amount_due: Decimal
    currency: str
    reminders: int
    suspended: bool
    exempt: bool
