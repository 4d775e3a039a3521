"""Numbers that states and banks hand out: organization, VAT, and payment (KID) numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

from stdnum import luhn
from stdnum.at import businessid
from stdnum.be import vat as be_vat
from stdnum.ch import uid as ch_uid
from stdnum.ch import vat as ch_vat
from stdnum.dk import cvr
from stdnum.ee import registrikood
from stdnum.es import nif
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError
from stdnum.fi import ytunnus
from stdnum.fr import siren
from stdnum.gb import vat as gb_vat
from stdnum.is_ import kennitala, vsk
from stdnum.it import iva
from stdnum.no import mva
from stdnum.no import orgnr as no_orgnr
from stdnum.se import orgnr as se_orgnr
from stdnum.util import clean

from aurora.core.errors import Invalid

MAX_TAX_ID_LENGTH: Final = 40
"""Characters, separators included; no register writes a longer number."""
MIN_KID_LENGTH: Final = 2
MAX_KID_LENGTH: Final = 25
"""Digits of a KID with its check digit, as the Norwegian banks agreed."""


class OrgNumberInvalid(Invalid):
    """The register of that country cannot have given out this number."""

    code, title = "org_number_invalid", "The organization number is not valid"


class VatNumberInvalid(Invalid):
    """The tax office of that country cannot have given out this number."""

    code, title = "vat_number_invalid", "The VAT number is not valid"


class CountryInvalid(Invalid):
    """The country is not two letters."""

    code, title = "country_invalid", "The country is not an ISO 3166-1 code"


class _Register(Protocol):
    """What the modules of python-stdnum have in common."""

    def validate(self, number: str) -> str: ...


_ORG_REGISTERS: Final[Mapping[str, _Register]] = {
    "NO": no_orgnr,
    "SE": se_orgnr,
    "DK": cvr,
    "FI": ytunnus,
    "IS": kennitala,
    "EE": registrikood,
    "AT": businessid,
    "BE": be_vat,
    "CH": ch_uid,
    "ES": nif,
    "FR": siren,
    "IT": iva,
}
_VAT_OUTSIDE_EU: Final[Mapping[str, _Register]] = {"GB": gb_vat, "CH": ch_vat, "IS": vsk}
_EU_COUNTRIES: Final = frozenset(code.upper() for code in eu_vat.MEMBER_STATES) - {"XI"}

# Svalbard and Jan Mayen have no register of their own; their companies stand in the Norwegian one.
_REGISTER_OF: Final[Mapping[str, str]] = {"SJ": "NO"}
_VAT_PREFIX: Final[Mapping[str, str]] = {"GR": "EL"}

_COUNTRY: Final = re.compile("[A-Za-z]{2}")
_UNCHECKED: Final = re.compile("(?=.*[0-9])[0-9A-Z]{2,20}")
_KID: Final = re.compile(f"[0-9]{{{MIN_KID_LENGTH},{MAX_KID_LENGTH}}}")
_SEPARATORS: Final = " .-/"


def check_org_number(text: str, country: str) -> str:
    """Return an organization number in its register's compact form.

    Norwegian numbers are nine digits, the last one MOD11. For a country whose register we do not
    know, two to twenty letters and digits pass, unchecked.

    Args:
        text: As a person wrote it, with or without separators.
        country: ISO 3166-1 alpha-2 code.

    Raises:
        OrgNumberInvalid: Wrong length, characters, or check digit.
        CountryInvalid: The country is not two letters.
    """
    register = _register(country)
    plain = _plain(text, OrgNumberInvalid)
    module = _ORG_REGISTERS.get(register)
    try:
        number = module.validate(plain) if module else _unchecked(plain)
    except ValidationError:
        _refuse_org_number(text, register)
    return number


def check_vat_number(text: str, country: str) -> str:
    """Return a VAT number in compact form with the prefix of its country.

    Norwegian: `NO123456785MVA`; the ending MVA is required, because an organization number alone
    does not say that its owner is registered for VAT. Greek numbers get EL, those of Northern
    Ireland keep XI. A checksum does not show that the owner is registered: ask the register.

    Args:
        text: As a person wrote it, with or without separators and prefix.
        country: ISO 3166-1 alpha-2 code.

    Raises:
        VatNumberInvalid: Wrong length, characters, check digit, or another country's prefix.
        CountryInvalid: The country is not two letters.
    """
    register = _register(country)
    plain = _plain(text, VatNumberInvalid)
    prefix = _VAT_PREFIX.get(register, register)
    try:
        if register == "NO":
            number = mva.validate(plain)
        elif register in _EU_COUNTRIES:
            number = eu_vat.validate(plain if plain.startswith(prefix) else prefix + plain)
        elif register == "GB" and plain.startswith("XI"):
            prefix, number = "XI", eu_vat.validate(plain)
        else:
            module = _VAT_OUTSIDE_EU.get(register)
            number = module.validate(plain) if module else _unchecked(plain)
    except ValidationError:
        _refuse_vat_number(text, register, prefix)
    return number if number.startswith(prefix) else prefix + number


def kid(number: int | str) -> str:
    """Return a customer's payment reference (KID): the number and its MOD10 check digit.

    MOD10 is the Luhn algorithm: 1234 becomes 12344.

    Args:
        number: 1 to 24 digits; leading zeros of a text are kept.

    Raises:
        ValueError: It is negative, holds anything but ASCII digits, or is too long.
    """
    digits = str(number)
    if not _KID.fullmatch(f"{digits}0"):
        raise ValueError(f"a KID is made of 1 to {MAX_KID_LENGTH - 1} digits")
    return digits + luhn.calc_check_digit(digits)


def is_kid(text: str) -> bool:
    """Say whether a text is 2 to 25 ASCII digits that end in their MOD10 check digit."""
    return _KID.fullmatch(text) is not None and luhn.is_valid(text)


def _register(country: str) -> str:
    """Return the country in whose register a company of this country stands."""
    if not _COUNTRY.fullmatch(country):
        raise CountryInvalid("Give the country as two letters of ISO 3166-1, such as NO.")
    code = country.upper()
    return _REGISTER_OF.get(code, code)


def _plain(text: str, refusal: type[Invalid]) -> str:
    """Return the text in capitals, with the odd spaces and dashes of word processors made plain.

    Whatever is not ASCII after that is refused: some checks take Arabic digits for digits.
    """
    if len(text) <= MAX_TAX_ID_LENGTH:
        plain = clean(unicodedata.normalize("NFKC", text)).strip().upper()
        if plain.isascii() and plain.isprintable() and len(plain) <= MAX_TAX_ID_LENGTH:
            return plain
    raise refusal(f"The number has at most {MAX_TAX_ID_LENGTH} characters: A to Z and digits.")


def _unchecked(plain: str) -> str:
    """Return a number of a register we do not know, if it looks like a number at all."""
    number = clean(plain, _SEPARATORS)
    if not _UNCHECKED.fullmatch(number):
        raise ValidationError
    return number


def _refuse_org_number(text: str, register: str) -> NoReturn:
    if register == "NO":
        raise OrgNumberInvalid(
            f"{text!r} is not a Norwegian organization number: nine digits, the last one a check "
            "digit (MOD11). Look for a swapped or missing digit."
        )
    raise OrgNumberInvalid(
        f"{text!r} is not an organization number of {register}: its length, characters, or check "
        "digit are wrong."
    )


def _refuse_vat_number(text: str, register: str, prefix: str) -> NoReturn:
    if register == "NO":
        raise VatNumberInvalid(
            f"{text!r} is not a Norwegian VAT number: write the organization number and MVA, "
            "such as NO123456785MVA."
        )
    raise VatNumberInvalid(
        f"{text!r} is not a VAT number of {register}: it starts with {prefix}, and its length, "
        "characters, and check digit must be those of that country."
    )
