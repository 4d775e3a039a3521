"""Writes an issued invoice or credit note as EHF 3, which is Peppol BIS Billing 3.0 in UBL 2.1."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from aurora.features.einvoices.model import Sale, SoldLine, SoldTax
from aurora.features.einvoices.parties import customer, electronic_address, supplier
from aurora.integrations.xml import Element, branch, leaf, write_xml

__all__ = ["ehf_document", "electronic_address"]

CUSTOMIZATION: Final = "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
PROFILE: Final = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"

_UBL: Final = "urn:oasis:names:specification:ubl:schema:xsd"
_COMMON: Final[Mapping[str | None, str]] = MappingProxyType(
    {
        "cac": f"{_UBL}:CommonAggregateComponents-2",
        "cbc": f"{_UBL}:CommonBasicComponents-2",
    }
)

# UN/ECE Recommendations 20 and 21; what is counted otherwise is counted by the piece.
_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "month": "MON",
        "year": "ANN",
        "day": "DAY",
        "hour": "HUR",
        "thousand": "MIL",
        "package": "XPK",
        "each": "EA",
    }
)
_PIECE: Final = "C62"

_CREDIT_TRANSFER: Final = "30"
"""UNCL4461: the buyer pays into an account."""

LEEWAY: Final = Decimal("0.02")
"""How far quantity times price may be from a line's amount (PEPPOL-EN16931-R120)."""

MAX_NAME_LENGTH: Final = 200
"""Characters of a line's name; receivers cut longer ones, so the description has all of it."""

_WITHOUT_RATE: Final = frozenset({"O"})
_WITHOUT_REASON: Final = frozenset({"S", "Z"})


def ehf_document(sale: Sale) -> bytes:
    """Return the EHF document of a sale; the same sale gives the same bytes.

    Sources: EN 16931-1; Peppol BIS Billing 3.0; bokføringsforskriften § 5-1-1 for VAT in NOK.

    Raises:
        EInvoiceBlocked: Seller or buyer has no address in the Peppol network.
    """
    is_credit = sale.kind == "credit_note"
    root = "CreditNote" if is_credit else "Invoice"
    outside_vat = any(tax.category == "O" for tax in sale.taxes)
    in_nok = sale.tax_amount_nok if sale.currency != "NOK" and sale.tax_amount else None
    note = leaf("cbc:Note", sale.note)
    return write_xml(
        root,
        {None: f"{_UBL}:{root}-2", **_COMMON},
        leaf("cbc:CustomizationID", CUSTOMIZATION),
        leaf("cbc:ProfileID", PROFILE),
        leaf("cbc:ID", sale.number),
        leaf("cbc:IssueDate", sale.issued_on),
        None if is_credit else leaf("cbc:DueDate", sale.due_on),
        leaf(f"cbc:{root}TypeCode", "381" if is_credit else "380"),
        note,
        leaf("cbc:DocumentCurrencyCode", sale.currency),
        leaf("cbc:TaxCurrencyCode", None if in_nok is None else "NOK"),
        leaf("cbc:BuyerReference", _buyer_reference(sale)),
        _period(sale),
        branch("cac:OrderReference", leaf("cbc:ID", sale.buyer.get("order_reference"))),
        _credited(sale),
        supplier(sale.seller, outside_vat=outside_vat),
        customer(sale.buyer, outside_vat=outside_vat),
        None if is_credit else _payment_means(sale),
        # Whoever is owed money is told when; of a credit note, that it is set off (BR-CO-25).
        branch("cac:PaymentTerms", leaf("cbc:Note", _terms(sale))),
        _tax_total(sale),
        branch("cac:TaxTotal", leaf("cbc:TaxAmount", in_nok, currencyID="NOK")),
        _totals(sale),
        *(_line(number, line, sale) for number, line in enumerate(sale.lines, 1)),
    )


def _buyer_reference(sale: Sale) -> str | None:
    """Return what the buyer knows the sale by; with none of that, its number with the seller."""
    reference = sale.buyer.get("reference")
    if reference is None and sale.buyer.get("order_reference") is None:
        reference = sale.buyer.get("customer_number") or sale.buyer["name"]
    return None if reference is None else str(reference)


def _period(sale: Sale) -> Element | None:
    # The lines' own periods have to lie in it (R110, R111): fee in advance, usage in arrears.
    return branch(
        "cac:InvoicePeriod",
        leaf("cbc:StartDate", min(line.period_start for line in sale.lines)),
        leaf("cbc:EndDate", max(line.period_end for line in sale.lines)),
    )


def _credited(sale: Sale) -> Element | None:
    return branch(
        "cac:BillingReference",
        branch(
            "cac:InvoiceDocumentReference",
            leaf("cbc:ID", sale.credited_number),
            leaf("cbc:IssueDate", sale.credited_on),
        ),
    )


def _payment_means(sale: Sale) -> Element | None:
    seller = sale.seller
    iban, account = seller.get("iban"), seller.get("bank_account")
    # Who pays in another currency pays from abroad, where nobody knows Norwegian account numbers.
    chosen = (iban or account) if sale.currency != "NOK" else (account or iban)
    if not chosen:
        return None
    return branch(
        "cac:PaymentMeans",
        leaf("cbc:PaymentMeansCode", _CREDIT_TRANSFER),
        leaf("cbc:PaymentID", sale.kid),
        branch(
            "cac:PayeeFinancialAccount",
            leaf("cbc:ID", "".join(str(chosen).replace(".", "").split())),
            leaf("cbc:Name", seller["name"]),
            branch(
                "cac:FinancialInstitutionBranch",
                leaf("cbc:ID", seller.get("bic") if chosen == iban else None),
            ),
        ),
    )


def _terms(sale: Sale) -> str | None:
    if sale.kind == "invoice":
        return None
    return f"Krediterer faktura {sale.credited_number}"


def _tax_total(sale: Sale) -> Element | None:
    return branch(
        "cac:TaxTotal",
        leaf("cbc:TaxAmount", sale.tax_amount, currencyID=sale.currency),
        *(_tax_subtotal(tax, sale.currency) for tax in sale.taxes),
    )


def _tax_subtotal(tax: SoldTax, currency: str) -> Element | None:
    return branch(
        "cac:TaxSubtotal",
        leaf("cbc:TaxableAmount", tax.taxable, currencyID=currency),
        leaf("cbc:TaxAmount", tax.tax, currencyID=currency),
        _tax_category(
            "cac:TaxCategory",
            tax.category,
            tax.rate,
            reason=None if tax.category in _WITHOUT_REASON else tax.reason,
        ),
    )


def _tax_category(
    name: str, category: str, rate: Decimal, *, reason: str | None = None
) -> Element | None:
    return branch(
        name,
        leaf("cbc:ID", category),
        leaf("cbc:Percent", None if category in _WITHOUT_RATE else _plain(rate)),
        leaf("cbc:TaxExemptionReason", reason),
        branch("cac:TaxScheme", leaf("cbc:ID", "VAT")),
    )


def _totals(sale: Sale) -> Element | None:
    def amount(name: str, value: Decimal) -> Element | None:
        return leaf(f"cbc:{name}", value, currencyID=sale.currency)

    # What was paid or set off since is not on it: an issued document never changes.
    return branch(
        "cac:LegalMonetaryTotal",
        amount("LineExtensionAmount", sale.subtotal),
        amount("TaxExclusiveAmount", sale.subtotal),
        amount("TaxInclusiveAmount", sale.total),
        amount("PayableAmount", sale.total),
    )


def _line(number: int, line: SoldLine, sale: Sale) -> Element | None:
    kind = "CreditedQuantity" if sale.kind == "credit_note" else "InvoicedQuantity"
    quantity, price, base = figures_of(line)
    unit = _UNITS.get(line.unit, _PIECE)
    name = " ".join(line.description.split())
    described = line.detail or (name if len(name) > MAX_NAME_LENGTH else None)
    return branch(
        "cac:CreditNoteLine" if sale.kind == "credit_note" else "cac:InvoiceLine",
        leaf("cbc:ID", number),
        leaf(f"cbc:{kind}", _plain(quantity), unitCode=unit),
        leaf("cbc:LineExtensionAmount", line.amount, currencyID=sale.currency),
        branch(
            "cac:InvoicePeriod",
            leaf("cbc:StartDate", line.period_start),
            leaf("cbc:EndDate", line.period_end),
        ),
        branch(
            "cac:Item",
            leaf("cbc:Description", described),
            leaf("cbc:Name", name[:MAX_NAME_LENGTH]),
            _tax_category("cac:ClassifiedTaxCategory", line.tax_category, line.tax_rate),
        ),
        branch(
            "cac:Price",
            leaf("cbc:PriceAmount", _plain(price), currencyID=sale.currency),
            leaf("cbc:BaseQuantity", None if base == 1 else _plain(base), unitCode=unit),
        ),
    )


def figures_of(line: SoldLine) -> tuple[Decimal, Decimal, Decimal]:
    """Return quantity, price, and what the price is for, so that they give the line's amount.

    A price is never negative (BR-27): then the quantity is. Where rounding took the product
    further from the amount than the format allows, the line is one piece of so much.
    """
    quantity, price, base = line.quantity, line.unit_price, line.base_quantity
    if price < 0:
        quantity, price = -quantity, -price
    if base > 0 and abs(quantity * price / base - line.amount) <= LEEWAY:
        return quantity, price, base
    return Decimal(1 if line.amount >= 0 else -1), abs(line.amount), Decimal(1)


def _plain(figure: Decimal) -> Decimal:
    """Return a figure without the zeros behind its last decimal; never with an exponent."""
    whole = figure.to_integral_value()
    return whole if figure == whole else figure.normalize()
