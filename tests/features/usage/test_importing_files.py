"""NDJSON, CSV, gzip, and damage: what each file becomes, with right line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.features.usage.importing import (
    Defaults,
    Parsed,
    Rejected,
    UnknownFormat,
    UsageFile,
    parse_file,
)
from aurora.features.usage.importing.csv_rows import CsvParser
from aurora.features.usage.importing.json_arrays import split_array
from aurora.features.usage.importing.ndjson import NdjsonParser
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent
from aurora.integrations.textfiles import (
    MAX_LINE_BYTES,
    DamagedFile,
    TextFile,
    UnreadableFile,
    split_lines,
)

FIRST, LAST = datetime(2000, 1, 1), datetime(2099, 1, 1)  # noqa: DTZ001 - hypothesis wants it
ROW: dict[str, Any] = {
    "id": "e-1",
    "timestamp": "2026-01-14T20:05:59Z",
    "endpoint": "/api/aurora/now",
    "status_code": 200,
}
LOG = '192.0.2.10 - - [14/Jan/2026:21:05:{second:02d} +0100] "GET /p{n} HTTP/1.1" 200 5 "-" "-"\n'
KEY = UUID("0190f5d0-0000-7000-8000-000000000001")


def read(path: Path, content: str | bytes, **options: Any) -> list[Parsed]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(parse_file(path, **{"defaults": Defaults(), **options}))


def events(found: list[Parsed]) -> list[UsageEvent]:
    return [one for one in found if isinstance(one, UsageEvent)]


def rejected(found: list[Parsed]) -> list[tuple[int, str]]:
    return [(one.line_number, one.code) for one in found if isinstance(one, Rejected)]


def lines_of(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "usage"


# --- NDJSON ---


def test_ndjson_keeps_good_rows_and_names_bad_ones(file: Path) -> None:
    found = read(
        file,
        lines_of(
            ROW,
            "{broken",
            "",
            ROW | {"id": "e-2", "status_code": "200"},
            ROW | {"id": "e-3", "colour": "green"},
            ROW | {"id": "e-4", "timestamp": "2026-01-14T20:05:59"},
            ROW | {"id": "e-5", "endpoint": "a\0b"},
            ROW | {"id": "e-6", "endpoint": r"\u0000 spelled out"},
            '{"id":"e-7","metadata":' + "[" * 5000 + "]" * 5000 + "}",
            '{"id":"e-8","metadata":{"n":' + "9" * 5000 + "}}",
            "[1]",
            ROW | {"id": "e-9", "ip_address": "not one"},
            ROW | {"id": "e-10", "metadata": {"much": "x" * 20_000}},
        ),
    )
    assert [event.id for event in events(found)] == ["e-1", "e-6"]
    assert rejected(found) == [
        (2, "event_malformed"),
        (4, "event_invalid"),
        (5, "event_invalid"),
        (6, "event_invalid"),
        (7, "event_invalid"),
        (9, "event_malformed"),
        (10, "event_invalid"),
        (11, "event_invalid"),
        (12, "event_invalid"),
        (13, "event_invalid"),
    ]


def test_a_rejection_says_which_field_is_wrong(file: Path) -> None:
    (bad,) = read(file, lines_of(ROW | {"status_code": 700}))
    assert isinstance(bad, Rejected)
    assert "$.status_code" in bad.detail


def test_defaults_fill_only_what_a_row_leaves_out(file: Path) -> None:
    other = UUID("0190f5d0-0000-7000-8000-000000000002")
    rows = lines_of(ROW, ROW | {"id": "e-2", "api_key_id": str(other)})
    first, second = events(read(file, rows, defaults=Defaults(api_key_id=KEY, organization_id=KEY)))
    assert (first.api_key_id, first.organization_id) == (KEY, KEY)
    assert second.api_key_id == other


def test_rows_without_id_are_named_by_their_bytes_and_ordinal(file: Path) -> None:
    nameless = {key: value for key, value in ROW.items() if key != "id"}
    tricky = nameless | {"metadata": {"id": "not mine"}}
    found = events(read(file, lines_of(nameless, tricky, nameless)))
    first, second, third = [event.id for event in found]
    assert third == first + "-2"
    assert second not in (first, third)
    assert [event.id for event in events(read(file, lines_of(nameless, tricky, nameless)))] == [
        first,
        second,
        third,
    ]


def test_a_json_array_of_events_is_read_element_by_element(file: Path) -> None:
    content = json.dumps([ROW, 17, ROW | {"id": "e-2", "endpoint": '/a"]},[{'}], indent=2)
    found = read(file, content)
    assert [event.id for event in events(found)] == ["e-1", "e-2"]
    assert rejected(found) == [(8, "event_invalid")]


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=6,
    ),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
)
def test_an_array_is_cut_the_same_however_it_arrives(
    values: list[Any], size: int, indent: int | None
) -> None:
    content = json.dumps(values, indent=indent).encode()
    chunks = (content[at : at + size] for at in range(0, len(content), size))
    elements = list(split_array(chunks))
    assert [json.loads(raw or b"") for _, _, raw in elements] == values
    for line_number, offset, raw in elements:
        assert content[offset : offset + len(raw or b"")] == raw
        assert line_number == 1 + content[:offset].count(b"\n")


def test_an_array_that_does_not_end_is_reported_after_its_events(file: Path) -> None:
    found = read(file, json.dumps([ROW, ROW], indent=1)[:-20])
    assert len(events(found)) == 1
    assert rejected(found) == [(8, "file_damaged")]


# --- CSV ---


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_finds_its_delimiter_and_reads_every_type(file: Path, delimiter: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["timestamp", "endpoint", "status_code", "cached", "widget_impression",
                     "metadata", "api_key_id", "id", "response_time_ms"])  # fmt: skip
    writer.writerow(["2026-01-14T21:05:59+01:00", "/a", "200", "1", "FALSE",
                     '{"note": "one, two; \\"three\\"\\t"}', str(KEY), "", ""])  # fmt: skip
    writer.writerow(["2026-01-14 20:05:59.5+00", "/b\nc", "404", "true", "0", "", "", "x", "12"])
    one, two = events(read(file, b"\xef\xbb\xbf" + text.getvalue().encode()))
    assert one.timestamp == datetime(2026, 1, 14, 20, 5, 59, tzinfo=UTC)
    assert (one.cached, one.widget_impression, one.response_time_ms) == (True, False, None)
    assert one.metadata == {"note": 'one, two; "three"\t'}
    assert (one.api_key_id, one.id[:5]) == (KEY, "line-")
    assert (two.id, two.endpoint, two.response_time_ms) == ("x", "/b\nc", 12)


def test_csv_rejects_bad_rows_with_the_line_they_begin_on(file: Path) -> None:
    found = read(
        file,
        "id,timestamp,endpoint,status_code\n"
        "a,2026-01-14T20:05:59Z,/a,200\n"
        'b,2026-01-14T20:05:59Z,"two\nlines",200\n'
        "c,yesterday,/c,200\n"
        "\n"
        "d,2026-01-14T20:05:59Z,/d\n"
        "e,2026-01-14T20:05:59,/e,200\n"
        'f,2026-01-14T20:05:59Z,"stray,200\n'
        "g,2026-01-14T20:05:59Z,/g,200\n",
    )
    assert [event.id for event in events(found)] == ["a", "b", "g"]
    assert rejected(found) == [
        (5, "event_invalid"),
        (7, "column_count_wrong"),
        (8, "event_invalid"),
        (9, "csv_malformed"),
    ]


def test_csv_without_the_needed_columns_is_refused_at_once(file: Path) -> None:
    with pytest.raises(UnknownFormat, match="no header with endpoint, status_code"):
        read(file, "id,timestamp\na,b\n", format="csv")
    with pytest.raises(UnknownFormat, match="unknown columns: colour"):
        read(file, "timestamp,endpoint,status_code,colour\n", format="csv")


plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(
    st.builds(
        UsageEvent,
        id=plain.filter(str.strip),
        timestamp=st.datetimes(FIRST, LAST, timezones=st.just(UTC)),
        endpoint=plain.map(lambda text: "/" + text),
        status_code=st.integers(100, 599),
        cached=st.booleans(),
        widget_type=st.sampled_from([None, "forecast", "map", "chat"]),
        response_time_ms=st.none() | st.integers(0, 1000),
        user_agent=st.none() | plain.filter(lambda text: text not in ("", "null")),
        metadata=st.dictionaries(plain, plain | st.integers(0, 9) | st.none(), max_size=3),
    ),
    st.sampled_from([",", ";", "\t"]),
)
def test_an_event_survives_csv_and_ndjson(event: UsageEvent, delimiter: str) -> None:
    fields = msgspec.to_builtins(event)
    header, row = io.StringIO(), io.StringIO()
    csv.writer(header, delimiter=delimiter).writerow(fields)
    csv.writer(row, delimiter=delimiter, lineterminator="").writerow(
        "" if value is None else json.dumps(value) if name == "metadata" else value
        for name, value in fields.items()
    )
    head = header.getvalue().encode()
    parser = CsvParser(Defaults(), Ordinals(), head)
    lines = split_lines([head + row.getvalue().encode()])
    assert [parsed for _, _, parsed in parser.records(lines)] == [event]
    ndjson = NdjsonParser(Defaults(), Ordinals(), b"")
    lines = split_lines([msgspec.json.encode(event)])
    assert [parsed for _, _, parsed in ndjson.records(lines)] == [event]


# --- files ---


def log_lines(count: int) -> str:
    return "".join(LOG.format(second=n // 3 % 60, n=n % 2) for n in range(count))


def test_gzip_is_known_by_content_and_gives_the_same_ids(file: Path) -> None:
    text = log_lines(500).encode()
    plain_ids = [event.id for event in events(read(file, text))]
    packed = gzip.compress(text[:9000]) + gzip.compress(text[9000:])  # as logrotate appends
    packed_ids = [event.id for event in events(read(file.with_suffix(".txt"), packed))]
    assert packed_ids == plain_ids
    assert len(set(plain_ids)) == 500


def test_a_truncated_gzip_gives_its_good_lines_and_then_the_damage(file: Path) -> None:
    packed = gzip.compress(log_lines(5000).encode())
    found = read(file, packed[: len(packed) // 2])
    assert len(events(found)) > 500
    assert isinstance(found[-1], Rejected)
    assert found[-1].code == "file_damaged"
    assert found[-1].line_number == len(found)
    assert rejected(found[:-1]) == []


def test_a_corrupt_gzip_is_damage_and_not_a_crash(file: Path) -> None:
    packed = bytearray(gzip.compress(log_lines(300).encode()))
    packed[-6] ^= 0xFF  # the checksum
    found = read(file, bytes(packed))
    assert len(events(found)) == 300
    assert rejected(found) == [(301, "file_damaged")]


def test_a_huge_line_is_skipped_without_being_held(file: Path) -> None:
    text = LOG.format(second=1, n=1).encode()
    huge = b"x" * (3 * MAX_LINE_BYTES)
    found = read(file, text + huge + b"\n" + text, format="access_log")
    assert rejected(found) == [(2, "line_too_long")]
    assert len(events(found)) == 2
    chunks = (b"y" * 65_536 for _ in range(64))
    assert [(n, at, raw) for n, at, raw in split_lines(chunks)] == [(1, 0, None)]


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_nothing_and_is_no_error(file: Path, content: bytes) -> None:
    assert read(file, content) == []
    assert read(file, content, format="csv") == []
    with UsageFile(file, defaults=Defaults()) as opened:
        assert opened.format is None


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (bytes(range(256)) * 10, "binary"),
        (b"PK\x03\x04rest", "ZIP"),
        ("timestamp,endpoint".encode("utf-16"), "UTF-16"),
        (b"dear sirs,\nplease find\n", "Tried: access_log"),
    ],
)
def test_an_unknown_format_is_named_with_what_was_tried(
    file: Path, content: bytes, word: str
) -> None:
    with pytest.raises(UnknownFormat, match=word) as caught:
        read(file, content)
    if word.startswith("Tried"):
        for name in ("access_log", "ndjson", "cloudevents", "csv"):
            assert name in caught.value.detail


def test_a_format_nobody_knows_is_refused(file: Path) -> None:
    with pytest.raises(UnknownFormat, match="'yaml'; choose auto, access_log"):
        read(file, "x", format="yaml")


def test_the_format_is_found_although_the_first_line_is_bad(file: Path) -> None:
    assert len(events(read(file, "starting up\n" + log_lines(3)))) == 3
    assert len(events(read(file, lines_of("{oops", ROW)))) == 1


def test_what_is_no_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        list(parse_file(tmp_path / "missing", defaults=Defaults()))
    with pytest.raises(UnreadableFile):
        list(parse_file(tmp_path, defaults=Defaults()))


@given(st.lists(st.binary(max_size=30), max_size=12), st.integers(1, 50))
def test_lines_are_cut_the_same_however_the_bytes_arrive(parts: list[bytes], size: int) -> None:
    content = b"\n".join(parts)
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    assert list(split_lines(chunks)) == list(split_lines([content] if content else []))
    for _, offset, raw in split_lines(chunks):
        if offset:
            assert content[offset : offset + len(raw or b"")] == raw


def test_reading_can_start_in_the_middle_of_plain_and_gzip(tmp_path: Path) -> None:
    content = log_lines(3000).encode()
    for name, stored in (("plain", content), ("packed", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(stored)
        with TextFile(path, start=100_001) as opened:
            assert b"".join(opened.chunks()) == content[100_001:]
            assert opened.bytes_read == len(stored) == opened.size


def test_damage_carries_the_number_of_the_line_it_hit() -> None:
    def broken() -> Any:
        yield b"one\ntwo\nthr"
        raise DamagedFile("cut off")

    with pytest.raises(DamagedFile) as caught:
        list(split_lines(broken()))
    assert caught.value.line_number == 3
