"""Reading a batch: one bad event costs itself alone, and no bytes break the reader."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import an_event

from aurora.features.usage.cloudevents import read_binary_cloudevent
from aurora.features.usage.decoding import (
    MAX_RESCUED_BODY_BYTES,
    Batch,
    Refusal,
    decode_batch,
    decode_lines,
)
from aurora.features.usage.model import (
    MAX_EVENTS_PER_CALL,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    EventsMalformed,
    Rejection,
    TooManyEvents,
    UsageEvent,
)
from aurora.features.usage.packing import HEADER_BYTES, Unstorable, check_event, pack_address

EVENT = an_event(id="e", timestamp="2026-01-01T00:00:00Z")
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def encoded(*events: Any) -> bytes:
    return json.dumps(events).encode()


def judged(body: bytes) -> Batch:
    """What is left of a batch once each event was also found fit to be stored."""
    batch = decode_batch(body)
    found = Batch(rejected=list(batch.rejected))
    for place, event in batch.events:
        wrong = check_event(event)
        if wrong is None:
            found.events.append((place, event))
        else:
            found.rejected.append(Rejection(place, "event_invalid", wrong))
    return found


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    found: dict[str, Any] = value
    return found


def test_an_array_and_an_object_with_the_array_are_the_same() -> None:
    array = decode_batch(encoded(EVENT))
    assert array == decode_batch(b'{"events":' + encoded(EVENT) + b"}")
    ((place, event),) = array.events
    assert (place, event.id, event.method, event.metadata) == (0, "e", "GET", {})


def test_places_are_those_of_the_sender() -> None:
    batch = decode_batch(encoded(EVENT, 1, EVENT, {"id": "x"}, EVENT))
    assert [place for place, _ in batch.events] == [0, 2, 4]
    assert [rejection.index for rejection in batch.rejected] == [1, 3]


@pytest.mark.parametrize(
    "bad", ["NaN", "Infinity", "-Infinity", '"\\ud800"', '"\\udc00\\ud800"', "1e999", "9" * 5000]
)
def test_what_strict_json_forbids_costs_one_event(bad: str) -> None:
    text = json.dumps([EVENT, {**EVENT, "metadata": {"a": "BAD"}}, EVENT]).replace('"BAD"', bad)
    batch = decode_batch(text.encode())
    assert [place for place, _ in batch.events] == [0, 2]
    assert [rejection.index for rejection in batch.rejected] == [1]


def test_a_large_body_is_not_taken_apart() -> None:
    good = b"[" + b" " * MAX_RESCUED_BODY_BYTES + encoded(EVENT)[1:]
    assert len(decode_batch(good).events) == 1
    with pytest.raises(EventsMalformed):
        decode_batch(good[:-1] + b",NaN]")


def test_the_number_of_events_is_bounded() -> None:
    assert len(decode_batch(b"[" + b",".join([b"0"] * MAX_EVENTS_PER_CALL) + b"]").rejected)
    with pytest.raises(TooManyEvents):
        decode_batch(b"[" + b",".join([b"0"] * (MAX_EVENTS_PER_CALL + 1)) + b"]")


@pytest.mark.parametrize("surplus", [0, 1])
def test_metadata_is_bounded_to_the_byte_and_to_the_level(surplus: int) -> None:
    overhead = len(b'{"a":""}')
    long = {"a": "x" * (MAX_METADATA_BYTES - overhead + surplus)}
    deep = nested(MAX_METADATA_DEPTH + surplus)
    for metadata in (long, deep, {"b": [{}] * 50, **deep}):
        batch = judged(encoded({**EVENT, "metadata": metadata}))
        assert len(batch.rejected) == surplus


def test_a_byte_order_mark_is_passed_over_and_another_encoding_is_none() -> None:
    lines = b"\n".join(encoded(EVENT)[1:-1] for _ in range(2))
    assert len(decode_lines(BOM_UTF8 + lines).events) == 2
    assert len(decode_batch(BOM_UTF8 + encoded(EVENT)).events) == 1
    with pytest.raises(EventsMalformed):
        decode_batch(json.dumps([EVENT]).encode("utf-16"))


@pytest.mark.parametrize(
    "field", ["id", "endpoint", "source", "reverses", "origin", "user_agent", "widget_type"]
)
def test_no_text_holds_what_postgresql_cannot(field: str) -> None:
    batch = judged(encoded(EVENT, {**EVENT, field: "a\0"}))
    assert [each.index for each in batch.rejected] == [1]


def test_ids_in_headers_that_are_no_text_do_not_become_one() -> None:
    def read(sent: bytes) -> UsageEvent | Refusal:
        named = {b"specversion": b"1.0", b"id": sent, b"source": b"/s", b"type": b"t"}
        data = {name: EVENT[name] for name in ("timestamp", "endpoint", "status_code")}
        headers = {b"ce-" + name: value for name, value in named.items()}
        return read_binary_cloudevent(headers, json.dumps(data).encode())

    for sent in (b"c%C3%A5", "c\u00e5".encode()):
        event = read(sent)
        assert isinstance(event, UsageEvent)
        assert event.id == "c\u00e5"
    for sent in (b"c%FF", b"c%FE", b"c\xff"):
        refused = read(sent)
        assert isinstance(refused, tuple)
        assert refused[0] == "cloudevent_invalid"


def test_many_brackets_are_not_depth() -> None:
    assert judged(encoded({**EVENT, "metadata": {"a": [[]] * 500}})).rejected == []
    assert judged(encoded({**EVENT, "metadata": {"a": "[" * 500}})).rejected == []


@pytest.mark.parametrize("levels", [400, 700, 900, 960, 5_000, 100_000])
def test_no_depth_breaks_the_reader(levels: int) -> None:
    for leaf in ("1", '"\\u0000"'):
        deep = '{"a":' + "[" * levels + leaf + "]" * levels + "}"
        text = json.dumps([{**EVENT, "metadata": "DEEP"}]).replace('"DEEP"', deep)
        try:
            assert len(judged(text.encode()).rejected) == 1
        except EventsMalformed:
            assert levels > 900, "only what no parser reads costs the whole batch"


@given(fields=st.dictionaries(st.sampled_from([*EVENT, "metadata", "x"]), JSON_VALUES))
def test_whatever_an_event_holds_its_neighbours_are_read(fields: dict[str, Any]) -> None:
    batch = judged(encoded(EVENT, {**EVENT, **fields}, EVENT))
    places = [place for place, _ in batch.events]
    assert {0, 2} <= set(places)
    assert sorted([*places, *(each.index for each in batch.rejected)]) == [0, 1, 2]
    for _, event in batch.events:
        stored = msgspec.json.encode(event)
        assert b"\\u0000" not in stored.replace(b"\\\\", b"")


@given(body=st.binary(max_size=60) | st.text('[]{}",:\\u0d8N1e ', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_with_a_code(body: bytes) -> None:
    try:
        batch = decode_batch(body)
    except (EventsMalformed, TooManyEvents):
        return
    assert batch.events == [], "no whole event fits into so few bytes"


def test_an_ipv4_address_is_one_however_it_is_written() -> None:
    assert pack_address("::ffff:10.0.0.5") == pack_address("10.0.0.5")
    for wrong in ("10.0.0.256", "010.0.0.1", "fe80::1%eth0", "", "10.0.0.1/8", "::1\n", ":\ud800"):
        with pytest.raises(Unstorable, match="is not an IP address"):
            pack_address(wrong)


@given(address=st.ip_addresses())
def test_an_address_is_packed_as_postgresql_reads_it(address: IPv4Address | IPv6Address) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    head = b"\2\x20\0\4" if plain.version == 4 else b"\3\x80\0\x10"
    assert pack_address(str(address))[HEADER_BYTES:] == head + plain.packed
