"""Loads a server for minutes and watches its memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec
from bench.rig.batches import CONNECTIONS, PATH
from bench.rig.load import Task, send_load, write_bodies
from bench.rig.measure import median, rss_mb, side_by_side
from bench.rig.postgres import Bench, Customer
from bench.rig.raw_copy import in_batches
from bench.rig.serving import Serving
from bench.rig.usage_events import as_body, marked, plain

from aurora.features.usage.model import UsageEvent

BATCH: Final = 1_000
SINGLES_CONNECTIONS: Final = 32
SAMPLE_EVERY_S: Final = 1.0
FLAT_MB: Final = 5.0
"""How far the last fifth's median may lie above the second fifth's: what an allocator keeps."""


class Memory:
    """Samples of a process' resident memory in MiB, one a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.samples: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the block runs."""
        thread = threading.Thread(target=self._sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def figures(self) -> dict[str, Any]:
        """Return the highest, the growth from the second fifth to the last, and the course."""
        fifth = max(len(self.samples) // 5, 1)
        early, late = self.samples[fifth : 2 * fifth], self.samples[-fifth:]
        grown = median(late) - median(early or late)
        course = self.samples[:: max(len(self.samples) // 10, 1)]
        return {
            "highest_mb": round(max(self.samples), 1),
            "grown_mb": round(grown, 1),
            "is_flat": grown <= FLAT_MB,
            "course_mb": [round(each, 1) for each in course],
        }

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self.samples.append(rss_mb(self._pid))


def load_for(
    minutes: float,
    bench: Bench,
    server: Serving,
    customer: Customer,
    events: Sequence[UsageEvent],
) -> tuple[int, dict[str, Any]]:
    """Send batches and single events at once as fast as they are answered, without a pause.

    Returns:
        How many events were taken, and the figures.
    """
    batches, singles = bench.folder / "lasting-batches", bench.folder / "lasting-singles"
    write_bodies(batches, (as_body(each) for each in in_batches(marked(events), BATCH)))
    write_bodies(singles, (msgspec.json.encode(plain(each)) for each in marked(events[:BATCH])))
    common: dict[str, Any] = {
        "port": server.port,
        "path": PATH,
        "headers": {"authorization": f"Bearer {customer.key}"},
        "seconds": minutes * 60,
        "repeat": True,
        # Beyond the numbers of all rounds before.
        "fresh": 50_000_000,
    }
    tasks = [
        Task(bodies=str(batches), connections=CONNECTIONS[BATCH], **common),
        Task(
            bodies=str(singles),
            connections=SINGLES_CONNECTIONS,
            **(common | {"fresh": 70_000_000}),
        ),
    ]
    memory = Memory(server.pid)
    with memory.watched():
        outcomes = side_by_side(*(partial(send_load, task) for task in tasks))
    sent = outcomes[0].requests * BATCH + outcomes[1].requests
    return sent, {
        "minutes": minutes,
        "events": sent,
        "events_per_s": round(sent / max(each.wall_s for each in outcomes)),
        "batch_p99_ms": round(outcomes[0].p99_ms, 1),
        "single_p99_ms": round(outcomes[1].p99_ms, 1),
        **memory.figures(),
    }
