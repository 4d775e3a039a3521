"""Measures wall and CPU time and memory of processes, and prints the line a benchmark owes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_POLL_S: Final = 0.05
MAX_PROCESSES: Final = 10_000
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended well: its standard output, seconds of wall and CPU, and peak memory."""

    output: str
    wall_s: float
    cpu_s: float
    peak_rss_mb: float


def run_program(
    command: Sequence[str | Path], *, env: Mapping[str, str], timeout_s: float
) -> Finished:
    """Run a program to its end and measure it; its standard error is shown.

    Raises:
        SystemExit: It failed, or took longer than `timeout_s`.
    """
    began = time.perf_counter()
    peak_kb = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(env), text=True) as process:
        while True:
            # The kernel's own mark of the highest; a child's rusage would begin at its parent's.
            peak_kb = max(peak_kb, _status_kb(process.pid, "VmHWM"))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - began > timeout_s:
                process.kill()
            time.sleep(_POLL_S)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}: {output[-2_000:]}")
    return Finished(output, wall_s, usage.ru_utime + usage.ru_stime, peak_kb / 1024)


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MiB, 0 when it is gone."""
    return _status_kb(pid, "VmRSS") / 1024


def _status_kb(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its living children, and those it has waited for."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for number, folder in enumerate(Path("/proc").glob("[0-9]*")):
        if number >= MAX_PROCESSES:
            break
        with suppress(OSError):
            # After the name, which may hold blanks: state, parent, …, utime, stime, cutime, cstime.
            fields = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            spent[int(folder.name)] = sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_S
    return sum(spent[each] for each in spent if each == pid or parents[each] == pid)


@contextmanager
def on_core(place: int) -> Iterator[None]:
    """Let what is started in the block run on one core and no other, where there are several.

    Args:
        place: Of the cores that this process may use, counted from 0.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield
        return
    # A child inherits it; the parent goes back to all of them.
    os.sched_setaffinity(0, {sorted(cores)[place]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Stopwatch:
    """Wall time, and CPU time of named processes, over a block; adds up when used again."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._began_s = 0.0
        self._before: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Begin at zero, after a warm-up."""
        self.wall_s = 0.0
        self.cpu_s = dict.fromkeys(self._pids, 0.0)

    def __enter__(self) -> Self:
        """Start."""
        self._before = {name: cpu_s(pid) for name, pid in self._pids.items()}
        self._began_s = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and add what was measured."""
        self.wall_s += time.perf_counter() - self._began_s
        for name, pid in self._pids.items():
            self.cpu_s[name] += cpu_s(pid) - self._before[name]


def interleave(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Run every measure once a round, in turn, and return the figures of each.

    What disturbs the machine for a while then disturbs all of them, and not one.
    """
    figures: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        # Forth and back, so that none always comes after the same other.
        order = list(range(len(measures)))
        for place in order if number % 2 == 0 else reversed(order):
            figures[place].append(measures[place]())
    return figures


def side_by_side(*works: Callable[[], Result]) -> list[Result]:
    """Do several things at once, each in a thread; return what each returned, in their order.

    Who is interrupted meanwhile does not wait for their ends: what they work on ends with it.
    """
    workers = ThreadPoolExecutor(len(works))
    try:
        return [done.result() for done in [workers.submit(work) for work in works]]
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


def median(figures: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(figures)


def print_result(
    name: str, *, value: float, unit: str, goal: object, met: bool, details: Mapping[str, Any]
) -> None:
    """Print the JSON line that must be a benchmark's last."""
    rounded = {
        key: round(figure, 3) if isinstance(figure, float) else figure
        for key, figure in details.items()
    }
    result = {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met}
    print(json.dumps({**result, "details": rounded}), flush=True)
