"""Measures how many invoices a second become PDF/A with EHF inside, on two cores and on one.

Run it with `python -m bench.invoice_pdf`; the last line is JSON. The value is what two threads make
of a typical invoice of one page; beside it stand one thread, the seconds of processor a document
takes (which a busy machine does not change), the same with two logos, a long invoice, and the
physical limit: an empty page in the same standard by the same compiler. Every document that is made
in a round is made again in another thread and in another process, and has to be the same bytes.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
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
from aurora.integrations.pictures import redraw

GOAL_PER_SECOND_ON_TWO_CORES: Final = 40
DOCUMENTS: Final = 100
LONG_DOCUMENTS: Final = 5
LONG_LINES: Final = 200
ROUNDS: Final = 5
WARM_UP: Final = 10
SAME: Final = 12
"""Documents that are compared across threads and processes."""

LOGO: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    ' viewBox="0 0 300 100">'
    '<defs><linearGradient id="g"><stop offset="0" stop-color="#0b6e52"/>'
    '<stop offset="1" stop-color="#5aa9c9"/></linearGradient></defs>'
    '<path d="M10 80Q60-20 110 60T210 40" fill="none" stroke="url(#g)" stroke-width="12"/>'
    '<circle cx="250" cy="50" r="35" fill="#37c59a" opacity=".7"/></svg>'
)
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


def a_long_invoice(number: int) -> dict[str, Any]:
    """Return an invoice of LONG_LINES lines, about a dozen pages."""
    invoice = an_invoice(number)
    fee = invoice["line_items"][0]
    lines = [{**fee, "description": f"Aurora Premium {place}"} for place in range(LONG_LINES)]
    subtotal = fee["amount"] * LONG_LINES
    tax = (subtotal * 25 / 100).quantize(Decimal("0.01"))
    return invoice | {
        "line_items": lines,
        "tax_lines": [invoice["tax_lines"][0] | {"taxable": subtotal, "tax": tax}],
        "subtotal": subtotal,
        "tax_amount": tax,
        "total": subtotal + tax,
    }


def made(number: int) -> bytes:
    """Make the typical invoice of a number, its e-invoice inside."""
    return _made(an_invoice(number))


def made_long(number: int) -> bytes:
    """Make the long invoice of a number."""
    return _made(a_long_invoice(number))


def made_with_logos(number: int) -> bytes:
    """Make the typical invoice of a number with the logos of both parties."""
    return _made(
        an_invoice(number) | {"seller_logo": a_logo(840, 280), "buyer_logo": a_logo(640, 320)}
    )


def _made(snapshot: dict[str, Any]) -> bytes:
    name = f"{snapshot['invoice_number']}.xml"
    return invoice_pdf(snapshot, "nb", attachments={name: ehf_of(snapshot)})


@functools.cache
def a_logo(width: int, height: int) -> bytes:
    """Return a logo with curves, colours that run into each other, and holes."""
    source = LOGO.format(width=width, height=height)
    picture = asyncio.run(redraw(source.encode(), max_width=width, max_height=height))
    return picture.content


def digest_of(number: int) -> str:
    """Make a typical invoice and say which bytes it is."""
    return hashlib.sha256(made(number)).hexdigest()


def check_same() -> None:
    """Make some invoices here, in two threads, and in another process; all are the same bytes.

    Raises:
        SystemExit: They are not.
    """
    numbers = range(SAME)
    here = [digest_of(number) for number in numbers]
    with ThreadPoolExecutor(RENDERERS) as threads:
        together = list(threads.map(digest_of, reversed(numbers)))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        elsewhere = list(process.map(digest_of, numbers))
    if not here == together[::-1] == elsewhere:
        raise SystemExit("the same invoice is not the same bytes")


class Figures:
    """Documents a second, and milliseconds of processor a document, of each round."""

    def __init__(self, make: Callable[[int], bytes], documents: int, threads: int = 1) -> None:
        self.make, self.documents, self.threads = make, documents, threads
        self.per_second: list[float] = []
        self.cpu_ms: list[float] = []

    def measure(self) -> float:
        """Make one round's documents, of numbers that were never made before."""
        numbers = [next(_numbers) for _ in range(self.documents)]
        began, spent = time.perf_counter(), _cpu_s()
        if self.threads == 1:
            for number in numbers:
                self.make(number)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(self.make, numbers))
        self.cpu_ms.append(1000 * (_cpu_s() - spent) / self.documents)
        self.per_second.append(self.documents / (time.perf_counter() - began))
        return self.per_second[-1]


_numbers = count(1_000)


def _cpu_s() -> float:
    # Of all threads, those of the compiler included.
    used = os.times()
    return used.user + used.system


def ehf_ms() -> float:
    """Return the milliseconds of CPU that one e-invoice takes."""
    snapshots = [an_invoice(number) for number in range(DOCUMENTS)]
    started = time.process_time()
    for snapshot in snapshots:
        ehf_of(snapshot)
    return 1000 * (time.process_time() - started) / DOCUMENTS


def main() -> None:
    """Measure and print; medians, and the rounds interleaved."""
    check_same()
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.typ"
        empty.write_text(EMPTY_PAGE, encoding="utf-8")

        def empty_page(number: int) -> bytes:
            return render_pdf(empty, {"n": number}, created_at=datetime(2026, 1, 1, tzinfo=UTC))

        two, one = Figures(made, DOCUMENTS, RENDERERS), Figures(made, DOCUMENTS)
        logos, long = (
            Figures(made_with_logos, DOCUMENTS, RENDERERS),
            Figures(made_long, LONG_DOCUMENTS),
        )
        floor = Figures(empty_page, DOCUMENTS)
        for number in range(WARM_UP):
            made_with_logos(number)
        every = (two, one, logos, long, floor)
        interleave(ROUNDS, *(each.measure for each in every))

    value = median(two.per_second)
    print_result(
        "invoice_pdf",
        value=value,
        unit="invoices/s on 2 cores",
        goal=f">= {GOAL_PER_SECOND_ON_TWO_CORES}",
        met=value >= GOAL_PER_SECOND_ON_TWO_CORES,
        details={
            "rounds_per_second": [round(each, 1) for each in two.per_second],
            "cpu_ms": median(two.cpu_ms),
            "two_cores_at_that_cpu_per_second": 2_000 / median(two.cpu_ms),
            "one_thread_per_second": median(one.per_second),
            "one_thread_cpu_ms": median(one.cpu_ms),
            "with_logos_per_second": median(logos.per_second),
            "with_logos_cpu_ms": median(logos.cpu_ms),
            "long_lines": LONG_LINES,
            "long_ms": 1000 / median(long.per_second),
            "long_cpu_ms": median(long.cpu_ms),
            "empty_page_ms": 1000 / median(floor.per_second),
            "ehf_cpu_ms": ehf_ms(),
            "bytes": len(made(0)),
            "bytes_with_logos": len(made_with_logos(0)),
            "bytes_long": len(made_long(0)),
            "same_bytes_in_threads_and_processes": True,
            "documents_per_round": DOCUMENTS,
            "rounds": ROUNDS,
        },
    )


if __name__ == "__main__":
    main()
