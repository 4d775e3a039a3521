"""Periods, figures, and words are written as each language writes them."""

# ruff: noqa: RUF001 - the en dashes are those of the printed page

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.invoices.printed import LANGUAGES

from aurora.features.invoices.document import TEMPLATE
from aurora.features.invoices.writing import Writer


@pytest.mark.parametrize(
    ("first", "last", "nb", "en"),
    [
        ((2026, 1, 1), (2026, 1, 1), "1. januar 2026", "1 January 2026"),
        ((2026, 1, 1), (2026, 1, 31), "1.–31. januar 2026", "1–31 January 2026"),
        (
            *((2026, 1, 15), (2026, 2, 14)),
            *("15. januar – 14. februar 2026", "15 January – 14 February 2026"),
        ),
        (
            *((2025, 12, 15), (2026, 1, 14)),
            *("15. desember 2025 – 14. januar 2026", "15 December 2025 – 14 January 2026"),
        ),
    ],
)
def test_a_period_says_nothing_twice(
    first: tuple[int, int, int], last: tuple[int, int, int], nb: str, en: str
) -> None:
    written = {
        language: Writer(language, "NOK").period(date(*first), date(*last)).replace("\u00a0", " ")
        for language in LANGUAGES
    }
    assert written == {"nb": nb, "en": en}


@given(st.decimals(-(10**9), 10**9, places=4, allow_nan=False, allow_infinity=False))
def test_a_written_figure_reads_back_as_the_same_number(value: Decimal) -> None:
    nb = Writer("nb", "NOK").figure(value, 2)
    assert Decimal(nb.replace("\u00a0", "").replace(",", ".").replace("\u2212", "-")) == value
    en = Writer("en", "NOK").figure(value, 2)
    assert Decimal(en.replace(",", "")) == value
    assert len(en.partition(".")[2]) >= 2


def test_both_languages_have_the_same_words_with_the_same_places_to_fill() -> None:
    words = json.loads(TEMPLATE.with_name("words.json").read_text(encoding="utf-8"))
    places = {
        language: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in entries.items()}
        for language, entries in words.items()
    }
    assert places["nb"] == places["en"]
