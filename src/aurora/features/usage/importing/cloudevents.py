"""CloudEvents 1.0 in structured JSON: one event per line, or one batch array.

Rules: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and, for the JSON form,
formats/json-format.md. `id` and `source` together are the identity; `data` holds our fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from aurora.features.usage.decoding import check_event
from aurora.features.usage.importing.formats import (
    Defaults,
    Record,
    Rejected,
    reject,
    reject_long_line,
)
from aurora.features.usage.importing.ndjson import explain
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent
from aurora.integrations.textfiles import Line

SPEC_VERSION = "1.0"

# RFC 3986: an optional scheme, then only characters a URI may hold, "%" only as %XX. A first
# path segment with a colon would be read as a scheme, so a relative reference has none.
_CHARS = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*"
_URI_REFERENCE = re.compile(rf"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:)){_CHARS}(?:#{_CHARS})?\Z")
_ABSOLUTE_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_CHARS}(?:#{_CHARS})?\Z")
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+\Z")
_JSON_TYPE = re.compile(r"[^;]+/(?:json|[^;]+\+json)\s*(?:;|\Z)", re.IGNORECASE)
_PAYLOAD = frozenset({"data", "data_base64"})
_INTEGERS = range(-(2**31), 2**31)


class CloudEventsParser:
    """Turns CloudEvents into usage events, strictly by the specification."""

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:  # noqa: ARG002
        """Take what the events do not say; they carry their own ids."""
        self._defaults = defaults

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield an event or a rejection for each line that is not blank."""
        for number, offset, raw in lines:
            if raw is None:
                yield number, offset, reject_long_line(number)
            elif raw and not raw.isspace():
                yield number, offset, self._event(number, raw)

    def _event(self, number: int, raw: bytes) -> UsageEvent | Rejected:
        try:
            envelope = msgspec.json.decode(raw)
            fault = fault_of(envelope)
            if fault is not None:
                return reject(number, "cloudevent_invalid", fault, raw)
            event = usage_event_of(envelope)
        except (ValueError, RecursionError) as error:
            return reject(number, *explain(error), raw)
        wrong = check_event(event, raw)
        if wrong is not None:
            return reject(number, "event_invalid", wrong, raw)
        return self._defaults.attach(event)


def usage_event_of(envelope: dict[str, Any]) -> UsageEvent:
    """Build the usage event of a CloudEvent without fault.

    Raises:
        msgspec.ValidationError: The data breaks a rule of the fields; the path names which.
    """
    fields = dict(envelope["data"])
    fields |= {"id": envelope["id"], "source": envelope["source"]}
    if envelope.get("time") is not None:
        fields["timestamp"] = envelope["time"]
    return msgspec.convert(fields, UsageEvent)


def fault_of(envelope: object) -> str | None:
    """Say in one sentence what breaks the specification or leaves us without data, or None."""
    if not isinstance(envelope, dict):
        return "A CloudEvent is a JSON object"
    # JSON format, section 2.2: an attribute that is null is one that is not set.
    attributes = {k: v for k, v in envelope.items() if v is not None and k not in _PAYLOAD}
    return _fault_of_required(attributes) or _fault_of_optional(attributes) or _fault_of_data(
        envelope, attributes
    )  # fmt: skip


def _fault_of_required(attributes: dict[str, Any]) -> str | None:
    if attributes.get("specversion") != SPEC_VERSION:
        return f'specversion must be "{SPEC_VERSION}", not {attributes.get("specversion")!r}'
    for name in ("id", "source", "type"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            return f"{name} is required and must be a non-empty string"
    if not _URI_REFERENCE.match(attributes["source"]):
        return "source must be a URI-reference (RFC 3986)"
    return None


def _fault_of_optional(attributes: dict[str, Any]) -> str | None:
    for name, value in attributes.items():
        if not _ATTRIBUTE_NAME.match(name):
            return f"The attribute name {name[:40]!r} may hold only a to z and 0 to 9"
        if isinstance(value, int) and not isinstance(value, bool) and value not in _INTEGERS:
            return f"The attribute {name} is outside the 32-bit integers"
        if not isinstance(value, (str, int)):
            return f"The attribute {name} must be a string, an integer, or a boolean"
    for name in ("subject", "dataschema", "datacontenttype", "time"):
        if name in attributes and (not isinstance(attributes[name], str) or not attributes[name]):
            return f"{name} must be a non-empty string when it is given"
    if "dataschema" in attributes and not _ABSOLUTE_URI.match(attributes["dataschema"]):
        return "dataschema must be a URI (RFC 3986)"
    return None


def _fault_of_data(envelope: dict[str, Any], attributes: dict[str, Any]) -> str | None:
    if envelope.get("data_base64") is not None:
        return "data_base64 holds binary data; usage travels as a JSON object in data"
    if not _JSON_TYPE.match(attributes.get("datacontenttype", "application/json")):
        return "datacontenttype must be JSON: usage travels as a JSON object in data"
    data = envelope.get("data")
    if not isinstance(data, dict):
        return "data must be a JSON object with the fields of a usage event"
    for name in ("id", "source"):
        if name in data and data[name] != attributes[name]:
            return f"data.{name} contradicts the attribute {name}, which is the identity"
    return None
