"""What the fields of organizations and people must look like, and how they are kept."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from aurora.core.emails import check_email
from aurora.core.errors import Invalid
from aurora.core.taxids import (
    MAX_TAX_ID_LENGTH,
    CountryInvalid,
    OrgNumberInvalid,
    VatNumberInvalid,
    check_org_number,
    check_vat_number,
)
from aurora.features.organizations.model import NameInvalid, SlugInvalid

MAX_NAME_LENGTH: Final = 200
MAX_SLUG_LENGTH: Final = 63

# fullmatch and ASCII: `$` would accept a newline at the end, \w the letters of every script.
_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PLAIN_NUMBER: Final = re.compile(f"(?=.*[0-9])[0-9A-Za-z .,/-]{{2,{MAX_TAX_ID_LENGTH}}}")
_CHECKS: Final[Mapping[str, Callable[[str, str], str]]] = {
    "org_number": check_org_number,
    "vat_number": check_vat_number,
}


def check_slug(text: str) -> str:
    """Return a slug as it is; nothing is repaired, so that nobody gets another than they typed.

    Raises:
        SlugInvalid: It is no host-name label of ASCII letters, digits, and dashes.
    """
    if _SLUG.fullmatch(text):
        return text
    if len(text) > MAX_SLUG_LENGTH:
        raise SlugInvalid(f"A slug has at most {MAX_SLUG_LENGTH} characters; this has {len(text)}.")
    if text != text.strip() or not text.isprintable():
        raise SlugInvalid(
            "The slug has a space or line break at its end, or an invisible one in it."
        )
    if not text.isascii():
        odd = next(c for c in text if not c.isascii())
        name = unicodedata.name(odd, "no letter")
        raise SlugInvalid(f"A slug has only a-z, 0-9 and -; {odd!r} is {name}.")
    raise SlugInvalid


def check_name(text: str) -> str:
    """Return a name in NFC and without spaces around it.

    Raises:
        NameInvalid: It is blank, too long, or holds a line break or another control character.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise NameInvalid(f"A name is one line of 1 to {MAX_NAME_LENGTH} characters.")
    return name


def check_fields(fields: Mapping[str, Any], country: str) -> dict[str, Any]:
    """Return an organization's fields in the form in which they are kept.

    A number that its register's check digits refuse is kept only where `org_number_unverified` (or
    `vat_number_unverified`) says so; one that they accept is never marked.

    Args:
        fields: Those that are to be written, by column.
        country: Of the organization once they are written, ISO 3166-1.

    Raises:
        SlugInvalid, NameInvalid, EmailInvalid: One of the texts.
        CountryInvalid, OrgNumberInvalid, VatNumberInvalid: Tax data.
    """
    checked = dict(fields)
    if "name" in checked:
        checked["name"] = check_name(checked["name"])
    if "slug" in checked:
        checked["slug"] = check_slug(checked["slug"])
    for column in ("email", "billing_email"):
        if checked.get(column) is not None:
            checked[column] = check_email(checked[column])
    if not re.fullmatch("[A-Z]{2}", country):
        raise CountryInvalid("A country is two capital letters (ISO 3166-1), such as NO.")
    for column in _CHECKS:
        mark = f"{column}_unverified"
        is_allowed = bool(checked.pop(mark, False))
        if column in checked:
            number, is_unverified = _check_number(column, checked[column], country, is_allowed)
            checked |= {column: number, mark: is_unverified}
    return checked


def _check_number(
    column: str, text: str | None, country: str, is_unverified_allowed: bool
) -> tuple[str | None, bool]:
    if text is None:
        return None, False
    refusal: type[Invalid] = OrgNumberInvalid if column == "org_number" else VatNumberInvalid
    try:
        return _CHECKS[column](text, country), False
    except (OrgNumberInvalid, VatNumberInvalid) as error:
        if not is_unverified_allowed:
            raise refusal(f"{error.detail} Set {column}_unverified to keep it as it is.") from None
        kept = unicodedata.normalize("NFKC", text).strip()
        if not _PLAIN_NUMBER.fullmatch(kept):
            raise refusal(
                f"Even unverified, a number has 2 to {MAX_TAX_ID_LENGTH} letters and digits."
            ) from None
        return kept, True
