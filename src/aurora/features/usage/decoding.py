"""From the bytes of a request to events: what is wrong with one event never costs the others."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from aurora.features.usage.model import (
    MAX_EVENTS_PER_CALL,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    EventsMalformed,
    Rejection,
    TooManyEvents,
    UsageEvent,
)

MAX_RESCUED_BODY_BYTES = 1024 * 1024
"""Bytes; a body that is not strict JSON is taken apart slowly, so only small ones are."""

MAX_INTEGER_DIGITS = 300

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_array = msgspec.json.Decoder(list[msgspec.Raw])
_envelope = msgspec.json.Decoder(_Envelope)
_event = msgspec.json.Decoder(UsageEvent)


@dataclass(slots=True)
class Batch:
    """The events of a request that can be read, with their places, and why the others cannot."""

    events: list[tuple[int, UsageEvent]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def decode_batch(body: bytes) -> Batch:
    """Read a JSON array of events, or an object with the array in `events`.

    Raises:
        EventsMalformed: The body as a whole is not that.
        TooManyEvents: It holds more than `MAX_EVENTS_PER_CALL`.
    """
    text = body.strip()
    if not text:
        raise EventsMalformed("The body is empty; send a JSON array of events.")
    try:
        raws: list[Any] = _envelope.decode(text).events if text[:1] == b"{" else _array.decode(text)
    except RecursionError:
        raise EventsMalformed("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raws = _rescue(text, error)
    if len(raws) > MAX_EVENTS_PER_CALL:
        raise TooManyEvents(f"The call has {len(raws):,} events.", max_events=MAX_EVENTS_PER_CALL)
    batch = Batch()
    for index, raw in enumerate(raws):
        event = _read(index, raw, batch.rejected)
        if event is not None:
            batch.events.append((index, event))
    return batch


def check_event(event: UsageEvent, encoded: bytes | msgspec.Raw | None = None) -> str | None:
    """Return what is wrong with an event that has the right types, or None.

    Args:
        event: An event whose fields were decoded or made elsewhere.
        encoded: Its JSON, where there is one: most events without a zero byte are told from it.
    """
    # First of all, for what follows walks down into it.
    wrong = _check_metadata(event.metadata) if event.metadata else None
    if wrong is not None:
        return wrong
    text = msgspec.json.encode(event) if encoded is None else bytes(encoded)
    if b"\\u0000" in text and _has_nul(event):
        return "A text holds the character U+0000, which cannot be stored."
    if event.ip_address is not None and parse_ip(event.ip_address) is None:
        return f"{event.ip_address[:45]!r} is not an IP address."
    return None


@lru_cache(maxsize=65_536)
def parse_ip(text: str) -> IpAddress | None:
    """Return the address, with an IPv4 one unwrapped from IPv6 (::ffff:10.0.0.5), or None."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
    return address


def _read(index: int, raw: Any, rejected: list[Rejection]) -> UsageEvent | None:
    if isinstance(raw, Rejection):
        rejected.append(Rejection(index, raw.code, raw.detail))
        return None
    try:
        event = _event.decode(raw)
    except msgspec.ValidationError as error:
        rejected.append(Rejection(index, "event_invalid", f"{error}."))
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        rejected.append(Rejection(index, "event_malformed", "The event is not strict JSON."))
        return None
    wrong = check_event(event, raw)
    if wrong is not None:
        rejected.append(Rejection(index, "event_invalid", wrong))
        return None
    return event


def _check_metadata(metadata: dict[str, Any]) -> str | None:
    too_deep = f"metadata is nested more than {MAX_METADATA_DEPTH} levels deep."
    try:
        encoded = msgspec.json.encode(metadata)
    except RecursionError:
        return too_deep
    if len(encoded) > MAX_METADATA_BYTES:
        return f"metadata has {len(encoded):,} bytes of at most {MAX_METADATA_BYTES:,}."
    # What has fewer brackets than levels needs no walk, and that is nearly everything.
    if encoded.count(b"{") + encoded.count(b"[") <= MAX_METADATA_DEPTH:
        return None
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        members = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for each in members for inner in each if isinstance(inner, dict | list)]
        if not level:
            return None
    return too_deep


def _has_nul(event: UsageEvent) -> bool:
    return _any_text(msgspec.to_builtins(event), lambda text: "\x00" in text)


def _any_text(value: Any, test: Callable[[str], bool]) -> bool:
    if isinstance(value, str):
        return test(value)
    if isinstance(value, dict):
        return any(test(key) or _any_text(member, test) for key, member in value.items())
    if isinstance(value, list):
        return any(_any_text(member, test) for member in value)
    return False


def _rescue(text: bytes, reason: Exception) -> list[Any]:
    """Take apart a body that is almost JSON, so that its good events are kept.

    NaN, lone surrogates, and numbers of thousands of digits make a document invalid as a whole;
    here each costs only the event it stands in.
    """
    if len(text) > MAX_RESCUED_BODY_BYTES:
        raise EventsMalformed(f"The body is not JSON: {reason}.") from None
    bad = object()

    def parse_int(digits: str) -> Any:
        return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else bad

    try:
        document = json.loads(text, parse_constant=lambda _name: bad, parse_int=parse_int)
    except (ValueError, RecursionError):
        raise EventsMalformed(f"The body is not JSON: {reason}.") from None
    if isinstance(document, dict) and set(document) == {"events"}:
        document = document["events"]
    if not isinstance(document, list):
        raise EventsMalformed from None
    return [_reencode(event) for event in document]


def _reencode(event: Any) -> Any:
    detail = "The event holds NaN, Infinity, half of a surrogate pair, or a number without end."
    refused = Rejection(0, "event_malformed", detail)
    try:
        return json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        # TypeError is the sentinel, ValueError a float that overflowed or a lone surrogate.
        return refused
