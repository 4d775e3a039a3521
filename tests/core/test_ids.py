"""Identifiers are UUIDs of version 7 that sort by time; request ids are names for the logs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.core.clock import freeze
from aurora.core.ids import new_id, request_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(EPOCH.replace(tzinfo=None), timezones=st.just(UTC))
MICROSECOND = timedelta(microseconds=1)


def test_an_id_has_the_bits_of_the_example_in_rfc_9562() -> None:
    # Appendix A.6: 2022-02-22 14:22:22 at UTC-5 is 017F22E279B0.
    with freeze(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)):
        made = new_id()
    assert made.hex.startswith("017f22e279b07")
    assert made.variant == RFC_4122
    assert made.version == 7


@given(MOMENTS.filter(lambda at: at.year < 9999))
def test_ids_sort_by_the_microsecond_they_were_made(at: datetime) -> None:
    with freeze(at) as clock:
        first = new_id()
        clock.advance(MICROSECOND)
        second = new_id()
    assert first < second
    assert first.bytes < second.bytes  # PostgreSQL compares bytes


@given(MOMENTS)
def test_an_id_tells_the_millisecond_it_was_made(at: datetime) -> None:
    with freeze(at):
        made = new_id()
    since_1970 = at - EPOCH
    assert made.int >> 80 == since_1970 // timedelta(milliseconds=1)
    assert (made.version, made.variant) == (7, RFC_4122)


def test_ids_of_one_moment_differ() -> None:
    with freeze(datetime(2026, 1, 1, tzinfo=UTC)):
        assert len({new_id() for _ in range(10_000)}) == 10_000


def test_no_id_is_made_before_1970() -> None:
    with freeze(datetime(1969, 12, 31, tzinfo=UTC)), pytest.raises(ValueError, match="1970"):
        new_id()


def test_a_request_id_is_one_safe_word() -> None:
    assert re.fullmatch(r"req_[0-9a-f]{32}", request_id())
    assert request_id() != request_id()
