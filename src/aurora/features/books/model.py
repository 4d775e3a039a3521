"""Entries, postings, accounts, and what the books refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID

from aurora.core.errors import Conflict, Invalid, TooLarge

MAX_PERIOD_DAYS: Final = 366
MAX_ENTRIES: Final = 200_000
"""VAT lines of documents and payments in one file; about 200 MB of SAF-T."""

EntryKind = Literal["invoice", "credit_note", "payment", "reversal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One VAT line of a document, or one payment; amounts in major units of `currency`.

    Attributes:
        sign: 1, or -1 for what takes back.
        nok: What one unit of the currency is worth in NOK; None when nobody entered it.
    """

    id: UUID
    organization_id: UUID
    voucher: str
    kind: EntryKind
    posted_on: date
    issued_at: datetime
    currency: str
    sign: int
    customer: str
    kid: str | None
    due_date: date | None
    nok: Decimal | None
    part: int
    category: str | None
    rate: Decimal | None
    saft_code: str | None
    taxable: Decimal
    tax: Decimal
    tax_nok: Decimal | None
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedCustomer:
    """A customer as it stands now."""

    id: UUID
    name: str
    org_number: str | None
    vat_number: str | None
    address: str | None
    postal_code: str | None
    city: str | None
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of the journal, and where the annual report groups it (SAF-T 1.30)."""

    number: str
    name: str
    category: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One line of a voucher: debit or credit in NOK, one of them zero, neither negative."""

    account: str
    debit: Decimal
    credit: Decimal
    in_currency: Decimal
    text: str
    tax_code: str | None = None
    tax_rate: Decimal | None = None
    tax_base: Decimal | None = None
    tax: Decimal | None = None
    tax_in_currency: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """A document or payment as it is posted; its debits are its credits."""

    number: str
    kind: EntryKind
    posted_on: date
    entered_on: date
    organization_id: UUID
    customer: str
    currency: str
    exchange_rate: Decimal
    due_date: date | None
    kid: str | None
    postings: tuple[Posting, ...]


RECEIVABLES: Final = "1500"
BANK: Final = "1920"
OUTPUT_VAT: Final = "2700"

_CURRENT, _DEBT, _SALES = "balanseverdiForOmloepsmiddel", "kortsiktigGjeld", "salgsinntekt"
ACCOUNTS: Final[Mapping[str, Account]] = MappingProxyType(
    {
        number: Account(number=number, name=name, category=category, code=code)
        for number, name, category, code in (
            (RECEIVABLES, "Kundefordringer", _CURRENT, "1500"),
            (BANK, "Bankinnskudd", _CURRENT, "1920"),
            (OUTPUT_VAT, "Utgående merverdiavgift", _DEBT, "2740"),
            ("3000", "Salgsinntekt, avgiftspliktig", _SALES, "3000"),
            ("3100", "Salgsinntekt, avgiftsfri", _SALES, "3100"),
            ("3200", "Salgsinntekt, utenfor avgiftsområdet", _SALES, "3200"),
        )
    }
)
"""Norwegian standard chart (NS 4102), with the grouping of the næringsspesifikasjon."""

INCOME_OF: Final[Mapping[str, str]] = MappingProxyType(
    {"S": "3000", "Z": "3100", "G": "3100", "AE": "3100", "E": "3200", "O": "3200"}
)
"""By VAT category (UNCL5305)."""


class BooksPeriodInvalid(Invalid):
    """The days are no period, or too long a one."""

    code, title = "books_period_invalid", f"The books are of 1 to {MAX_PERIOD_DAYS} days"


class BooksTooLong(TooLarge):
    """More is posted than one file takes."""

    code, title = "books_too_long", "More is posted in the period than one file takes"


class BooksRateMissing(Conflict):
    """The books are kept in NOK, and nobody has entered what a currency was worth."""

    code, title = "books_rate_missing", "An exchange rate is missing for the books"
