"""A sender of events in a process of its own, which hears its order on standard input.

What committing an event costs is Python's work, and Python runs one thread at a time: beside an
event loop that is busy it would take the loop's turns. The child ends when its parent does, however
that happens: it reads the end of its standard input, sends what waits, and leaves.
"""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from aurora.client.backend import Plan, Recorder
from aurora.client.sender import JOIN_S, Sender
from aurora.client.spool import Spool

STOPPED_S: Final = 5.0
"""How long a child goes on whose parent was killed."""
MAX_PLAN_BYTES: Final = 65_536

log = logging.getLogger(__name__)


class _Order(msgspec.Struct):
    """What the child is told: a file, and how a recorder for it is made."""

    spool: str
    max_bytes: int
    plan: Plan


class SenderProcess:
    """Starts the child, and stops it; the file is all that the two share.

    Args:
        spool: What it takes from.
        plan: How it reaches Aurora; goes over a pipe, for it holds secrets.
    """

    def __init__(self, spool: Spool, plan: Plan) -> None:
        self._order = _Order(str(Path(spool.path).absolute()), spool.max_bytes, plan)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to send."""
        # A session of its own: Ctrl-C is for the application, which then says so.
        child = subprocess.Popen(
            [sys.executable, "-c", "from aurora.client.sending import main; main()"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._child = child
        if child.stdin is not None:
            child.stdin.write(msgspec.json.encode(self._order) + b"\n")
            child.stdin.flush()

    def wake(self) -> None:
        """Say nothing: the child looks into the file by itself."""

    def stop(self, timeout_s: float) -> None:
        """Let it send what waits for at most so many seconds, then end."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.communicate(b"%f\n" % timeout_s, timeout=timeout_s + 2 * JOIN_S)
        except subprocess.TimeoutExpired:
            log.warning("the sender of usage events is ended; what waits stays in the file")
            child.kill()
            child.communicate()


def recorder_of(plan: Plan) -> Recorder:
    """Return the recorder that a plan describes."""
    module, _, name = plan.factory.partition(":")
    made: Recorder = getattr(importlib.import_module(module), name)(**plan.arguments)
    return made


def main() -> None:
    """Send as ordered until the parent says that it ends, or ends."""
    stdin: Any = sys.stdin.buffer
    order = msgspec.json.decode(stdin.readline(MAX_PLAN_BYTES), type=_Order)
    spool = Spool(order.spool, max_bytes=order.max_bytes)
    sender = Sender(spool, recorder_of(order.plan))
    sender.start()
    said = stdin.readline(MAX_PLAN_BYTES)
    sender.stop(float(said) if said.strip() else STOPPED_S)
    spool.close()
