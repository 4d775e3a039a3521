"""E-mail addresses as people write them, in the one form that is stored and compared."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NoReturn

import idna

from aurora.core.errors import Invalid

MAX_ADDRESS_BYTES: Final = 254
"""RFC 5321, 4.5.3.1.3: the path's 256 octets less its brackets."""
MAX_LOCAL_LENGTH: Final = 64
"""RFC 5321, 4.5.3.1.1."""

# RFC 5322 atext; fullmatch, because `$` would accept a newline at the end.
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


class EmailInvalid(Invalid):
    """The text cannot be an e-mail address."""

    code, title = "email_invalid", "This is not an e-mail address that mail can be sent to"
    constraints = (
        "organizations_email_check",
        "organizations_billing_email_check",
        "users_email_check",
        "invitations_email_check",
        "legal_entities_email_check",
    )


def check_email(text: str) -> str:
    """Return an address in its stored form: NFC, its domain in small letters and not in Punycode.

    The part before the @ keeps its case and must be ASCII, since a mailbox that needs SMTPUTF8
    cannot be reached from everywhere. The domain may be international (IDNA 2008): blåbær.no.

    Args:
        text: As a person wrote it, without spaces around it.

    Raises:
        EmailInvalid: It is not an address, is too long, or holds characters that look like others.
    """
    if len(text) > MAX_ADDRESS_BYTES:
        _refuse(f"it has more than {MAX_ADDRESS_BYTES} characters")
    if any(c.isspace() or not c.isprintable() for c in text):
        _refuse("it holds a space, a line break, or an invisible character")
    address = unicodedata.normalize("NFC", text)
    # The Kelvin sign becomes a k by normalization, the dotless i becomes an i by a change of case.
    if unicodedata.normalize("NFKC", text) != address or any(_passes_for_ascii(c) for c in text):
        _refuse("it holds a character that looks like another; type it with plain letters")
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        _refuse("it needs one @ with something before and after it")
    if len(local) > MAX_LOCAL_LENGTH or not _LOCAL.fullmatch(local):
        _refuse(
            f"before the @ it may have at most {MAX_LOCAL_LENGTH} of a-z, 0-9, single dots between "
            "them, and !#$%&'*+/=?^_`{|}~-"
        )
    found = f"{local}@{_check_domain(domain)}"
    if len(found.encode()) > MAX_ADDRESS_BYTES:
        _refuse(f"it has more than {MAX_ADDRESS_BYTES} bytes")
    return found


def to_ascii(address: str) -> str:
    """Return a checked address as SMTP wants it, its domain in Punycode."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain).decode('ascii')}"


def _check_domain(domain: str) -> str:
    labels = domain.lower().split(".")
    if len(labels) < len(("example", "com")) or not all(labels) or labels[-1].isdigit():
        _refuse("after the @ it needs a domain such as example.com")
    try:
        return idna.decode(idna.encode(".".join(labels)))
    except idna.IDNAError:
        _refuse("what stands after the @ is not a domain name")


def _passes_for_ascii(character: str) -> bool:
    """Say whether normalization or case turns a character that is not ASCII into one that is."""
    if character.isascii():
        return False
    folded = {character.lower(), character.upper(), unicodedata.normalize("NFKC", character)}
    return any(form[0].isascii() and len(form.rstrip("\u0307")) == 1 for form in folded)


def _refuse(reason: str) -> NoReturn:
    raise EmailInvalid(f"This is not an e-mail address that mail can be sent to: {reason}.")
