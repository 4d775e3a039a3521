"""CloudEvents are taken exactly as the specification says, alone on a line or in one batch."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aurora.features.usage.importing import Defaults, Parsed, Rejected, parse_file
from aurora.features.usage.importing.cloudevents import CloudEventsParser
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent

CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/hotels/tromso",
    "type": "ai.tromso.usage",
    "time": "2026-01-14T21:05:59+01:00",
    "datacontenttype": "application/json; charset=utf-8",
    "data": {"endpoint": "/api/aurora/now", "status_code": 200},
}


def parsed(envelope: object) -> Parsed:
    parser = CloudEventsParser(Defaults(), Ordinals(), b"")
    ((_, _, result),) = parser.records(iter([(1, 0, json.dumps(envelope).encode())]))
    return result


def test_a_cloudevent_is_named_by_source_and_id_and_timed_by_time() -> None:
    event = parsed(CLOUD | {"traceparent": "00-ab", "subject": None})
    assert isinstance(event, UsageEvent)
    assert (event.source, event.id) == ("/hotels/tromso", "a-1")
    assert event.timestamp == datetime(2026, 1, 14, 20, 5, 59, tzinfo=UTC)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_batch_of_cloudevents_is_one_array(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "batch.json"
    path.write_text(json.dumps([CLOUD, CLOUD | {"id": ""}, CLOUD | {"id": "a-2"}], indent=indent))
    first, bad, second = parse_file(path, defaults=Defaults())
    assert isinstance(first, UsageEvent)
    assert isinstance(bad, Rejected)
    assert isinstance(second, UsageEvent)
    assert (first.id, second.id) == ("a-1", "a-2")
    assert (bad.code, bad.line_number) == ("cloudevent_invalid", 1 if indent is None else 14)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": ""}, "source"),
        ({"source": "not a uri"}, "source"),
        ({"source": "1a:b"}, "source"),
        ({"source": "/100%"}, "source"),
        ({"type": None}, "type"),
        ({"time": "yesterday"}, "timestamp"),
        ({"time": None}, "timestamp"),
        ({"subject": ""}, "subject"),
        ({"dataschema": "relative"}, "dataschema"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"Upper": "x"}, "Upper"),
        ({"ext": {"no": "objects"}}, "ext"),
        ({"ext": 2**31}, "ext"),
        ({"ext": 1.5}, "ext"),
        ({"data": None}, "data"),
        ({"data": "text"}, "data"),
        ({"data_base64": base64.b64encode(b"{}").decode()}, "data_base64"),
        ({"data": CLOUD["data"] | {"id": "other"}}, "data.id"),
        ({"data": CLOUD["data"] | {"status_code": "ok"}}, "status_code"),
    ],
)
def test_a_cloudevent_that_breaks_the_specification_is_rejected(
    change: dict[str, Any], word: str
) -> None:
    result = parsed(CLOUD | change)
    assert isinstance(result, Rejected)
    assert word in result.detail


@pytest.mark.parametrize(
    "source",
    [
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "https://h.example/a?b#c",
        "mailto:a@b.example",
        "../up",
        "sensor",
        "//host/x",
        "/a%20b",
        "#fragment",
        "a/b:c",
    ],
)
def test_every_uri_reference_is_a_source(source: str) -> None:
    result = parsed(CLOUD | {"source": source})
    assert isinstance(result, UsageEvent), result
