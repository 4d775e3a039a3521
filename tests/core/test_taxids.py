"""Organization, VAT, and KID numbers: the valid pass in one form, the invalid say what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.taxids import (
    MAX_TAX_ID_LENGTH,
    CountryInvalid,
    OrgNumberInvalid,
    VatNumberInvalid,
    check_org_number,
    check_vat_number,
    is_kid,
    kid,
)

DIGITS = st.text("0123456789", min_size=1, max_size=24)


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("123456785", "NO", "123456785"),
        ("987 654 325", "no", "987654325"),
        ("923\u00a0609\u00a0016", "NO", "923609016"),  # no-break spaces, as web pages have them
        ("\uff11\uff12\uff13456785", "NO", "123456785"),  # full-width digits
        ("923609016", "SJ", "923609016"),  # Svalbard's companies stand in the Norwegian register
        ("556703-7485", "SE", "5567037485"),
        ("DK-13585628", "DK", "13585628"),
        ("2077474-0", "FI", "20774740"),
        ("450401-3150", "IS", "4504013150"),
        ("443 061 841", "FR", "443061841"),
        ("HRB 86891", "DE", "HRB86891"),  # a register we cannot check
    ],
)
def test_a_valid_organization_number_has_one_form(text: str, country: str, number: str) -> None:
    assert check_org_number(text, country) == number
    assert check_org_number(number, country) == number


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("123456789", "NO"),  # the seed's own number
        ("12345678", "NO"),
        ("1234567855", "NO"),
        ("123456785MVA", "NO"),
        ("", "NO"),
        ("556703-7486", "SE"),
        ("\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0665", "NO"),  # Arabic digits
        ("4504\u0660\u0661\u0663\u0661\u0665" + "0", "IS"),  # its regex takes them as digits
        ("123456785\0", "NO"),
        ("only letters", "US"),
        ("1" * 21, "US"),
        ("<script>1", "US"),
        ("1" * (MAX_TAX_ID_LENGTH + 1), "NO"),
        ("\ufdfa1" * 20, "US"),  # NFKC makes eighteen characters of the first one
        ("\ud8001", "US"),
    ],
)
def test_an_invalid_organization_number_is_refused(text: str, country: str) -> None:
    with pytest.raises(OrgNumberInvalid) as refusal:
        check_org_number(text, country)
    assert refusal.value.code == "org_number_invalid"
    assert refusal.value.detail.endswith(".")


def test_the_refusal_of_a_norwegian_number_says_what_to_look_for() -> None:
    with pytest.raises(OrgNumberInvalid, match="nine digits, the last one a check digit"):
        check_org_number("123456789", "NO")
    with pytest.raises(VatNumberInvalid, match="organization number and MVA"):
        check_vat_number("123456785", "NO")


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("NO123456785MVA", "NO", "NO123456785MVA"),
        ("no 123 456 785 mva", "NO", "NO123456785MVA"),
        ("123456785MVA", "SJ", "NO123456785MVA"),
        ("\uff2e\uff2f123456785\uff2d\uff36\uff21", "NO", "NO123456785MVA"),  # full width
        ("SE 556703748501", "SE", "SE556703748501"),
        ("136 695 976", "DE", "DE136695976"),
        ("094259216", "GR", "EL094259216"),
        ("EL094259216", "GR", "EL094259216"),
        ("FR 61 954 506 077", "FR", "FR61954506077"),
        ("980780684", "GB", "GB980780684"),
        ("XI 980780684", "GB", "XI980780684"),
        ("CHE-107.787.577 IVA", "CH", "CHE107787577IVA"),
        ("IS 00621", "IS", "IS00621"),
        ("12-3456789", "US", "US123456789"),
    ],
)
def test_a_valid_vat_number_gets_the_prefix_of_its_country(
    text: str, country: str, number: str
) -> None:
    assert check_vat_number(text, country) == number
    assert check_vat_number(number, country) == number


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("NO123456789MVA", "NO"),
        ("123456785", "NO"),  # registered for VAT or not: the number must say it
        ("NO123456785", "NO"),
        ("DE136695976", "SE"),
        ("DE136695977", "DE"),
        ("NO123456785MVA", "DE"),
        ("XI980780685", "GB"),
        ("", "US"),
    ],
)
def test_an_invalid_vat_number_is_refused(text: str, country: str) -> None:
    with pytest.raises(VatNumberInvalid) as refusal:
        check_vat_number(text, country)
    assert refusal.value.code == "vat_number_invalid"


@pytest.mark.parametrize("country", ["", "N", "NOR", "N0", "NO\n", "ÆØ", "..", "\u212aR"])
def test_a_country_is_two_letters(country: str) -> None:
    with pytest.raises(CountryInvalid):
        check_org_number("123456785", country)
    with pytest.raises(CountryInvalid):
        check_vat_number("NO123456785MVA", country)


@given(
    st.text(max_size=50), st.sampled_from(["NO", "SE", "FI", "IS", "CH", "GB", "ES", "US", "AT"])
)
def test_no_text_makes_a_check_fail_in_another_way(text: str, country: str) -> None:
    for check, refusal in (
        (check_org_number, OrgNumberInvalid),
        (check_vat_number, VatNumberInvalid),
    ):
        try:
            number = check(text, country)
        except refusal:
            continue
        assert number.isascii()
        assert number.isalnum()
        assert check(number, country) == number


@given(st.integers(0, 8), st.sampled_from("0123456789"))
def test_one_wrong_digit_in_a_norwegian_number_is_found(position: int, digit: str) -> None:
    typo = "923609016"[:position] + digit + "923609016"[position + 1 :]
    if typo == "923609016":
        assert check_org_number(typo, "NO") == typo
    else:
        with pytest.raises(OrgNumberInvalid):
            check_org_number(typo, "NO")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1234, "12344"), ("1234", "12344"), ("0001", "00018"), ("7", "75"), (0, "00")],
)
def test_a_kid_ends_in_its_mod10_digit(number: int | str, expected: str) -> None:
    assert kid(number) == expected
    assert is_kid(expected)


@given(DIGITS)
def test_every_kid_is_valid_and_any_other_last_digit_is_not(digits: str) -> None:
    made = kid(digits)
    assert is_kid(made)
    assert sum(is_kid(digits + last) for last in "0123456789") == 1


@given(DIGITS, st.data())
def test_one_wrong_digit_in_a_kid_is_found(digits: str, data: st.DataObject) -> None:
    made = kid(digits)
    position = data.draw(st.integers(0, len(made) - 1))
    digit = data.draw(st.sampled_from("0123456789"))
    typo = made[:position] + digit + made[position + 1 :]
    assert is_kid(typo) == (typo == made)


@pytest.mark.parametrize("number", [-1, "", "12a", "1 2", "1" * 25, "\u0661", "1\n"])
def test_a_kid_is_made_of_up_to_24_ascii_digits(number: int | str) -> None:
    with pytest.raises(ValueError, match="1 to 24 digits"):
        kid(number)


@pytest.mark.parametrize("text", ["", "0", "12345", "12344\n", "1234 4", "\u0661" * 2, "0" * 26])
def test_what_is_not_a_kid_is_not_one(text: str) -> None:
    assert not is_kid(text)
