"""Writes figures, dates, and account numbers the way readers of one language expect them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from aurora.core.money import (
    NO_BREAK_SPACE,
    Language,
    currency_digits,
    format_money,
    round_money,
)

_EN_DASH: Final = "\N{EN DASH}"

_MONTHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "nb": (
            *("januar", "februar", "mars", "april", "mai", "juni"),
            *("juli", "august", "september", "oktober", "november", "desember"),
        ),
        "en": (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
    }
)

_COUNTRIES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "NO": ("Norge", "Norway"),
        "SE": ("Sverige", "Sweden"),
        "DK": ("Danmark", "Denmark"),
        "FI": ("Finland", "Finland"),
        "IS": ("Island", "Iceland"),
        "FO": ("Færøyene", "Faroe Islands"),
        "GL": ("Grønland", "Greenland"),
        "SJ": ("Svalbard og Jan Mayen", "Svalbard and Jan Mayen"),
        "DE": ("Tyskland", "Germany"),
        "GB": ("Storbritannia", "United Kingdom"),
        "NL": ("Nederland", "Netherlands"),
        "FR": ("Frankrike", "France"),
        "US": ("USA", "United States"),
    }
)
"""Countries that most customers write from; others are printed by the code they came with."""


class Writer:
    """Writes figures and dates the way one language does."""

    def __init__(self, language: Language, currency: str) -> None:
        self.language = language
        self.currency = currency
        self._index = 0 if language == "nb" else 1

    def money(self, amount: Decimal) -> str:
        """Write an amount with its currency."""
        return format_money(amount, self.currency, self.language)

    def amount(self, amount: Decimal) -> str:
        """Write an amount for a column that names its currency once."""
        return self.figure(round_money(amount, self.currency), currency_digits(self.currency))

    def figure(self, value: Decimal, least_digits: int = 0) -> str:
        """Write a number with all its decimals, and at least so many."""
        plain = f"{abs(value):,f}"
        whole, _, fraction = plain.partition(".")
        fraction = fraction.rstrip("0").ljust(least_digits, "0")
        point = "."
        if self.language == "nb":
            whole, point = whole.replace(",", NO_BREAK_SPACE), ","
        sign = "" if value >= 0 else "\N{MINUS SIGN}" if self.language == "nb" else "-"
        return f"{sign}{whole}{point}{fraction}" if fraction else f"{sign}{whole}"

    def percent(self, rate: Decimal) -> str:
        """Write a rate given in percent: 25 % in Norwegian, 25% in English."""
        space = NO_BREAK_SPACE if self.language == "nb" else ""
        return f"{self.figure(rate)}{space}%"

    def day(self, day: date) -> str:
        """Write a date in words, which no country reads with day and month exchanged."""
        return (
            f"{self._day_number(day)}{NO_BREAK_SPACE}{self._month(day)}{NO_BREAK_SPACE}{day.year}"
        )

    def period(self, first: date, last: date) -> str:
        """Write a range of days without saying the same month or year twice."""
        if first == last:
            return self.day(first)
        if (first.year, first.month) == (last.year, last.month):
            return f"{self._day_number(first)}{_EN_DASH}{self.day(last)}"
        if first.year == last.year:
            opening = f"{self._day_number(first)}{NO_BREAK_SPACE}{self._month(first)}"
            return f"{opening} {_EN_DASH} {self.day(last)}"
        return f"{self.day(first)} {_EN_DASH} {self.day(last)}"

    def country(self, code: str) -> str:
        """Name a country by its ISO 3166-1 code; an unknown code stays as it is."""
        names = _COUNTRIES.get(code.upper())
        return code if names is None else names[self._index]

    def _day_number(self, day: date) -> str:
        return f"{day.day}." if self.language == "nb" else str(day.day)

    def _month(self, day: date) -> str:
        return _MONTHS[self.language][day.month - 1]


def line_of_text(value: object) -> str:
    """Join lines and tabs with spaces; no-break spaces stay, for they are meant."""
    return re.sub(r"[ \t\r\n\v\f\u2028\u2029]+", " ", str(value)).strip()


def digits(text: str) -> str:
    """Return only the digits of a number as people type it."""
    return "".join(filter(str.isdigit, text))


def grouped_org_number(text: str) -> str:
    """Write a Norwegian organization number as its register does: 923 609 016."""
    digits = re.sub(r"\s", "", str(text))
    return in_groups(digits, 3) if re.fullmatch(r"[0-9]{9}", digits) else str(text)


def grouped_account_number(text: str) -> str:
    """Write a Norwegian account number as banks do: 1503 40 12345."""
    digits = re.sub(r"[\s.]", "", str(text))
    if not re.fullmatch(r"[0-9]{11}", digits):
        return str(text)
    return NO_BREAK_SPACE.join((digits[:4], digits[4:6], digits[6:]))


def in_groups(text: str, size: int) -> str:
    """Write a long number in groups of so many characters, kept on one line."""
    plain = re.sub(r"\s", "", str(text))
    return NO_BREAK_SPACE.join(plain[at : at + size] for at in range(0, len(plain), size))
