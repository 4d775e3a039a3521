"""The spool: bounded, shared, and emptied only by what Aurora acknowledged."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aurora.client.spool import Spool, SpoolFull, events_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def test_batches_come_out_in_order_and_bounded(path: Path) -> None:
    spool = Spool(path)
    for number in range(5):
        spool.add(b'{"n":%d},{"n":%d}' % (number, number), 2)
    first = spool.next(max_events=5, max_bytes=10_000)
    assert first is not None
    assert (first.events, events_of(first.body)[0]) == (4, b'{"n":0}')
    # One batch is given however large it is: it would never leave otherwise.
    alone = spool.next(max_events=1, max_bytes=1)
    assert alone is not None
    assert alone.events == 2
    spool.settle(first.ids)
    assert spool.waiting == 6
    rest = spool.next(100, 10_000)
    assert rest is not None
    spool.settle(rest.ids)
    spool.settle(rest.ids)
    assert spool.next(100, 10_000) is None
    spool.close()


def test_what_is_not_settled_is_given_again(path: Path) -> None:
    spool = Spool(path)
    spool.add(b"{}", 1)
    assert spool.next(10, 10) == spool.next(10, 10)
    spool.close()
    again = Spool(path)
    assert again.waiting == 1
    again.close()


def test_the_size_is_bounded_and_room_comes_back(path: Path) -> None:
    spool = Spool(path, max_bytes=100)
    body = b'"' + b"x" * 58 + b'"'
    spool.add(body, 1)
    with pytest.raises(SpoolFull):
        spool.add(body, 1)
    spool.lose(7)
    assert (spool.waiting, spool.lost) == (1, 7)
    waiting = spool.next(10, 1_000)
    assert waiting is not None
    spool.settle(waiting.ids)
    assert spool.has_room
    spool.add(body, 1)
    spool.close()


def test_dead_events_can_be_read(path: Path) -> None:
    spool = Spool(path)
    spool.settle([], [("event_invalid", "No such country.", b'{"id":"1"}')])
    (dead,) = spool.dead()
    assert (dead.code, dead.detail, dead.event) == (
        "event_invalid",
        "No such country.",
        b'{"id":"1"}',
    )
    spool.close()


def test_nobody_else_may_read_the_file(path: Path) -> None:
    spool = Spool(path)
    spool.add(b"{}", 1)
    assert {each.stat().st_mode & 0o077 for each in path.parent.iterdir()} == {0}
    spool.close()


def test_threads_may_write_at_once(path: Path) -> None:
    spools = [Spool(path) for _ in range(4)]

    def write(spool: Spool) -> None:
        for _ in range(25):
            spool.add(b"{}", 1)

    threads = [threading.Thread(target=write, args=(spool,)) for spool in spools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spools[0].waiting == 100
    for spool in spools:
        spool.close()


WRITER = """
import os, signal, sys
from aurora.client.spool import Spool
spool = Spool(sys.argv[1], durability=sys.argv[2])
for number in range(10):
    spool.add(b"{}", 1)
{last}
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("durability", ["after_response", "before_response"])
def test_what_was_added_outlives_a_kill(path: Path, durability: str) -> None:
    program = WRITER.replace("{last}", "")
    killed = subprocess.run([sys.executable, "-c", program, path, durability], check=False)
    assert killed.returncode == -9
    spool = Spool(path)
    assert spool.waiting == 10
    spool.close()


def test_the_test_finds_a_spool_that_is_written_later(path: Path) -> None:
    late = "spool._connection.execute('begin'); spool._connection.execute("
    late += "\"insert into batches (events, body) values (1, x'00')\")"
    program = WRITER.replace("{last}", late)
    subprocess.run([sys.executable, "-c", program, path, "after_response"], check=False)
    spool = Spool(path)
    assert spool.waiting == 10
    spool.close()
