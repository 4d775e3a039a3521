"""A key's dates hold from the very second, also for a key whose use was noted a moment ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from aurora.core import clock
from aurora.core.secrets import generate_api_key
from aurora.features.gate.decision import decide
from aurora.features.gate.model import Code, KeyRow, VerifyRequest
from aurora.features.gate.service import Gate, _digest
from aurora.features.keys.model import KeyRecord

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Remembering(Gate):
    """The wrong version: the moment in which a key's use was noted stands until the next one."""

    def _decide(self, digest: bytes, record: KeyRecord, request: VerifyRequest) -> Code:
        if record.noted_in == self.errands.round:
            return decide(record, request, self.errands.used[digest])
        return super()._decide(digest, record, request)


def _codes(gate: Gate, **dates: datetime) -> list[Code]:
    """Return the codes of a key a second before its date, and at it."""
    key = generate_api_key("production").key
    row = KeyRow(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        organization_status="active",
        plan_id=None,
        kind="secret",
        environment="production",
        scopes=[],
        status="active",
        not_before=dates.get("not_before"),
        expires_at=dates.get("expires_at"),
        allowed_origins=[],
        ip_whitelist=None,
        rate_limit_tier="demo",
        rate_limit_per_hour=1,
        burst_per_second=None,
    )
    gate.cache.keep(_digest(key), gate.cache.compile(row), gate.cache.generation)
    gate.watch.fresh_until = float("inf")
    found: list[Code] = []
    with clock.freeze(NOW - SECOND) as frozen:
        for _ in range(2):
            # Twice: from the second on its use is noted already.
            codes: list[Code] = []
            for _ in range(2):
                verdict = gate.verify_at_once(VerifyRequest(key=key))
                codes += [] if verdict is None else [verdict.code]
            found.append(codes[1])
            frozen.advance(SECOND)
    return found


def _gate(made: type[Gate]) -> Gate:
    return made(cast("Any", None))


def test_a_key_in_use_expires_in_its_second() -> None:
    assert _codes(_gate(Gate), expires_at=NOW) == ["VALID", "EXPIRED"]


def test_a_key_begins_in_its_second() -> None:
    assert _codes(_gate(Gate), not_before=NOW) == ["NOT_YET", "VALID"]


def test_a_key_without_dates_is_always_alive() -> None:
    assert _codes(_gate(Gate)) == ["VALID", "VALID"]


def test_a_gate_that_remembers_the_moment_lets_an_expired_key_pass() -> None:
    with pytest.raises(AssertionError):
        assert _codes(_gate(Remembering), expires_at=NOW) == ["VALID", "EXPIRED"]
