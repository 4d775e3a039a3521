"""The meter: what a request is written down as, and what becomes of it where that fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.client.backend import Away
from aurora.client.metering import Meter, Served, moment
from aurora.client.model import Receipt, Verdict
from aurora.client.spool import Spool, events_of

AT = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
WHOSE = Verdict(valid=True, code="VALID", organization_id=UUID(int=1), key_id=UUID(int=2))


class Nowhere:
    """An Aurora that is away, so that what is written stays to be looked at."""

    def plan(self) -> None:
        """Send from a thread."""

    def verifier(self) -> Any:
        """Nobody asks."""
        raise NotImplementedError

    def recorder(self) -> Nowhere:
        """Return itself."""
        return self

    async def open(self) -> None:
        """Open nothing."""

    async def record(self, body: bytes) -> Receipt:
        """Fail."""
        del body
        raise Away("nobody is there", retry_after_s=60)

    async def close(self) -> None:
        """Close nothing."""


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Meter]:
    made = Meter(Nowhere(), tmp_path / "spool.db", flush_s=0.01)
    yield made
    made.close(0.1)


def _served(**fields: Any) -> Served:
    known: dict[str, Any] = {
        "at_s": AT.timestamp(),
        "verdict": WHOSE,
        "method": "GET",
        "endpoint": "/rooms/{id}",
        "status": 200,
        "ms": 3,
        "origin": None,
        "user_agent": None,
        "ip": "192.0.2.7",
        "event_id": None,
        "more": None,
        "done": None,
    }
    return Served(**{**known, **fields})


def _written(meter: Meter) -> list[dict[str, Any]]:
    """Return what is in the file, once all is written."""
    path = meter.spool.path
    meter.close(0.1)
    again = Spool(path)
    waiting = again.next(1_000, 1_000_000)
    again.close()
    events = [] if waiting is None else events_of(waiting.body)
    return [msgspec.json.decode(each) for each in events]


def test_a_request_is_written_down_as_it_was(meter: Meter) -> None:
    meter.note(_served(user_agent="x" * 5_000, more={"country_code": "NO"}))
    (event,) = _written(meter)
    assert event.pop("id").endswith("-1")
    assert event == {
        "timestamp": "2026-01-31T23:59:59.999999Z",
        "endpoint": "/rooms/{id}",
        "status_code": 200,
        "api_key_id": str(UUID(int=2)),
        "organization_id": str(UUID(int=1)),
        "source": "aurora-middleware",
        "response_time_ms": 3,
        "user_agent": "x" * 2_048,
        "ip_address": "192.0.2.7",
        "country_code": "NO",
    }


def test_what_is_noted_as_no_json_costs_its_own_event_and_no_other(
    meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException | None] = []
    meter.note(_served(endpoint="/before"))
    with caplog.at_level(logging.ERROR):
        meter.note(_served(more={"metadata": {"what": object()}}, done=told.append))
    meter.note(_served(endpoint="/after"))
    assert [each["endpoint"] for each in _written(meter)] == ["/before", "/after"]
    assert "usage of a request cannot be written" in caplog.text
    # Dropping is what was chosen: the request is served all the same.
    assert told == [None]


class Together(Meter):
    """The wrong version: what was noted becomes JSON all at once, when it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(Nowhere(), path)
        self.gathered: list[Served] = []

    def note(self, served: Served) -> None:
        """Keep it."""
        self.gathered.append(served)

    def close(self, timeout_s: float = 0.1) -> None:
        """Write what was kept."""
        with contextlib.suppress(TypeError):
            events = msgspec.json.encode([self._event(each) for each in self.gathered])
            self._pending.append((events[1:-1], None))
        super().close(timeout_s)


def test_a_batch_that_is_encoded_as_one_is_lost_as_one(tmp_path: Path) -> None:
    meter = Together(tmp_path / "spool.db")
    meter.note(_served(endpoint="/before"))
    meter.note(_served(more={"metadata": {"what": object()}}))
    assert _written(meter) == []


def test_who_refuses_what_cannot_be_metered_hears_of_it(tmp_path: Path) -> None:
    told: list[BaseException | None] = []
    meter = Meter(Nowhere(), tmp_path / "spool.db", when_full="refuse")
    meter.note(_served(more={"metadata": {"what": object()}}, done=told.append))
    meter.close(0.1)
    assert isinstance(told[0], TypeError)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS = st.integers(min_value=0, max_value=7_258_118_400_000_000)
"""From 1970 to 2200."""


@given(MICROSECONDS)
def test_a_moment_is_written_as_any_other_part_of_aurora_writes_it(micros: int) -> None:
    at = EPOCH + timedelta(microseconds=micros)
    written = msgspec.json.decode(f'"{moment(at.timestamp())}"', type=datetime)
    # A float of that size holds half a microsecond, and no less.
    assert abs(written - at) <= timedelta(microseconds=1)


def test_a_moment_just_before_a_second_stays_before_it() -> None:
    # Cut into second and fraction as floats, this one became 60.000000.
    assert moment(AT.timestamp()) == "2026-01-31T23:59:59.999999Z"
    assert moment(AT.timestamp() + 0.000_000_9) == "2026-02-01T00:00:00.000000Z"
