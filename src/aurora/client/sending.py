"""A sender of events in a process of its own, which hears its order on standard input.

What committing an event costs is Python's work, and Python runs one thread at a time: beside an
event loop that is busy it would take the loop's turns. The child ends when its parent does, however
that happens: it reads the end of its standard input, sends what waits, and leaves.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from aurora.client.backend import Plan, Recorder
from aurora.client.sender import JOIN_S, Sender
from aurora.client.spool import Spool

STOPPED_S: Final = 5.0
"""How long a child goes on whose parent was killed."""
STARTING_S: Final = 15.0
"""What a child may need at the most until it sends: Python, and the platform's modules."""
RESTART_S: Final = 5.0
"""How soon after its start a child that ended is started again."""
MAX_PLAN_BYTES: Final = 65_536
_PROGRAM: Final = "from aurora.client.sending import main; main()"

log = logging.getLogger(__name__)


class _Order(msgspec.Struct):
    """What the child is told: a file, and how a recorder for it is made."""

    spool: str
    max_bytes: int
    plan: Plan


class SenderProcess:
    """Starts the child, starts it again where it ended, and stops it; they share only the file.

    Nothing here may fail the request that is being metered: what is not sent waits in the file. A
    forked worker begins its own; of all children that share a file, one sends at a time.

    Args:
        spool: What it takes from.
        plan: How it reaches Aurora; goes over a pipe, for it holds secrets.
    """

    def __init__(self, spool: Spool, plan: Plan) -> None:
        self._order = _Order(str(Path(spool.path).absolute()), spool.max_bytes, plan)
        self._child: subprocess.Popen[bytes] | None = None
        self._started_s = float("-inf")

    def start(self) -> None:
        """Begin to send."""
        self._started_s = time.monotonic()
        try:
            # -P: nothing in the application's folder is taken for a module of ours. A session of
            # its own: Ctrl-C is for the application, which then says so.
            child = subprocess.Popen(  # noqa: S603 - our own interpreter, and a program of ours
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._child = child
            if child.stdin is not None:
                child.stdin.write(msgspec.json.encode(self._order) + b"\n")
                child.stdin.flush()
        except OSError as error:
            log.warning("no sender of usage events; they wait in the file: %s", error)

    def wake(self) -> None:
        """See that the child lives; it looks into the file by itself, every second."""
        if self._child is not None and self._child.poll() is None:
            return
        if time.monotonic() - self._started_s >= RESTART_S:
            log.warning("the sender of usage events ended, and is started again")
            self._leave()
            self.start()

    def stop(self, timeout_s: float) -> None:
        """Let it send what waits for at most so many seconds, then end."""
        child, self._child = self._child, None
        if child is None:
            return
        # One that has only just begun gets its time all the same: short programs are metered too.
        starting_s = max(0.0, STARTING_S - (time.monotonic() - self._started_s))
        try:
            child.communicate(b"%f\n" % timeout_s, timeout=starting_s + timeout_s + 2 * JOIN_S)
        except subprocess.TimeoutExpired:
            log.warning("the sender of usage events is ended; what waits stays in the file")
            child.kill()
            child.communicate()

    def _leave(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()


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
