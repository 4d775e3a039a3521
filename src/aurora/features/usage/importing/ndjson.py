"""NDJSON: one usage event per line in the JSON form of the API, or one array of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from aurora.features.usage.decoding import explain
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


class NdjsonParser:
    """Turns JSON objects into events; one without an id gets one from its own bytes."""

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:  # noqa: ARG002
        """Take what the rows do not say, and the source of ids; the head tells nothing more."""
        self._defaults = defaults
        self._ordinals = ordinals
        self._decode = msgspec.json.Decoder(UsageEvent).decode

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield an event or a rejection for each line that is not blank."""
        for number, offset, raw in lines:
            if raw is None:
                yield number, offset, reject_long_line(number)
            elif raw and not raw.isspace():
                yield number, offset, self._event(number, offset, raw)

    def _event(self, number: int, offset: int, raw: bytes) -> UsageEvent | Rejected:
        try:
            if b'"id"' in raw:
                try:
                    event = self._decode(raw)
                except msgspec.ValidationError:
                    # "id" may have stood in the metadata only; otherwise this says what is wrong.
                    event = self._nameless(number, offset, raw)
            else:
                event = self._nameless(number, offset, raw)
        except (ValueError, RecursionError) as error:
            return reject(number, *explain(error), raw)
        wrong = check_event(event)
        if wrong is not None:
            return reject(number, "event_invalid", wrong, raw)
        return self._defaults.attach(event)

    def _nameless(self, number: int, offset: int, raw: bytes) -> UsageEvent:
        fields = msgspec.json.decode(raw)
        if isinstance(fields, dict) and "id" not in fields:
            epoch_s = epoch_of(fields.get("timestamp"))
            fields["id"] = self._ordinals.name(raw, epoch_s, offset, number)
        return msgspec.convert(fields, UsageEvent)


def epoch_of(timestamp: object) -> int:
    """Return the second a timestamp names, or 0: such an event is refused for it anyway."""
    try:
        return int(msgspec.convert(timestamp, datetime).timestamp())
    except (ValueError, OverflowError):
        return 0
