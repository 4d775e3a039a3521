"""The events that benchmarks of the ingest send: two weeks of a widget platform, until now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from bench.rig.access_logs import DAYS, FIRST_SECOND, write_access_log
from bench.rig.load import MARK

from aurora.features.usage.importing import Defaults, parse_file
from aurora.features.usage.model import UsageEvent


def recent_events(count: int) -> Iterator[UsageEvent]:
    """Yield so many events of an access log, in their order."""
    shift = datetime.now(UTC) - FIRST_SECOND - timedelta(days=DAYS)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        # A few of its lines are none.
        write_access_log(log, count + count // 10 + 100)
        parsed = parse_file(log, defaults=Defaults())
        events = (event for event in parsed if isinstance(event, UsageEvent))
        for event in islice(events, count):
            event.timestamp += shift
            yield event


def as_body(events: Iterable[UsageEvent]) -> bytes:
    """Return the JSON array that a client would send: what an event does not say is left out."""
    return msgspec.json.encode([plain(event) for event in events])


def plain(event: UsageEvent) -> dict[str, Any]:
    """Return an event as a client would write it."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if value is not None}


def marked(events: Iterable[UsageEvent]) -> list[UsageEvent]:
    """Return copies with ids that a load generator makes new each time it sends them."""
    mark = MARK.decode()
    return [
        msgspec.structs.replace(event, id=f"{mark}-{number}") for number, event in enumerate(events)
    ]
