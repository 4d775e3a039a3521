"""What is read from a browser, and what it is given."""

from __future__ import annotations

import pytest
from tests.features.sign_in.conftest import FIREFOX

from aurora.features.sign_in.browser import (
    PublicUrlInvalid,
    Site,
    cookie,
    csrf_token,
    place_of,
    user_agent_family,
)


@pytest.mark.parametrize(
    "url", ["http://aurora.example", "https://a.example/x", "ftp://127.0.0.1", "https://", "x"]
)
def test_cookies_never_travel_in_the_clear(url: str) -> None:
    with pytest.raises(PublicUrlInvalid):
        Site(url)


def test_a_cookie_sent_twice_is_nobodys() -> None:
    assert cookie({b"cookie": b"a=1; b=2"}, "b") == "2"
    assert cookie({b"cookie": b"b=1; b=2"}, "b") is None
    assert cookie({b"cookie": b"xb=1; b"}, "b") is None


def test_a_csrf_token_belongs_to_one_session() -> None:
    assert csrf_token("one") == csrf_token("one") != csrf_token("two")


def test_places_and_browsers_are_told_apart_no_finer_than_needed() -> None:
    assert (
        place_of("2001:db8:1:2:3::4") == place_of("2001:db8:1:2:ffff::") != place_of("2001:db8::")
    )
    assert place_of("::ffff:192.0.2.7") == place_of("192.0.2.7") == "192.0.2.7"
    assert place_of("not an address") == place_of(None) == "unknown"
    assert user_agent_family(FIREFOX) == "Firefox"
    assert user_agent_family("x" * 9999) == user_agent_family(None) == "other"
