"""Money is rounded half away from zero, once, and never through a binary fraction."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.money import (
    CURRENCY_DIGITS,
    MAX_INTEGER_DIGITS,
    AmountInvalid,
    CurrencyUnknown,
    format_money,
    from_minor,
    round_money,
    to_minor,
)

AMOUNTS = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=6)
CURRENCIES = st.sampled_from(sorted(CURRENCY_DIGITS))
LIMIT_MINOR = 10**14


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("0.125", "NOK", "0.13"),  # the default quantize and round() give 0.12
        ("-0.125", "NOK", "-0.13"),
        ("2.675", "NOK", "2.68"),  # 2.675 as a binary fraction is a little less
        ("2.5", "ISK", "3"),
        ("3.5", "JPY", "4"),
        ("1.0005", "KWD", "1.001"),
        ("3500", "NOK", "3500.00"),
        # Worked examples of Lago's credit notes: 29 of 30 days, and 25 % of it.
        ("154.6666666667", "EUR", "154.67"),
        ("38.6675", "EUR", "38.67"),
    ],
)
def test_halves_are_rounded_away_from_zero(amount: str, currency: str, rounded: str) -> None:
    assert str(round_money(Decimal(amount), currency)) == rounded


@given(AMOUNTS, CURRENCIES)
def test_rounding_moves_an_amount_by_half_a_unit_at_most(amount: Decimal, currency: str) -> None:
    unit = Decimal(1).scaleb(-CURRENCY_DIGITS[currency])
    rounded = round_money(amount, currency)
    assert abs(rounded - amount) * 2 <= unit
    assert rounded.as_tuple().exponent == -CURRENCY_DIGITS[currency]
    assert round_money(rounded, currency) == rounded


@given(AMOUNTS, CURRENCIES)
def test_a_credit_note_is_exactly_minus_its_invoice(amount: Decimal, currency: str) -> None:
    assert round_money(-amount, currency) == -round_money(amount, currency)


@given(st.integers(-LIMIT_MINOR, LIMIT_MINOR), CURRENCIES)
def test_minor_units_and_whole_units_are_the_same_money(minor: int, currency: str) -> None:
    assert to_minor(from_minor(minor, currency), currency) == minor


def test_minor_units_follow_the_digits_of_the_currency() -> None:
    assert to_minor(Decimal("12.5"), "NOK") == 1250
    assert to_minor(Decimal(1250), "ISK") == 1250
    assert to_minor(Decimal("1.250"), "KWD") == 1250
    assert from_minor(1, "NOK") == Decimal("0.01")


def test_minor_units_are_never_a_second_place_that_rounds() -> None:
    with pytest.raises(AmountInvalid, match="round it first"):
        to_minor(Decimal("12.345"), "NOK")
    with pytest.raises(AmountInvalid, match="round it first"):
        to_minor(Decimal("12.5"), "ISK")


@pytest.mark.parametrize("amount", [1.5, 0.0, "1.50", True, None])
def test_binary_fractions_texts_and_truth_values_are_not_money(amount: Any) -> None:
    for refuse in (
        round_money,
        lambda a: to_minor(a, "NOK"),
        lambda a: format_money(a, "NOK", "nb"),
    ):
        with pytest.raises(TypeError, match="money is Decimal or int"):
            refuse(amount)


@pytest.mark.parametrize("minor", [1.0, True, Decimal(1), "1"])
def test_minor_units_are_counted_in_int(minor: Any) -> None:
    with pytest.raises(TypeError, match="counted in int"):
        from_minor(minor, "NOK")


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-NaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_not_money(text: str) -> None:
    with pytest.raises(AmountInvalid, match="finite"):
        round_money(Decimal(text))


@pytest.mark.parametrize(
    "amount", [Decimal("1e131071"), 10**4_000, -(10**4_000), Decimal(10) ** 15]
)
def test_an_amount_of_absurd_size_is_refused_at_once(amount: Decimal | int) -> None:
    with pytest.raises(AmountInvalid, match=f"at most {MAX_INTEGER_DIGITS} digits"):
        round_money(amount)
    with pytest.raises(AmountInvalid, match=f"at most {MAX_INTEGER_DIGITS} digits"):
        from_minor(10**17, "NOK")


def test_an_amount_of_absurd_precision_is_rounded_to_its_currency() -> None:
    assert round_money(Decimal("0." + "0" * 3_000 + "1")) == 0
    assert round_money(Decimal("0.005" + "0" * 3_000)) == Decimal("0.01")


def test_zero_is_never_negative() -> None:
    assert str(round_money(Decimal("-0.004"))) == "0.00"
    assert format_money(Decimal("-0.004"), "NOK", "en") == "NOK 0.00"


def test_the_context_of_the_thread_changes_no_amount() -> None:
    with localcontext() as context:
        context.prec, context.rounding = 3, ROUND_DOWN
        assert str(round_money(Decimal("123456.785"))) == "123456.79"
        assert to_minor(Decimal("123456.78"), "NOK") == 12345678
        assert str(from_minor(12345678, "NOK")) == "123456.78"
        assert format_money(Decimal("123456.785"), "NOK", "en") == "NOK 123,456.79"


@pytest.mark.parametrize("currency", ["nok", "XXX", "", "NOK\n", "N" * 1000])
def test_an_unknown_currency_is_refused_briefly(currency: str) -> None:
    with pytest.raises(CurrencyUnknown) as refusal:
        round_money(Decimal(1), currency)
    assert len(refusal.value.detail) < 400


@pytest.mark.parametrize(
    ("amount", "currency", "nb", "en"),
    [
        ("3500", "NOK", "3\u00a0500,00\u00a0kr", "NOK 3,500.00"),
        ("1234567.891", "NOK", "1\u00a0234\u00a0567,89\u00a0kr", "NOK 1,234,567.89"),
        ("-99.5", "NOK", "\u221299,50\u00a0kr", "-NOK 99.50"),
        ("999", "SEK", "999,00\u00a0SEK", "SEK 999.00"),
        ("12000", "ISK", "12\u00a0000\u00a0ISK", "ISK 12,000"),
    ],
)
def test_money_is_written_as_people_read_it(amount: str, currency: str, nb: str, en: str) -> None:
    assert format_money(Decimal(amount), currency, "nb") == nb
    assert format_money(Decimal(amount), currency, "en") == en


@given(AMOUNTS, CURRENCIES)
def test_formatted_money_reads_back_as_the_rounded_amount(amount: Decimal, currency: str) -> None:
    english = format_money(amount, currency, "en")
    assert Decimal(english.replace(f"{currency} ", "").replace(",", "")) == round_money(
        amount, currency
    )
