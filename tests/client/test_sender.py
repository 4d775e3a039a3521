"""The sender: an event leaves the spool when Aurora has said that it has it, and not before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aurora.client.backend import Away
from aurora.client.model import Receipt
from aurora.client.sender import Sender
from aurora.client.spool import Spool, Waiting, events_of

PATIENCE_S = 10.0


class Unlucky:
    """An Aurora that commits what it gets and loses its first answers, or never gets it at all."""

    def __init__(self, *, lost_answers: int, dies_first: bool = False) -> None:
        self.lost, self.dies_first = lost_answers, dies_first
        self.committed: dict[str, bytes] = {}
        self.calls = 0

    async def open(self) -> None:
        """Nothing."""

    async def record(self, body: bytes) -> Receipt:
        """Commit, unless it dies first; answer once the answers that get lost are used up."""
        self.calls += 1
        if self.calls <= self.lost and self.dies_first:
            raise Away("it died before it committed")
        events = events_of(body)
        duplicates = 0
        for event in events:
            name = msgspec.json.decode(event)["id"]
            duplicates += name in self.committed
            self.committed[name] = event
        if self.calls <= self.lost:
            raise Away("the answer was lost", retry_after_s=0)
        return Receipt(accepted=len(events) - duplicates, duplicates=duplicates)

    async def close(self) -> None:
        """Nothing."""


class DeletesFirst(Spool):
    """The wrong version: what is taken to be sent is deleted before it is acknowledged."""

    def next(self, max_events: int, max_bytes: int) -> Waiting | None:
        """Take and forget."""
        waiting = super().next(max_events, max_bytes)
        if waiting is not None:
            self.settle(waiting.ids)
        return waiting


def _until(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _send(path: Path, make: type[Spool], aurora: Unlucky) -> int:
    """Send ten events until the file is empty; return how many Aurora has."""
    spool = make(path)
    for number in range(10):
        spool.add(b'{"id":"%d"}' % number, 1)
    recorder: Any = aurora
    sender = Sender(spool, recorder)
    sender.start()
    assert _until(lambda: spool.waiting == 0)
    assert _until(lambda: aurora.calls > 0)
    sender.stop(PATIENCE_S)
    spool.close()
    return len(aurora.committed)


@pytest.mark.parametrize("dies_first", [False, True])
def test_nothing_is_lost_with_an_answer_or_a_request(tmp_path: Path, dies_first: bool) -> None:
    aurora = Unlucky(lost_answers=2, dies_first=dies_first)
    assert _send(tmp_path / "spool.db", Spool, aurora) == 10
    assert aurora.calls == 3


def test_a_spool_that_deletes_before_the_acknowledgement_loses_events(tmp_path: Path) -> None:
    aurora = Unlucky(lost_answers=2, dies_first=True)
    assert _send(tmp_path / "spool.db", DeletesFirst, aurora) < 10
