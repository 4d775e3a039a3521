"""Invoices to print, and what is read back from their pages."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from pypdf import PdfReader

from aurora.core.money import Language
from aurora.features.invoices.document import invoice_pdf

LANGUAGES: tuple[Language, ...] = ("nb", "en")

SELLER = {
    "name": "Nordlys Data AS",
    "org_number": "923609016",
    "vat_registered": True,
    "in_business_register": True,
    "address": "Storgata 12",
    "postal_code": "9008",
    "city": "Tromsø",
    "country": "NO",
    "email": "faktura@nordlysdata.example",
    "phone": "+47 77 00 00 00",
    "website": "nordlysdata.example",
    "bank_account": "15034012345",
    "iban": "NO9315034012345",
    "bic": "DNBANOKK",
}
BUYER = {
    "name": "Lyngen Fjordhotell AS",
    "org_number": "987654325",
    "vat_number": "NO987654325MVA",
    "address": "Fjordveien 4",
    "postal_code": "9060",
    "city": "Lyngseidet",
    "country": "NO",
    "email": "post@lyngenfjord.example",
}
GERMAN_BUYER = {
    **BUYER,
    "name": "Arctic Journeys GmbH",
    "org_number": None,
    "vat_number": "DE123456788",
    "address": "Hafenstraße 9",
    "postal_code": "20457",
    "city": "Hamburg",
    "country": "DE",
}


def a_line(description: str = "Aurora Premium", **changes: Any) -> dict[str, Any]:
    line = {
        "description": description,
        "quantity": Decimal(1),
        "unit": "month",
        "unit_price": Decimal("7000.00"),
        "amount": Decimal("7000.00"),
        "tax_rate": Decimal(25),
        "tax_category": "S",
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "detail": None,
    }
    return line | changes


def an_invoice(**changes: Any) -> dict[str, Any]:
    overage = a_line(
        "Visninger utover abonnementet",
        quantity=Decimal(11),
        unit="thousand",
        unit_price=Decimal("50.00"),
        amount=Decimal("550.00"),
        detail="Påbegynte tusen",
        period_start=date(2025, 12, 1),
        period_end=date(2025, 12, 31),
    )
    invoice = {
        "invoice_number": "INV-2026-000001",
        "kind": "invoice",
        "status": "sent",
        "is_specimen": False,
        "invoice_date": date(2026, 1, 31),
        "due_date": date(2026, 2, 14),
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "currency": "NOK",
        "kid": "0000420000015",
        "invoice_reference": None,
        "seller": SELLER,
        "buyer": BUYER,
        "line_items": [a_line(), overage],
        "tax_lines": [
            {
                "category": "S",
                "rate": Decimal(25),
                "taxable": Decimal("7550.00"),
                "tax": Decimal("1887.50"),
                "reason": None,
            }
        ],
        "subtotal": Decimal("7550.00"),
        "tax_amount": Decimal("1887.50"),
        "total": Decimal("9437.50"),
        "notes": [],
    }
    return invoice | changes


def a_credit_note(**changes: Any) -> dict[str, Any]:
    return an_invoice(
        kind="credit_note",
        invoice_number="CN-2026-000003",
        invoice_reference="INV-2026-000001",
        **changes,
    )


def pages_of(document: bytes) -> list[str]:
    pages = PdfReader(io.BytesIO(document)).pages
    return [page.extract_text().replace("\u00a0", " ") for page in pages]


def text_of(invoice: Mapping[str, Any], language: Language = "nb") -> str:
    return "\n".join(pages_of(invoice_pdf(invoice, language)))


def missing_from(text: str, expected: list[str]) -> list[str]:
    return [element for element in expected if element not in text]
