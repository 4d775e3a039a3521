"""Money is an exact decimal of one currency; this module holds the only rounding Aurora does."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from types import MappingProxyType
from typing import Final, Literal

from aurora.core.errors import Invalid

Language = Literal["nb", "en"]

CURRENCY_DIGITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("NOK", "SEK", "DKK", "EUR", "GBP", "USD", "CHF", "PLN", "CZK", "HUF"), 2),
        **dict.fromkeys(("RON", "BGN", "TRY", "UAH", "CAD", "AUD", "NZD", "SGD", "HKD", "CNY"), 2),
        **dict.fromkeys(("TWD", "THB", "INR", "ZAR", "ILS", "AED", "MXN", "BRL"), 2),
        **dict.fromkeys(("ISK", "JPY", "KRW", "VND", "CLP"), 0),
        **dict.fromkeys(("KWD", "BHD", "JOD", "OMR", "TND"), 3),
    }
)
"""Digits after the point for each currency we sell in (the exponents of ISO 4217).

A payment provider may count otherwise (some take ISK with two digits); that belongs to its client.
"""

MAX_INTEGER_DIGITS: Final = 15
"""Digits before the point; more is a mistake or an attack (1e131071), not an amount."""

NO_BREAK_SPACE: Final = "\u00a0"
_MINUS_SIGN: Final = "\u2212"
_TOO_LARGE: Final = f"An amount has at most {MAX_INTEGER_DIGITS} digits before the point."

# Explicit, so that neither the thread's precision nor its traps can change what an amount is.
_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_UP, Emin=-999_999, Emax=999_999)


class AmountInvalid(Invalid):
    """The amount is not a number that money can be."""

    code, title = "amount_invalid", "That is not an amount of money"


class CurrencyUnknown(Invalid):
    """Aurora does not sell in this currency."""

    code, title = "currency_unknown", "Aurora does not know this currency"


def currency_digits(currency: str) -> int:
    """Return how many digits a currency has after the point.

    Args:
        currency: ISO 4217 code in capitals, such as NOK.

    Raises:
        CurrencyUnknown: It is not in `CURRENCY_DIGITS`.
    """
    try:
        return CURRENCY_DIGITS[currency]
    except KeyError:
        known = ", ".join(sorted(CURRENCY_DIGITS))
        raise CurrencyUnknown(f"{currency!r:.20} is not one of {known}.") from None


def round_money(amount: Decimal | int, currency: str = "NOK") -> Decimal:
    """Round an amount to the digits of its currency, halves away from zero.

    Halves go away from zero so that a credit note is exactly minus its invoice. Python's default
    and `round()` go to the even digit, which gives 0.12 for 0.125.

    Args:
        amount: In whole units (kroner), with any number of decimals.
        currency: ISO 4217 code.

    Returns:
        The amount with exactly the digits of the currency; zero is never negative.

    Raises:
        TypeError: `amount` is neither Decimal nor int; binary fractions are not money.
        AmountInvalid: It is not finite, or has more than `MAX_INTEGER_DIGITS` before the point.
        CurrencyUnknown: Aurora does not sell in that currency.
    """
    rounded = _checked(amount).quantize(
        Decimal(1).scaleb(-currency_digits(currency), _EXACT), ROUND_HALF_UP, _EXACT
    )
    return rounded or rounded.copy_abs()


def to_minor(amount: Decimal | int, currency: str) -> int:
    """Return an amount in minor units (øre, cents), for the edge of a payment provider.

    It refuses to round: rounding twice is how an invoice and its payment come to differ.

    Raises:
        AmountInvalid: The amount has more digits than its currency; call `round_money` first.
        TypeError, CurrencyUnknown: As in `round_money`.
    """
    rounded = round_money(amount, currency)
    if rounded != amount:
        raise AmountInvalid(f"{amount} has more decimals than {currency}; round it first.")
    return int(rounded.scaleb(currency_digits(currency), _EXACT))


def from_minor(amount_minor: int, currency: str) -> Decimal:
    """Return the amount in whole units that so many minor units (øre, cents) are.

    Raises:
        TypeError: `amount_minor` is not an int.
        AmountInvalid, CurrencyUnknown: As in `round_money`.
    """
    if type(amount_minor) is not int:
        raise TypeError(f"minor units are counted in int, not {type(amount_minor).__name__}")
    digits = currency_digits(currency)
    if abs(amount_minor) >= 10 ** (MAX_INTEGER_DIGITS + digits):
        raise AmountInvalid(_TOO_LARGE)
    return Decimal(amount_minor).scaleb(-digits, _EXACT)


def format_money(amount: Decimal | int, currency: str, language: Language) -> str:
    """Return an amount as people read it, rounded to the digits of its currency.

    Norwegian follows Språkrådet and CLDR: no-break spaces between thousands and before the unit,
    decimal comma, a real minus sign, `kr` for NOK only (Sweden, Denmark, and Iceland say kr too).

    Args:
        amount: In whole units.
        currency: ISO 4217 code.
        language: nb gives `3 500,00 kr`, en gives `NOK 3,500.00`.

    Raises:
        TypeError, AmountInvalid, CurrencyUnknown: As in `round_money`.
    """
    rounded = round_money(amount, currency)
    digits = f"{rounded.copy_abs():,f}"
    if language == "en":
        return f"{'-' if rounded < 0 else ''}{currency} {digits}"
    digits = digits.translate({ord(","): NO_BREAK_SPACE, ord("."): ","})
    unit = "kr" if currency == "NOK" else currency
    return f"{_MINUS_SIGN if rounded < 0 else ''}{digits}{NO_BREAK_SPACE}{unit}"


def _checked(amount: Decimal | int) -> Decimal:
    """Return a finite amount of bounded size, or refuse it loudly."""
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
        raise TypeError(f"money is Decimal or int, not {type(amount).__name__}")
    if isinstance(amount, int):
        # Compared before it becomes a Decimal, because that conversion is quadratic in its digits.
        if abs(amount) >= 10**MAX_INTEGER_DIGITS:
            raise AmountInvalid(_TOO_LARGE)
        return Decimal(amount)
    if not amount.is_finite():
        raise AmountInvalid(f"{amount} is not an amount; amounts are finite numbers.")
    if amount and amount.adjusted() >= MAX_INTEGER_DIGITS:
        raise AmountInvalid(_TOO_LARGE)
    return amount
