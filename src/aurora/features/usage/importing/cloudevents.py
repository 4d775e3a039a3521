"""CloudEvents 1.0 in files: one event per line in structured JSON, or one batch array."""

from __future__ import annotations

from collections.abc import Iterator

from aurora.features.usage.cloudevents import read_cloudevent
from aurora.features.usage.importing.formats import (
    Defaults,
    Record,
    Rejected,
    reject,
    reject_long_line,
)
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent
from aurora.features.usage.packing import check_event
from aurora.integrations.textfiles import Line


class CloudEventsParser:
    """Turns CloudEvents into usage events, strictly by the specification."""

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:  # noqa: ARG002
        """Take what the events do not say; they carry their own ids."""
        self._defaults = defaults

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield an event or a rejection for each line that is not blank."""
        for number, offset, raw in lines:
            if raw is None:
                yield number, offset, reject_long_line(number)
            elif raw and not raw.isspace():
                yield number, offset, self._event(number, raw)

    def _event(self, number: int, raw: bytes) -> UsageEvent | Rejected:
        event = read_cloudevent(raw)
        if isinstance(event, tuple):
            return reject(number, *event, raw)
        wrong = check_event(event)
        if wrong is not None:
            return reject(number, "event_invalid", wrong, raw)
        return self._defaults.attach(event)
