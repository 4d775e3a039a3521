"""Gives a benchmark a home whose PostgreSQL ends with it, also when it is told to end early."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from aurora.db.embedded import EmbeddedServer

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02


@contextmanager
def a_home() -> Iterator[Path]:
    """Give an AURORA_HOME in a folder of its own; its server and the folder end with the block."""
    with ending_cleanly(), tempfile.TemporaryDirectory(prefix="aurora-bench-") as name:
        folder = Path(name)
        # Under root PostgreSQL runs as an account of its own, which must pass through.
        folder.chmod(0o711)
        home = folder / "home"
        try:
            yield home
        finally:
            stop_server_of(home)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Make SIGTERM and SIGHUP leave the block by an exception, so that what it began is undone.

    Left alone they end the process where it stands, and PostgreSQL, a process of its own, goes on.
    Outside the main thread nothing can be changed about that, and nothing is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, _leave) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def stop_server_of(home: Path) -> None:
    """Stop the PostgreSQL of a home that is thrown away, also one that was only just starting.

    Who is interrupted while a server starts does not know it yet.
    """
    running = EmbeddedServer.find_running(home) if home.is_dir() else None
    if running is None:
        return
    with suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGQUIT)
    until_s = time.monotonic() + STOP_TIMEOUT_S
    while EmbeddedServer.find_running(home) and time.monotonic() < until_s:
        time.sleep(_POLL_S)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: a second one must not break off the cleaning up.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
