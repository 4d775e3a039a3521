"""What the invoices room refuses, and the codes it says so with."""

from __future__ import annotations

from aurora.core.errors import Conflict, Invalid
from aurora.features.einvoices.model import EInvoiceBlocked as EInvoiceBlocked  # noqa: PLC0414
from aurora.features.subscriptions.model import (
    SubscriptionNotFound as SubscriptionNotFound,  # noqa: PLC0414
)


class InvoiceNotIssued(Conflict):
    """A draft or void invoice is asked to do what only an issued one does."""

    code, title = "invoice_not_issued", "Only an issued invoice can be credited or settled"


class CreditExceedsInvoice(Conflict):
    """Credit notes together are never more than their invoice."""

    code, title = "credit_exceeds_invoice", "No more can be credited than the invoice says"
    constraints = ("invoices_credited_check",)


class CreditInvalid(Invalid):
    """The lines or the amount of a credit make no sense."""

    code, title = "credit_invalid", "That cannot be credited"
    constraints = ("credit_notes_reason_check",)


class AllocationInvalid(Invalid):
    """More is to be set off than is open, or another customer's or currency's."""

    code, title = "allocation_invalid", "That cannot be set off"
    constraints = (
        "invoices_settled_check",
        "credit_notes_allocated_check",
        "payments_allocated_check",
    )


class PaymentInvalid(Invalid):
    """The payment has a wrong amount, day, or state."""

    code, title = "payment_invalid", "That is not a payment"
    constraints = (
        "payments_reference_check",
        "payments_method_check",
        "payments_amount_check",
    )


class PaymentTaken(Conflict):
    """The same arrival of money is entered twice."""

    code, title = "payment_taken", "A payment with this reference was entered already"
    constraints = ("payments_reference_key",)


class TaxRateMissing(Conflict):
    """The dated table of VAT rates has no row."""

    code, title = "tax_rate_missing", "No VAT rate is entered for the day"


class ExchangeRateMissing(Conflict):
    """VAT is stated in NOK, and nobody has entered the rate."""

    code, title = "exchange_rate_missing", "No exchange rate is entered for the day"


class ExchangeRateInvalid(Invalid):
    """A rate is above zero, of a known currency, with a source."""

    code, title = "exchange_rate_invalid", "That is not an exchange rate"
    constraints = (
        "exchange_rates_nok_check",
        "exchange_rates_currency_check",
        "exchange_rates_source_check",
    )


class LateInterestRateMissing(Conflict):
    """The dated table of late interest has no row."""

    code, title = "late_interest_rate_missing", "No late interest is entered for the day"


class LateInterestRateInvalid(Invalid):
    """A rate is 0 to 100 percent a year, with a source."""

    code, title = "late_interest_rate_invalid", "That is not a rate of late interest"
    constraints = (
        "late_interest_rates_yearly_rate_check",
        "late_interest_rates_source_check",
    )


class OrganizationOverdue(Conflict):
    """Only payment or an exemption ends a suspension for what is owed."""

    code, title = "organization_overdue", "The organization is suspended for what it owes"


class OverduePolicyInvalid(Invalid):
    """Reminders come 1 to 365 days after the due date, and a suspension after the last of them."""

    code, title = "overdue_policy_invalid", "The overdue policy makes no sense"
    constraints = (
        "overdue_policies_reminder_days_check",
        "overdue_policies_suspend_days_check",
        "overdue_exemptions_reason_check",
    )


class InvoiceLineInvalid(Invalid):
    """A line lacks a description, or has an impossible quantity or price."""

    code, title = "invoice_line_invalid", "A line of the invoice makes no sense"


class InvoiceNotEntered(Conflict):
    """The lines of a subscription's draft are nobody's to write."""

    code, title = "invoice_not_entered", "Only a draft that somebody wrote can be changed"


class InvoiceDateInFuture(Invalid):
    """An invoice is issued on its day or after it, and a draft is dated at most a year ahead."""

    code, title = "invoice_date_in_future", "The invoice is dated in days to come"


class SellerIncomplete(Invalid):
    """What is entered in place of the specimen lacks what every invoice must say of its seller."""

    code, title = "seller_incomplete", "The real seller is entered whole"


class BillingProfileInvalid(Invalid):
    """A field of a billing profile has a value it cannot have."""

    code, title = "billing_profile_invalid", "The billing profile makes no sense"
    constraints = (
        "billing_profiles_vat_area_check",
        "billing_profiles_vat_treatment_check",
        "billing_profiles_exemption_check",
        "billing_profiles_einvoice_check",
        "billing_profiles_order_reference_check",
        "billing_profiles_payment_days_check",
    )
