"""Writes posted vouchers as Norwegian SAF-T Financial 1.30.

Structure after the schema of Skatteetaten, "Norwegian SAF-T Financial data" 1.30, which is the only
one for periods that begin in 2025 or later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final
from uuid import UUID

from lxml import etree

from aurora import __version__
from aurora.core.errors import Invalid
from aurora.features.books.model import (
    ACCOUNTS,
    RECEIVABLES,
    BookedCustomer,
    Posting,
    Voucher,
)
from aurora.features.invoices.model import LegalEntity
from aurora.integrations.xml import Element, branch, leaf, write_xml

VERSION: Final = "1.30"
NAMESPACE: Final = "urn:StandardAuditFile-Taxation-Financial:NO"
MAX_FINDINGS: Final = 5
COMMENT: Final = (
    "Sales, credit notes, and customers' payments only; opening balances are zero because the"
    " general ledger is kept elsewhere."
)

_JOURNALS: Final = {
    "SALG": ("Salg", "S", frozenset({"invoice", "credit_note"})),
    "BANK": ("Innbetalinger", "B", frozenset({"payment", "reversal"})),
}
_ZERO: Final = Decimal("0.00")
_TAX_TYPE: Final = "MVA"


class SaftInvalid(Invalid):
    """The file is not what the given schema asks for, or the schema is none."""

    code, title = "saft_invalid", "The SAF-T file does not follow the schema"


def saft_document(
    vouchers: Sequence[Voucher],
    customers: Sequence[BookedCustomer],
    seller: LegalEntity,
    *,
    first_day: date,
    last_day: date,
    made_on: date,
) -> bytes:
    """Return the SAF-T file of a period; the same arguments give the same bytes."""
    return write_xml(
        "AuditFile",
        {None: NAMESPACE},
        _header(seller, first_day, last_day, made_on),
        branch(
            "MasterFiles",
            branch("GeneralLedgerAccounts", *_accounts(vouchers)),
            branch("Customers", *_customers(vouchers, customers)),
            _tax_table(vouchers),
        ),
        _entries(vouchers),
    )


def check_saft(document: bytes, schema: Path) -> None:
    """Check a file against the XSD that Skatteetaten publishes.

    Raises:
        SaftInvalid: It does not follow it, or the path holds no schema.
    """
    try:
        rules = etree.XMLSchema(etree.parse(schema))
    except (OSError, etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
        raise SaftInvalid(f"{schema} is no schema that can be read.") from error
    if not rules.validate(etree.fromstring(document)):
        found = [f"line {each.line}: {each.message}" for each in rules.error_log]
        raise SaftInvalid("; ".join(found[:MAX_FINDINGS]), findings=len(found))


def _header(seller: LegalEntity, first: date, last: date, made_on: date) -> Element | None:
    return branch(
        "Header",
        leaf("AuditFileVersion", VERSION),
        leaf("AuditFileCountry", "NO"),
        leaf("AuditFileDateCreated", made_on),
        leaf("SoftwareCompanyName", "Aurora"),
        leaf("SoftwareID", "Aurora"),
        leaf("SoftwareVersion", __version__[:18]),
        branch(
            "Company",
            leaf("RegistrationNumber", seller.org_number),
            leaf("Name", seller.name),
            _address(seller.address, seller.city, seller.postal_code, seller.country),
            branch(
                "Contact",
                # The schema wants a person; the documentation takes this for none.
                branch(
                    "ContactPerson",
                    leaf("FirstName", "NotUsed"),
                    leaf("LastName", seller.name[:70]),
                ),
                leaf("Telephone", seller.phone and seller.phone[:18]),
                leaf("Email", seller.email[:70]),
            ),
            branch(
                "TaxRegistration",
                leaf("TaxRegistrationNumber", f"{seller.org_number}MVA"),
                leaf("TaxAuthority", "Skatteetaten"),
            )
            if seller.vat_registered
            else None,
            branch("BankAccount", leaf("BankAccountNumber", seller.bank_account)),
        ),
        leaf("DefaultCurrencyCode", "NOK"),
        branch(
            "SelectionCriteria", leaf("SelectionStartDate", first), leaf("SelectionEndDate", last)
        ),
        leaf("HeaderComment", COMMENT),
        leaf("TaxAccountingBasis", "A"),
    )


def _accounts(vouchers: Sequence[Voucher]) -> Iterator[Element | None]:
    balances = dict.fromkeys(ACCOUNTS, _ZERO)
    for voucher in vouchers:
        for posting in voucher.postings:
            balances[posting.account] += posting.debit - posting.credit
    for number, balance in balances.items():
        account = ACCOUNTS[number]
        yield branch(
            "Account",
            leaf("AccountID", number),
            leaf("AccountDescription", account.name),
            leaf("GroupingCategory", account.category),
            leaf("GroupingCode", account.code),
            leaf("AccountType", "GL"),
            leaf("OpeningDebitBalance", _ZERO),
            _closing(balance),
        )


def _closing(balance: Decimal) -> Element | None:
    if balance >= 0:
        return leaf("ClosingDebitBalance", balance)
    return leaf("ClosingCreditBalance", -balance)


def _customers(
    vouchers: Sequence[Voucher], customers: Sequence[BookedCustomer]
) -> Iterator[Element | None]:
    owed: dict[UUID, Decimal] = {}
    for voucher in vouchers:
        for posting in voucher.postings:
            if posting.account == RECEIVABLES:
                balance = owed.get(voucher.organization_id, _ZERO)
                owed[voucher.organization_id] = balance + posting.debit - posting.credit
    for customer in customers:
        yield branch(
            "Customer",
            leaf("RegistrationNumber", customer.org_number),
            leaf("Name", customer.name[:256]),
            _address(customer.address, customer.city, customer.postal_code, customer.country),
            branch("TaxRegistration", leaf("TaxRegistrationNumber", customer.vat_number)),
            leaf("CustomerID", customer.id.hex),
            branch(
                "BalanceAccount",
                leaf("AccountID", RECEIVABLES),
                leaf("OpeningDebitBalance", _ZERO),
                _closing(owed.get(customer.id, _ZERO)),
            ),
        )


def _tax_table(vouchers: Sequence[Voucher]) -> Element | None:
    codes = {
        (posting.tax_code, posting.tax_rate)
        for voucher in vouchers
        for posting in voucher.postings
        if posting.tax_code is not None and posting.tax_rate is not None
    }
    details = [
        branch(
            "TaxCodeDetails",
            leaf("TaxCode", code),
            leaf("Description", f"Utgående merverdiavgift {rate:f} %"),
            leaf("TaxPercentage", rate),
            leaf("Country", "NO"),
            leaf("StandardTaxCode", code),
            leaf("BaseRate", 100),
        )
        for code, rate in sorted(codes)
    ]
    if not details:
        return None
    return branch(
        "TaxTable",
        branch(
            "TaxTableEntry",
            leaf("TaxType", _TAX_TYPE),
            leaf("Description", "Merverdiavgift"),
            *details,
        ),
    )


def _entries(vouchers: Sequence[Voucher]) -> Element | None:
    postings = [posting for voucher in vouchers for posting in voucher.postings]
    return branch(
        "GeneralLedgerEntries",
        leaf("NumberOfEntries", len(vouchers)),
        leaf("TotalDebit", sum((posting.debit for posting in postings), _ZERO)),
        leaf("TotalCredit", sum((posting.credit for posting in postings), _ZERO)),
        *(
            branch(
                "Journal",
                leaf("JournalID", journal),
                leaf("Description", description),
                leaf("Type", kind),
                *(_transaction(each) for each in vouchers if each.kind in kinds),
            )
            for journal, (description, kind, kinds) in _JOURNALS.items()
        ),
    )


def _transaction(voucher: Voucher) -> Element | None:
    return branch(
        "Transaction",
        leaf("TransactionID", voucher.number),
        leaf("Period", voucher.posted_on.month),
        leaf("PeriodYear", voucher.posted_on.year),
        leaf("TransactionDate", voucher.posted_on),
        leaf("Description", voucher.postings[0].text[:256]),
        leaf("SystemEntryDate", voucher.entered_on),
        leaf("GLPostingDate", voucher.posted_on),
        leaf("CustomerID", voucher.organization_id.hex),
        *(_line(number, posting, voucher) for number, posting in enumerate(voucher.postings, 1)),
    )


def _line(number: int, posting: Posting, voucher: Voucher) -> Element | None:
    is_owed = posting.account == RECEIVABLES
    is_debit = posting.debit > 0
    side = "Debit" if is_debit else "Credit"
    return branch(
        "Line",
        leaf("RecordID", number),
        leaf("AccountID", posting.account),
        leaf("SourceDocumentID", voucher.number),
        leaf("CustomerID", voucher.organization_id.hex if is_owed else None),
        leaf("Description", posting.text[:256]),
        _amount(f"{side}Amount", posting.debit + posting.credit, posting.in_currency, voucher),
        _tax(posting, voucher, side),
        leaf("CID", voucher.kid if is_owed else None),
        leaf("DueDate", voucher.due_date if is_owed else None),
    )


def _tax(posting: Posting, voucher: Voucher, side: str) -> Element | None:
    if posting.tax_code is None or posting.tax is None:
        return None
    return branch(
        "TaxInformation",
        leaf("TaxType", _TAX_TYPE),
        leaf("TaxCode", posting.tax_code),
        leaf("TaxPercentage", posting.tax_rate),
        leaf("TaxBase", posting.tax_base),
        _amount(f"{side}TaxAmount", posting.tax, posting.tax_in_currency or _ZERO, voucher),
    )


def _amount(name: str, in_nok: Decimal, in_currency: Decimal, voucher: Voucher) -> Element | None:
    foreign = voucher.currency != "NOK"
    return branch(
        name,
        leaf("Amount", in_nok),
        leaf("CurrencyCode", voucher.currency if foreign else None),
        leaf("CurrencyAmount", abs(in_currency) if foreign else None),
        leaf("ExchangeRate", voucher.exchange_rate if foreign else None),
    )


def _address(
    street: str | None, city: str | None, postal_code: str | None, country: str
) -> Element | None:
    return branch(
        "Address",
        leaf("StreetName", street and " ".join(street.split())[:256]),
        leaf("City", city),
        leaf("PostalCode", postal_code),
        leaf("Country", country),
        leaf("AddressType", "StreetAddress"),
    )
