"""Who sells and who buys, as EHF names them: address in the network, registers, VAT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from aurora.features.einvoices.model import EInvoiceBlocked
from aurora.integrations.xml import Element, branch, leaf

NORWEGIAN: Final = "0192"
"""ISO 6523 code of Enhetsregisteret in Brønnøysund."""

# From Peppol's list of address schemes: what of a buyer abroad is an address in the network.
_BY_ORG_NUMBER: Final[Mapping[str, str]] = {"SE": "0007", "IS": "0196", "EE": "0191"}
_BY_VAT_NUMBER: Final[Mapping[str, str]] = {
    "AT": "9914",
    "BE": "9925",
    "BG": "9926",
    "CH": "9927",
    "CY": "9928",
    "CZ": "9929",
    "DE": "9930",
    "DK": "0184",
    "EE": "9931",
    "ES": "9920",
    "FI": "0213",
    "FR": "9957",
    "GB": "9932",
    "GR": "9933",
    "HR": "9934",
    "HU": "9910",
    "IE": "9935",
    "IT": "0211",
    "LI": "9936",
    "LT": "9937",
    "LU": "9938",
    "LV": "9939",
    "MT": "9943",
    "NL": "9944",
    "PL": "9945",
    "PT": "9946",
    "RO": "9947",
    "SI": "9949",
    "SK": "9950",
}


def supplier(seller: Mapping[str, Any], *, outside_vat: bool) -> Element | None:
    """Write the seller.

    Args:
        seller: Its snapshot.
        outside_vat: The sale is not subject to VAT at all, so nobody's VAT number may stand on it
            (EN 16931, BR-O-02).

    Raises:
        EInvoiceBlocked: The seller has no Norwegian organization number.
    """
    number = _compact(seller.get("org_number"))
    if not re.fullmatch("[0-9]{9}", number):
        raise EInvoiceBlocked("The seller has no Norwegian organization number to send it from.")
    registered = bool(seller.get("vat_registered")) and not outside_vat
    return branch(
        "cac:AccountingSupplierParty",
        branch(
            "cac:Party",
            leaf("cbc:EndpointID", number, schemeID=NORWEGIAN),
            branch("cac:PartyName", leaf("cbc:Name", seller["name"])),
            _address(seller),
            _tax_scheme(f"NO{number}MVA", "VAT") if registered else None,
            # Foretaksregisterloven section 10-2 wants the word on every document (NO-R-002).
            _tax_scheme("Foretaksregisteret", "TAX")
            if seller.get("in_business_register")
            else None,
            branch(
                "cac:PartyLegalEntity",
                leaf("cbc:RegistrationName", seller["name"]),
                leaf("cbc:CompanyID", number, schemeID=NORWEGIAN),
            ),
            branch(
                "cac:Contact",
                leaf("cbc:Telephone", seller.get("phone")),
                leaf("cbc:ElectronicMail", seller.get("email")),
            ),
        ),
    )


def customer(buyer: Mapping[str, Any], *, outside_vat: bool) -> Element | None:
    """Write the buyer.

    Raises:
        EInvoiceBlocked: Nothing that is known of the buyer is an address in the network.
    """
    scheme, endpoint = electronic_address(buyer)
    vat_number = None if outside_vat else _compact(buyer.get("vat_number"))
    org_number = _compact(buyer.get("org_number"))
    return branch(
        "cac:AccountingCustomerParty",
        branch(
            "cac:Party",
            leaf("cbc:EndpointID", endpoint, schemeID=scheme),
            branch("cac:PartyName", leaf("cbc:Name", buyer["name"])),
            _address(buyer),
            _tax_scheme(vat_number, "VAT") if vat_number else None,
            branch(
                "cac:PartyLegalEntity",
                leaf("cbc:RegistrationName", buyer["name"]),
                leaf(
                    "cbc:CompanyID",
                    org_number,
                    schemeID=NORWEGIAN if _is_norwegian(buyer) else None,
                ),
            ),
            branch("cac:Contact", leaf("cbc:ElectronicMail", buyer.get("email"))),
        ),
    )


def electronic_address(buyer: Mapping[str, Any]) -> tuple[str, str]:
    """Return scheme and address of a buyer in the Peppol network.

    Raises:
        EInvoiceBlocked: Nothing that is known of the buyer is one, or it wants no e-invoice.
    """
    if buyer.get("einvoice") == "never":
        raise EInvoiceBlocked("E-invoices are set to never for this buyer.")
    country = str(buyer.get("country") or "")
    org_number = _compact(buyer.get("org_number"))
    vat_number = _compact(buyer.get("vat_number"))
    if _is_norwegian(buyer) and org_number:
        return NORWEGIAN, org_number
    if org_number and country in _BY_ORG_NUMBER:
        return _BY_ORG_NUMBER[country], org_number
    if vat_number and country in _BY_VAT_NUMBER:
        return _BY_VAT_NUMBER[country], vat_number
    raise EInvoiceBlocked(
        "The buyer has no organization or VAT number that is an address in the Peppol network."
    )


def _is_norwegian(buyer: Mapping[str, Any]) -> bool:
    # Companies on Svalbard and Jan Mayen stand in the same register.
    return buyer.get("country") in {"NO", "SJ"}


def _address(party: Mapping[str, Any]) -> Element | None:
    streets = [line.strip() for line in str(party.get("address") or "").splitlines()]
    first, second, *more = [*(line for line in streets if line), "", ""]
    rest = ", ".join(line for line in more if line)
    return branch(
        "cac:PostalAddress",
        leaf("cbc:StreetName", first),
        leaf("cbc:AdditionalStreetName", second),
        leaf("cbc:CityName", party.get("city")),
        leaf("cbc:PostalZone", party.get("postal_code")),
        branch("cac:AddressLine", leaf("cbc:Line", rest)),
        branch("cac:Country", leaf("cbc:IdentificationCode", party.get("country") or "NO")),
    )


def _tax_scheme(company: str, scheme: str) -> Element | None:
    return branch(
        "cac:PartyTaxScheme",
        leaf("cbc:CompanyID", company),
        branch("cac:TaxScheme", leaf("cbc:ID", scheme)),
    )


def _compact(number: object) -> str:
    return re.sub(r"[\s.-]", "", str(number or "")).upper()
