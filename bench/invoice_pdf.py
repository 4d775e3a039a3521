"""Measures how many invoices a second become PDF/A with EHF inside, on one core and on two.

Run it with `python -m bench.invoice_pdf`; the last line is JSON. The value is the rate of one core
over its share of the goal (40 a second on 2 cores, so 20 on one). The physical limit, an empty
page in the same standard by the same compiler, is measured in the same run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.rig.measure import interleave, median, print_result

from aurora.features.einvoices.model import Sale, SoldLine, SoldTax
from aurora.features.einvoices.service import ehf_document
from aurora.features.invoices.document import invoice_pdf
from aurora.integrations.pdf import RENDERERS, render_pdf

GOAL_PER_SECOND_ON_TWO_CORES: Final = 40
DOCUMENTS: Final = 100
ROUNDS: Final = 3
WARM_UP: Final = 10

EMPTY_PAGE: Final = '#set document(title: "Empty")\n'
OVERAGE: Final = Decimal(50)
SELLER: Final = {
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


def an_invoice(number: int) -> dict[str, Any]:
    """Return a typical invoice; no two share number, customer, and amounts."""
    fee, thousands = Decimal(7000 + number), 1 + number % 40
    subtotal = fee + OVERAGE * thousands
    tax = (subtotal * 25 / 100).quantize(Decimal("0.01"))
    return {
        "invoice_number": f"INV-2026-{number:06}",
        "kind": "invoice",
        "status": "sent",
        "is_specimen": False,
        "invoice_date": date(2026, 1, 31),
        "due_date": date(2026, 2, 14),
        "period_start": date(2026, 1, 1),
        "period_end": date(2026, 1, 31),
        "currency": "NOK",
        "kid": f"{number:013}",
        "invoice_reference": None,
        "seller": SELLER,
        "buyer": {
            "name": f"Fjordhotell {number} AS",
            "org_number": "987654325",
            "vat_number": None,
            "address": f"Fjordveien {number}",
            "postal_code": "9060",
            "city": "Lyngseidet",
            "country": "NO",
            "email": None,
        },
        "line_items": line_items(fee, thousands),
        "tax_lines": [
            {"category": "S", "rate": Decimal(25), "taxable": subtotal, "tax": tax, "reason": None}
        ],
        "subtotal": subtotal,
        "tax_amount": tax,
        "total": subtotal + tax,
        "notes": [],
    }


def line_items(fee: Decimal, thousands: int) -> list[dict[str, Any]]:
    """Return the two lines of a month: the fee in advance, the overage in arrears."""
    taxed = {"tax_rate": Decimal(25), "tax_category": "S"}
    return [
        {
            "description": "Aurora Premium",
            "quantity": Decimal(1),
            "unit": "month",
            "unit_price": fee,
            "amount": fee,
            "detail": "100 000 visninger inkludert",
            "period_start": date(2026, 1, 1),
            "period_end": date(2026, 1, 31),
            **taxed,
        },
        {
            "description": "Visninger utover abonnementet",
            "quantity": Decimal(thousands),
            "unit": "thousand",
            "unit_price": OVERAGE,
            "amount": OVERAGE * thousands,
            "detail": "Per påbegynt 1 000",
            "period_start": date(2025, 12, 1),
            "period_end": date(2025, 12, 31),
            **taxed,
        },
    ]


def ehf_of(invoice: dict[str, Any]) -> bytes:
    """Write the e-invoice of a typical invoice, which is part of making its page."""
    lines = [SoldLine(base_quantity=Decimal(1), **line) for line in invoice["line_items"]]
    return ehf_document(
        Sale(
            kind="invoice",
            number=invoice["invoice_number"],
            issued_on=invoice["invoice_date"],
            due_on=invoice["due_date"],
            credited_number=None,
            credited_on=None,
            lines=lines,
            taxes=[SoldTax(**tax) for tax in invoice["tax_lines"]],
            tax_amount_nok=invoice["tax_amount"],
            note=None,
            **{
                name: invoice[name]
                for name in (
                    *("kid", "currency", "subtotal", "tax_amount", "total", "seller", "buyer"),
                )
            },
        )
    )


def per_second(make: Callable[[int], bytes], *, first: int, threads: int = 1) -> float:
    """Return documents a second; every number is made once."""
    numbers = range(first, first + DOCUMENTS)
    started = time.perf_counter()
    if threads == 1:
        for number in numbers:
            make(number)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(make, numbers))
    return DOCUMENTS / (time.perf_counter() - started)


def ehf_ms() -> float:
    """Return the milliseconds of CPU that one e-invoice takes."""
    snapshots = [an_invoice(number) for number in range(DOCUMENTS)]
    started = time.process_time()
    for snapshot in snapshots:
        ehf_of(snapshot)
    return 1000 * (time.process_time() - started) / DOCUMENTS


def main() -> None:
    """Measure and print; the best round counts, for the machine may be shared."""

    def invoice(number: int) -> bytes:
        snapshot = an_invoice(number)
        name = f"{snapshot['invoice_number']}.xml"
        return invoice_pdf(snapshot, "nb", attachments={name: ehf_of(snapshot)})

    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.typ"
        empty.write_text(EMPTY_PAGE, encoding="utf-8")

        def empty_page(number: int) -> bytes:
            return render_pdf(empty, {"n": number}, created_at=datetime(2026, 1, 1, tzinfo=UTC))

        for number in range(WARM_UP):
            invoice(number)
            empty_page(number)
        numbers = count(WARM_UP, DOCUMENTS)
        one, two, floor = interleave(
            ROUNDS,
            lambda: per_second(invoice, first=next(numbers)),
            lambda: per_second(invoice, first=next(numbers), threads=RENDERERS),
            lambda: per_second(empty_page, first=next(numbers)),
        )

    goal_on_one_core = GOAL_PER_SECOND_ON_TWO_CORES / 2
    value = max(one) / goal_on_one_core
    print_result(
        "invoice_pdf",
        value=value,
        unit="times the goal",
        goal=1.0,
        met=value >= 1.0,
        details={
            "meaning": "invoices a second on one core over 20, its share of 40 on two cores",
            "one_core_per_second": max(one),
            "one_core_median_per_second": median(one),
            "one_core_ms": 1000 / max(one),
            "two_threads_per_second": max(two),
            "empty_page_ms": 1000 / max(floor),
            "ehf_ms": ehf_ms(),
            "bytes": len(invoice(0)),
            "documents_per_round": DOCUMENTS,
            "rounds": ROUNDS,
        },
    )


if __name__ == "__main__":
    main()
