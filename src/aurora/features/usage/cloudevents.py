"""CloudEvents 1.0 in JSON and in HTTP headers: what the specification asks, and our event in it.

Rules: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and beside it
formats/json-format.md and bindings/http-protocol-binding.md. `id` and `source` together are the
identity; `data` holds our fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from aurora.features.usage.decoding import Refusal, explain
from aurora.features.usage.model import UsageEvent

SPEC_VERSION: Final = "1.0"
PREFIX: Final = b"ce-"

# RFC 3986: an optional scheme, then only characters a URI may hold, "%" only as %XX. A first
# path segment with a colon would be read as a scheme, so a relative reference has none.
_CHARS = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*"
_URI_REFERENCE = re.compile(rf"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:)){_CHARS}(?:#{_CHARS})?\Z")
_ABSOLUTE_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:{_CHARS}(?:#{_CHARS})?\Z")
_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+\Z")
_JSON_TYPE = re.compile(r"[^;]+/(?:json|[^;]+\+json)\s*(?:;|\Z)", re.IGNORECASE)
_PAYLOAD = frozenset({"data", "data_base64"})
_INTEGERS = range(-(2**31), 2**31)


def read_cloudevent(raw: bytes | msgspec.Raw) -> UsageEvent | Refusal:
    """Return the usage event in a CloudEvent's JSON, or why there is none."""
    try:
        envelope = msgspec.json.decode(raw)
        fault = fault_of(envelope)
        if fault is not None:
            return "cloudevent_invalid", f"{fault}."
        return usage_event_of(envelope)
    except (ValueError, RecursionError) as error:
        return explain(error)


def read_binary_cloudevent(
    headers: Mapping[bytes, bytes], body: bytes | msgspec.Raw
) -> UsageEvent | Refusal:
    """Return the usage event whose attributes travel in `ce-` headers and whose data is the body.

    HTTP protocol binding, section 3.1: values are UTF-8, percent-encoded where they must be.
    """
    try:
        envelope: dict[str, Any] = {
            name[len(PREFIX) :].decode("latin-1"): unquote_to_bytes(value).decode()
            for name, value in headers.items()
            if name.startswith(PREFIX)
        }
    except UnicodeDecodeError:
        # Replaced, two ids that differ would become one.
        return "cloudevent_invalid", "The value of a ce- header is not UTF-8, percent-encoded."
    envelope["datacontenttype"] = headers.get(b"content-type", b"application/json").decode(
        "latin-1"
    )
    try:
        envelope["data"] = msgspec.json.decode(body)
        fault = fault_of(envelope)
        if fault is not None:
            return "cloudevent_invalid", f"{fault}."
        return usage_event_of(envelope)
    except (ValueError, RecursionError) as error:
        return explain(error)


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
