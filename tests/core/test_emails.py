"""Addresses: what can be mailed is taken in one form, what looks like something else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.emails import EmailInvalid, check_email, to_ascii

FULL_LENGTH = "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".no"


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("post@hotel.example", "post@hotel.example"),
        ("O'Brien+tag@Hotel.Example", "O'Brien+tag@hotel.example"),
        ("post@blåbær.no", "post@blåbær.no"),
        ("post@BLÅBÆR.NO", "post@blåbær.no"),
        ("post@bla\u030abær.no", "post@blåbær.no"),
        ("post@xn--blbr-roah.no", "post@blåbær.no"),
        ("post@straße.example", "post@straße.example"),
        (FULL_LENGTH, FULL_LENGTH),
    ],
)
def test_an_address_has_one_stored_form(written: str, stored: str) -> None:
    assert check_email(written) == stored


@pytest.mark.parametrize(
    "trick",
    [
        "post@hotel.example\n",
        "post@hotel.example\r\nBcc: all@hotel.example",
        " post@hotel.example",
        "post@hotel.example\u200b",
        "post\u00a0@hotel.example",
        "post@hotel.\u212andal.example",
        "\u212aari@hotel.example",
        "kar\u0131@hotel.example",
        "post@m\u0131crosoft.example",
        "post@\u0130stanbul.example",
        "\uff50ost@hotel.example",
        "post@\ufb01rm.example",
        "æ@hotel.example",
        "a" * 300 + "@hotel.example",
        "a" * 65 + "@hotel.example",
        "a@" + "b" * 64 + ".no",
        "post@hotel",
        "post@127.0.0.1",
        "post@@hotel.example",
        ".post@hotel.example",
        "po..st@hotel.example",
        "post@.hotel.example",
        "post@hotel..example",
        "post@-hotel.example",
        "post@hotel.example.",
        "<post@hotel.example>",
        "a@b.no,c@d.no",
        "",
    ],
)
def test_a_trick_is_refused_with_a_reason(trick: str) -> None:
    with pytest.raises(EmailInvalid, match="can be sent to: "):
        check_email(trick)


@given(st.text(max_size=80))
def test_whatever_is_taken_is_stable_and_one_line(text: str) -> None:
    try:
        stored = check_email(text + "@hotel.example")
    except EmailInvalid:
        return
    assert check_email(stored) == stored
    assert stored.isprintable()
    assert " " not in stored


def test_smtp_gets_punycode() -> None:
    assert to_ascii("post@blåbær.no") == "post@xn--blbr-roah.no"
