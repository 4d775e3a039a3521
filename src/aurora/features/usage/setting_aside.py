"""Events that are not counted as they stand: reversals, and those that came out of time."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from aurora.features.usage.model import (
    MAX_AHEAD_SECONDS,
    MAX_LATE_DAYS,
    MAX_QUARANTINE_AHEAD_DAYS,
    MAX_QUARANTINE_LATE_DAYS,
    MAX_QUARANTINED,
    MAX_REVERSALS_PER_CALL,
    UsageEvent,
)

_DAY_US: Final = 86_400_000_000
QUARANTINE_LATE_US: Final = MAX_QUARANTINE_LATE_DAYS * _DAY_US
QUARANTINE_AHEAD_US: Final = MAX_QUARANTINE_AHEAD_DAYS * _DAY_US
QUARANTINED: Final = (
    f"The event is more than {MAX_LATE_DAYS} days late or {MAX_AHEAD_SECONDS} seconds early. It is "
    "kept in quarantine and not counted; an operator may replay it."
)
REFUSALS: Final = {
    "reverses_unknown": "No event of that id and source is known that could be taken back.",
    "quarantine_full": (
        f"The event is out of time, and {MAX_QUARANTINED:,} are in quarantine already."
    ),
    "too_many_reversals": (
        f"A call takes at most {MAX_REVERSALS_PER_CALL:,} reversals; send it again."
    ),
}


class Aside(NamedTuple):
    """An event that is set aside: its place in the batch, and what it is told by."""

    number: int
    organization_id: UUID
    key: bytes
    digest: bytes
    event: UsageEvent
    reverses: bytes | None

    def identity(self) -> dict[str, Any]:
        """Return what SQL tells it by."""
        return {
            "ordinal": self.number,
            "organization_id": self.organization_id,
            "event_key": UUID(bytes=self.key),
            "digest": int.from_bytes(self.digest, "big", signed=True),
            "timestamp": self.event.timestamp,
        }


def reversal_rows(asides: list[Aside]) -> bytes:
    """Return reversals as app.reverse_usage() takes them."""
    return msgspec.json.encode(
        [
            {
                **aside.identity(),
                "event_id": aside.event.id,
                "reverses": UUID(bytes=aside.reverses),
                "api_key_id": aside.event.api_key_id,
                "metadata": aside.event.metadata,
            }
            for aside in asides
            if aside.reverses is not None
        ]
    )


def quarantine_rows(asides: list[Aside]) -> bytes:
    """Return events that came out of time as app.quarantine_usage() takes them."""
    return msgspec.json.encode(
        [
            {**aside.identity(), "reason": "timestamp_out_of_range", "event": aside.event}
            for aside in asides
        ]
    )
