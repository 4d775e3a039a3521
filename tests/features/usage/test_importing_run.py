"""An import survives being stopped anywhere, counts once, and says what became of every line."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aurora.core.errors import Unavailable
from aurora.features.usage.importing import (
    Counts,
    Defaults,
    ImportReport,
    Position,
    Progress,
    Retry,
    Saved,
    UsageFile,
    import_file,
    ordinals,
    parse_file,
    run,
)
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.importing.progress import checkpoint_key
from aurora.features.usage.model import IdConflict, Receipt, Rejection, UsageEvent

LOG = '192.0.2.10 - - [14/Jan/2026:21:{minute:02d}:{second:02d} +0100] "GET /p{n} HTTP/1.1" 200 5'
NO_WAIT = Retry(attempts=3, first_delay_s=0)


class Books:
    """What an ingest must keep: each id once. It stands where the database will stand."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.calls = 0
        self.sizes: list[int] = []

    async def ingest(self, events: list[UsageEvent]) -> Receipt:
        self.calls += 1
        self.sizes.append(len(events))
        await asyncio.sleep(0)
        before = len(self.seen)
        self.seen |= {event.id for event in events}
        accepted = len(self.seen) - before
        return Receipt(accepted=accepted, duplicates=len(events) - accepted)


class Notes:
    """A checkpoint kept as JSON text, as a database would keep it."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def load(self, key: str) -> Saved | None:
        return msgspec.json.decode(self.kept[key], type=Saved) if key in self.kept else None

    async def save(self, key: str, saved: Saved) -> None:
        self.kept[key] = msgspec.json.encode(saved).decode()

    async def clear(self, key: str) -> None:
        self.kept.pop(key, None)


@pytest.fixture(autouse=True)
def every_batch_is_checkpointed() -> Iterator[None]:
    with patch.object(run, "CHECKPOINT_EVERY_S", 0):
        yield


def log_of(count: int) -> str:
    return "".join(
        LOG.format(minute=n // 600, second=n // 10 % 60, n=n % 3) + "\n" for n in range(count)
    )


def a_log(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "access.log"
    path.write_text(log_of(count))
    return path


async def test_importing_twice_renamed_or_compressed_counts_once(tmp_path: Path) -> None:
    path, books = a_log(tmp_path, 1000), Books()
    first = await import_file(path, books.ingest, defaults=Defaults(), batch_size=64)
    assert first.counts == Counts(lines=1000, accepted=1000)
    packed = tmp_path / "other-name.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for again in (path.rename(tmp_path / "renamed"), packed):
        report = await import_file(again, books.ingest, defaults=Defaults(), batch_size=300)
        assert report.counts == Counts(lines=1000, duplicates=1000)
    assert len(books.seen) == 1000


async def test_two_equal_requests_in_one_second_are_two_events(tmp_path: Path) -> None:
    path, books = tmp_path / "log", Books()
    path.write_text((LOG.format(minute=1, second=1, n=1) + "\n") * 2)
    report = await import_file(path, books.ingest, defaults=Defaults(), batch_size=1)
    assert report.counts.accepted == 2


async def test_rejections_and_conflicts_of_the_ingest_point_at_their_lines(tmp_path: Path) -> None:
    row = {"timestamp": "2026-01-01T00:00:00Z", "endpoint": "/", "status_code": 200}
    rows = [{"id": f"e{n}"} | row for n in range(6)]
    path = tmp_path / "rows.ndjson"
    path.write_text("\n".join(["{", json.dumps(rows[0]), "", *map(json.dumps, rows[1:]), "nope"]))

    async def ingest(events: list[UsageEvent]) -> Receipt:
        places = {event.id: index for index, event in enumerate(events)}
        return Receipt(
            accepted=len(events) - 2 * ("e3" in places),
            duplicates=0,
            rejected=[Rejection(places["e3"], "api_key_unknown", "No.")] if "e3" in places else [],
            conflicts=[IdConflict(places["e2"], "e2")] if "e2" in places else [],
        )

    for size in (2, 3, 100):
        report = await import_file(path, ingest, defaults=Defaults(), batch_size=size)
        assert [(r.line_number, r.code) for r in report.rejections] == [
            (1, "event_malformed"),
            (6, "api_key_unknown"),
            (9, "event_malformed"),
        ]
        assert [(c.line_number, c.id) for c in report.conflicts] == [(5, "e2")]
        assert report.counts.rejected == 3
        assert report.counts.lines == 8


async def test_only_the_first_thousand_rejections_are_listed_but_all_are_counted(
    tmp_path: Path,
) -> None:
    path, books = tmp_path / "log", Books()
    path.write_text("bad\n" * 2500)
    report = await import_file(path, books.ingest, format="access_log", defaults=Defaults())
    assert report.counts.rejected == 2500
    assert [r.line_number for r in report.rejections] == list(range(1, 1001))
    assert books.calls == 0


async def test_a_batch_is_tried_again_while_the_platform_is_unavailable(tmp_path: Path) -> None:
    path, books, failures = a_log(tmp_path, 100), Books(), [1, 1]

    async def ingest(events: list[UsageEvent]) -> Receipt:
        if failures:
            failures.pop()
            raise Unavailable
        return await books.ingest(events)

    report = await import_file(path, ingest, defaults=Defaults(), concurrency=1, retry=NO_WAIT)
    assert report.counts.accepted == 100


async def test_an_import_that_gives_up_goes_on_later_where_it_stopped(tmp_path: Path) -> None:
    path, books, notes, down = a_log(tmp_path, 1000), Books(), Notes(), [False]

    async def ingest(events: list[UsageEvent]) -> Receipt:
        if down[0] or books.calls == 4:
            down[0] = True
            raise Unavailable
        return await books.ingest(events)

    async def attempt() -> ImportReport:
        return await import_file(
            path, ingest, defaults=Defaults(), checkpoint=notes, batch_size=100, retry=NO_WAIT
        )

    with pytest.raises(Unavailable):
        await attempt()
    assert len(notes.kept) == 1
    books.calls, down[0] = 100, False
    books.sizes.clear()
    report = await attempt()
    assert report.resumed_after_line == 400
    assert report.counts == Counts(lines=1000, accepted=1000)
    assert sum(books.sizes) == 600
    assert notes.kept == {}
    assert books.seen == {
        e.id for e in parse_file(path, defaults=Defaults()) if isinstance(e, UsageEvent)
    }


async def test_a_cancelled_import_has_checkpointed_what_was_acknowledged(tmp_path: Path) -> None:
    path, books, notes = a_log(tmp_path, 1000), Books(), Notes()
    slow = asyncio.Event()

    async def ingest(events: list[UsageEvent]) -> Receipt:
        if books.calls >= 3:
            slow.set()
            await asyncio.sleep(0.05)  # on its way when the cancellation comes
        return await books.ingest(events)

    task = asyncio.create_task(
        import_file(
            path, ingest, defaults=Defaults(), checkpoint=notes, batch_size=100, concurrency=2
        )
    )
    await slow.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    acknowledged = len(books.seen)
    assert acknowledged == 300 + 2 * 100
    (text,) = notes.kept.values()
    assert json.loads(text)["state"]["counts"]["accepted"] == acknowledged
    calls = books.calls
    report = await import_file(
        path, books.ingest, defaults=Defaults(), checkpoint=notes, batch_size=100
    )
    assert report.counts == Counts(lines=1000, accepted=1000)
    assert books.calls == calls + (1000 - acknowledged) // 100


async def test_a_checkpoint_that_cannot_be_read_means_beginning_anew(tmp_path: Path) -> None:
    path, books, notes = a_log(tmp_path, 10), Books(), Notes()
    await notes.save(checkpoint_key(path, Defaults(), "auto"), Saved(5, {"version": "?"}))
    report = await import_file(path, books.ingest, defaults=Defaults(), checkpoint=notes)
    assert (report.counts.accepted, report.resumed_after_line) == (10, None)


async def test_another_customer_does_not_resume_the_import_of_the_first(tmp_path: Path) -> None:
    path = a_log(tmp_path, 10)
    one = checkpoint_key(path, Defaults(), "auto")
    assert checkpoint_key(path, Defaults(organization_id=uuid4()), "auto") != one
    path.write_text(log_of(11))
    assert checkpoint_key(path, Defaults(), "auto") != one


async def test_no_more_than_the_given_number_of_batches_is_on_its_way(tmp_path: Path) -> None:
    path, books, now, most = a_log(tmp_path, 1000), Books(), [0], [0]

    async def ingest(events: list[UsageEvent]) -> Receipt:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.001)
        now[0] -= 1
        return await books.ingest(events)

    await import_file(path, ingest, defaults=Defaults(), batch_size=50, concurrency=3)
    assert most[0] == 3
    assert set(books.sizes) == {50}


async def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(log_of(3000).encode()))
    told: list[Progress] = []
    await import_file(
        path, Books().ingest, defaults=Defaults(), batch_size=500, on_progress=told.append
    )
    assert [one.counts.lines for one in told] == [500, 1000, 1500, 2000, 2500, 3000, 3000]
    assert told[-1].bytes_done == told[-1].bytes_total == path.stat().st_size


async def test_an_empty_file_is_imported_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    report = await import_file(path, Books().ingest, defaults=Defaults(), checkpoint=Notes())
    assert (report.format, report.counts) == (None, Counts())


# --- ids when resuming ---


# The count of second 0 is forgotten when 3 comes and begins anew; what it held before must not
# come back when the lines between are read again.
FORGOTTEN_AND_BEGUN_ANEW = [(0, 0), (1, 0), (2, 0), (0, 0), (3, 0), (0, 1), (0, 0), (0, 0)]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=2, max_size=30))
@example(FORGOTTEN_AND_BEGUN_ANEW)
def test_ids_are_the_same_wherever_a_reading_was_stopped(lines: list[tuple[int, int]]) -> None:
    """Seconds come in any order, and the window is so small that it forgets all the time."""
    rows = [(f"{second}/{n}".encode(), second) for second, n in lines]

    def read(after: Position | None, until: int) -> tuple[list[str], Position]:
        reading, names = Ordinals(after), list[str]()
        for place in range(after.replay_from()[0] if after else 0, until):
            raw, second = rows[place]
            name = reading.name(raw, second, place, place + 1)
            if after is None or place > after.offset:
                names.append(name)
        stored = msgspec.json.encode(reading.position(until - 1, until))
        return names, msgspec.json.decode(stored, type=Position)

    with (
        patch.object(ordinals, "MAX_SECONDS", 3),
        patch.object(ordinals, "MAX_LINES", 5),
        patch.object(ordinals, "MAX_LINES_OF_A_SECOND", 2),
    ):
        expected, _ = read(None, len(rows))
        for stop in range(1, len(rows)):
            begin, position = read(None, stop)
            rest, _ = read(position, len(rows))
            assert begin + rest == expected
        names, position = read(None, 1)
        for stop in range(2, len(rows) + 1):
            more, position = read(position, stop)
            names += more
        assert names == expected


NAMELESS = '{{"timestamp":"2026-01-01T00:00:{second:02d}Z","endpoint":"/p{n}","status_code":200}}'
ROWS = [(n // 10 % 60, n % 3) for n in range(200)]
FILES = {
    "log": "".join(LOG.format(minute=1, second=s, n=n) + "\n" for s, n in ROWS),
    "ndjson": "".join(NAMELESS.format(second=s, n=n) + "\r\n" for s, n in ROWS),
    "array": "[\n" + ",\n".join(NAMELESS.format(second=s, n=n) for s, n in ROWS) + "]\n",
    "csv": "\ufeff\n \ntimestamp;endpoint;status_code\n"
    + "".join(f'2026-01-01T00:00:{s:02d}Z;"/p\n{n}";200\n' for s, n in ROWS),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stop", [1, 7, 30, 99, 199, 200])
def test_every_format_goes_on_after_the_record_it_stopped_at(
    tmp_path: Path, kind: str, stop: int, packed: bool
) -> None:
    path, content = tmp_path / "usage", FILES[kind].encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    with UsageFile(path, defaults=Defaults()) as file:
        straight = list(file.records())
    assert len({parsed.id for _, _, parsed in straight if isinstance(parsed, UsageEvent)}) == 200
    with UsageFile(path, defaults=Defaults()) as file:
        records = file.records()
        first = [next(records) for _ in range(stop)]
        position = file.position_after(first[-1][1], first[-1][0])
    with UsageFile(path, defaults=Defaults(), resume=position) as file:
        assert first + list(file.records()) == straight
