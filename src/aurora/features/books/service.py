"""Posts a period's documents and payments by double entry, and writes the journal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from aurora.core.clock import SELLER_ZONE_DEFAULT
from aurora.core.money import round_money
from aurora.db.transaction import Connection
from aurora.features.books import store
from aurora.features.books.model import (
    ACCOUNTS,
    BANK,
    INCOME_OF,
    MAX_ENTRIES,
    MAX_PERIOD_DAYS,
    OUTPUT_VAT,
    RECEIVABLES,
    BooksPeriodInvalid,
    BooksRateMissing,
    BooksTooLong,
    Entry,
    Posting,
    Voucher,
)
from aurora.features.invoices.service import DEFAULT_SELLER

_TEXTS: Final = {
    "invoice": "Faktura",
    "credit_note": "Kreditnota",
    "payment": "Innbetaling",
    "reversal": "Tilbakeført innbetaling",
}
_COLUMNS: Final = (
    *("date", "voucher", "kind", "account", "account_name", "text", "customer", "debit", "credit"),
    *("vat_code", "vat_rate", "currency", "amount_in_currency", "exchange_rate", "due_date", "kid"),
)
_ZERO: Final = Decimal("0.00")


async def list_vouchers(
    conn: Connection,
    first_day: date,
    last_day: date,
    *,
    legal_entity_id: str = DEFAULT_SELLER,
) -> list[Voucher]:
    """Return what is posted from a first to a last day, both included; each voucher balances.

    Raises:
        BooksPeriodInvalid: The last day is before the first, or the period is longer than
            MAX_PERIOD_DAYS.
        BooksTooLong: More than MAX_ENTRIES lines.
        BooksRateMissing: A currency has no rate for a day.
    """
    if not 0 <= (last_day - first_day).days < MAX_PERIOD_DAYS:
        raise BooksPeriodInvalid(f"{first_day} to {last_day} is not 1 to {MAX_PERIOD_DAYS} days.")
    entries = await store.list_entries(conn, legal_entity_id, first_day, last_day, MAX_ENTRIES + 1)
    if len(entries) > MAX_ENTRIES:
        raise BooksTooLong(f"More than {MAX_ENTRIES:,} lines: ask for fewer days.")
    return [
        _voucher(list(parts)) for _, parts in groupby(entries, lambda each: (each.kind, each.id))
    ]


def journal_csv(vouchers: Sequence[Voucher]) -> bytes:
    """Return the journal as CSV (RFC 4180, UTF-8), amounts in NOK with a point."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for voucher in vouchers:
        writer.writerows(_rows(voucher))
    return out.getvalue().encode()


def _rows(voucher: Voucher) -> Iterator[tuple[object, ...]]:
    for posting in voucher.postings:
        yield (
            voucher.posted_on,
            voucher.number,
            voucher.kind,
            posting.account,
            ACCOUNTS[posting.account].name,
            _cell(posting.text),
            _cell(voucher.customer),
            posting.debit,
            posting.credit,
            posting.tax_code,
            posting.tax_rate,
            voucher.currency,
            posting.in_currency,
            voucher.exchange_rate,
            voucher.due_date,
            voucher.kid,
        )


def _cell(text: str) -> str:
    # A spreadsheet would reckon what begins like a formula; a customer chose its name itself.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _voucher(parts: list[Entry]) -> Voucher:
    """Post one document or payment; its first part says what all have in common."""
    head = parts[0]
    if head.nok is None:
        raise BooksRateMissing(
            f"{head.voucher} is in {head.currency}: enter its rate for {head.posted_on}"
            " with aurora billing exchange-rate."
        )
    text = f"{_TEXTS[head.kind]} {head.reference or head.voucher}"
    if head.kind in {"payment", "reversal"}:
        in_nok = round_money(head.taxable * head.nok)
        postings = [
            _posting(BANK, head.sign * in_nok, head.sign * head.taxable, text),
            _posting(RECEIVABLES, -head.sign * in_nok, -head.sign * head.taxable, text),
        ]
    else:
        sales = [each for part in parts for each in _sales(part, head.nok, text)]
        # What the customer owes is the sum of what was sold, so that no rounding is left over.
        owed = -sum((each.debit - each.credit for each in sales), _ZERO)
        in_currency = head.sign * sum((part.taxable + part.tax for part in parts), _ZERO)
        postings = [_posting(RECEIVABLES, owed, in_currency, text), *sales]
    return Voucher(
        number=head.voucher,
        kind=head.kind,
        posted_on=head.posted_on,
        entered_on=head.issued_at.astimezone(ZoneInfo(SELLER_ZONE_DEFAULT)).date(),
        organization_id=head.organization_id,
        customer=head.customer,
        currency=head.currency,
        exchange_rate=head.nok,
        due_date=head.due_date,
        kid=head.kid,
        postings=tuple(postings),
    )


def _sales(part: Entry, nok: Decimal, text: str) -> Iterator[Posting]:
    """Post one VAT line: income by its category, and the VAT of it."""
    base = round_money(part.taxable * nok)
    tax = part.tax_nok if part.tax_nok is not None else round_money(part.tax * nok)
    yield _posting(
        INCOME_OF[part.category or "S"],
        -part.sign * base,
        -part.sign * part.taxable,
        text,
        tax_code=part.saft_code,
        tax_rate=part.rate,
        tax_base=base,
        tax=tax,
        tax_in_currency=part.tax,
    )
    if tax:
        yield _posting(OUTPUT_VAT, -part.sign * tax, -part.sign * part.tax, text)


def _posting(
    account: str,
    amount: Decimal,
    in_currency: Decimal,
    text: str,
    *,
    tax_code: str | None = None,
    tax_rate: Decimal | None = None,
    tax_base: Decimal | None = None,
    tax: Decimal | None = None,
    tax_in_currency: Decimal | None = None,
) -> Posting:
    return Posting(
        account=account,
        debit=max(amount, _ZERO),
        credit=max(-amount, _ZERO),
        in_currency=in_currency,
        text=text,
        tax_code=tax_code,
        tax_rate=tax_rate,
        tax_base=tax_base,
        tax=tax,
        tax_in_currency=tax_in_currency,
    )
