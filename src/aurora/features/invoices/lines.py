"""The lines of a sales document, and its VAT by category and rate."""

from __future__ import annotations

import dataclasses
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Document = TypeVar("Document", bound="DataclassInstance")


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
    """One line; amounts in major units, `period_end` is the last day, included.

    `credits_line` is of a credit note: which line of its invoice it takes back, from 1.
    """

    description: str
    kind: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal
    tax_category: str
    tax_rate: Decimal
    period_start: date
    period_end: date
    impressions: int | None = None
    included: int | None = None
    base_quantity: Decimal = Decimal(1)
    facts: dict[str, Any] = {}
    credits_line: int | None = None


class TaxLine(msgspec.Struct, frozen=True, kw_only=True):
    """VAT of one category and rate (percent), in major units."""

    category: str
    rate: Decimal
    taxable: Decimal
    tax: Decimal
    reason: str | None = None
    reason_en: str | None = None
    saft_code: str | None = None


def with_lines(row: Any, document: type[Document]) -> Document:
    """Return a row, whose lines and VAT are JSON text, as the document with them as structures.

    Args:
        row: Has every field of the document.
        document: A dataclass with `line_items` and `tax_lines`.
    """
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(document)}
    fields["line_items"] = msgspec.json.decode(row.line_items, type=list[LineItem])
    fields["tax_lines"] = msgspec.json.decode(row.tax_lines, type=list[TaxLine])
    return document(**fields)
