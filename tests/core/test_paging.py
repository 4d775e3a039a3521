"""A cursor gives back what was put in, and anything else is refused as cursor_invalid."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.paging import (
    DEFAULT_PAGE_SIZE,
    MAX_CURSOR_LENGTH,
    MAX_PAGE_SIZE,
    CursorInvalid,
    PageSizeInvalid,
    decode_cursor,
    encode_cursor,
    page_of,
    page_size,
)

MOMENTS = st.datetimes(timezones=st.just(UTC))
BIGINTS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)

AT = datetime(2026, 11, 24, 2, 47, 1, 123_456, tzinfo=UTC)
ID = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


def raw_cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@given(MOMENTS, st.uuids())
def test_a_cursor_gives_back_a_moment_and_an_id(at: datetime, row: UUID) -> None:
    cursor = encode_cursor(at, row)
    assert decode_cursor(cursor, (datetime, UUID)) == (at, row)
    assert len(cursor) <= MAX_CURSOR_LENGTH
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(TEXTS, BIGINTS)
def test_a_cursor_gives_back_a_text_and_a_number(text: str, number: int) -> None:
    assert decode_cursor(encode_cursor(text, number), (str, int)) == (text, number)


def test_a_cursor_in_another_zone_is_the_same_moment() -> None:
    tokyo = AT.astimezone(timezone(timedelta(hours=9)))
    assert encode_cursor(tokyo) == encode_cursor(AT)


def test_a_moment_without_a_zone_makes_no_cursor() -> None:
    with pytest.raises(ValueError, match="names no time zone"):
        encode_cursor(AT.replace(tzinfo=None))


def test_a_cursor_that_could_not_be_read_back_is_not_given_out() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_cursor("x" * MAX_CURSOR_LENGTH)


GOOD = encode_cursor(AT, ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "%%%",
        GOOD + "=",
        GOOD + "\n",
        GOOD[:-1],
        GOOD[::-1],
        "é" + GOOD[1:],
        "\ud800",
        GOOD * 10,
        encode_cursor(ID, AT),
        encode_cursor(AT),
        encode_cursor(AT, ID, 1),
        encode_cursor(1, 2),
        raw_cursor("{}"),
        raw_cursor("null"),
        raw_cursor("[" * 400),
        raw_cursor(f'["{AT.isoformat()}", "{ID}"]'),  # the same values with a space: not ours
        raw_cursor(f'["2026-11-24T02:47:01.123456","{ID}"]'),  # no zone
        raw_cursor(f'["2026-11-24T02:47:01.123456+01:00","{ID}"]'),
        raw_cursor(f'["2026-11-24T02:47:01.123456Z","{str(ID).upper()}"]'),
        raw_cursor(f'["0001-01-01T00:00:00+23:59","{ID}"]'),  # before year 1 in UTC
    ],
)
def test_a_cursor_that_is_not_ours_is_refused_with_its_code(text: str) -> None:
    with pytest.raises(CursorInvalid) as refusal:
        decode_cursor(text, (datetime, UUID))
    assert (refusal.value.status, refusal.value.code) == (422, "cursor_invalid")


@pytest.mark.parametrize("literal", [2**63, -(2**63) - 1, 10**300])
def test_a_number_beyond_bigint_is_refused(literal: int) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(raw_cursor(f"[{literal}]"), (int,))


@pytest.mark.parametrize("literal", [r'["a\u0000b"]', r'["\ud800"]', "[1]", "[NaN]"])
def test_a_text_that_postgresql_cannot_hold_is_refused(literal: str) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(raw_cursor(literal), (str,))


@given(st.text(max_size=80))
def test_no_text_makes_decoding_fail_in_another_way(text: str) -> None:
    try:
        decoded = decode_cursor(text, (datetime, UUID))
    except CursorInvalid:
        return
    assert encode_cursor(*decoded) == text


@given(st.binary(max_size=60))
def test_no_bytes_make_decoding_fail_in_another_way(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    try:
        decoded = decode_cursor(text, (str, int))
    except CursorInvalid:
        return
    assert encode_cursor(*decoded) == text


def test_page_sizes_have_a_default_and_bounds() -> None:
    assert page_size(None) == DEFAULT_PAGE_SIZE == 50
    assert page_size(1) == 1
    assert page_size(MAX_PAGE_SIZE) == 200
    for wrong in (0, -1, MAX_PAGE_SIZE + 1, 10**30):
        with pytest.raises(PageSizeInvalid):
            page_size(wrong)


@given(st.integers(0, 30), st.integers(1, 7))
def test_pages_show_every_row_once_and_then_end(total: int, size: int) -> None:
    rows = list(range(total))
    shown: list[int] = []
    after = -1
    for _ in range(total + 1):
        page = page_of(rows[after + 1 : after + 2 + size], size, lambda row: (row,))
        assert len(page.items) <= size
        assert page.items or not rows  # a full last page has no empty page after it
        shown += page.items
        if page.next_cursor is None:
            break
        (after,) = decode_cursor(page.next_cursor, (int,))
    assert shown == rows
