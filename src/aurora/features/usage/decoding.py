"""From the bytes of a request to events: what is wrong with one event never costs the others."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from aurora.core.errors import TooLarge
from aurora.features.usage.model import (
    MAX_EVENTS_PER_CALL,
    EventsMalformed,
    Rejection,
    TooManyEvents,
    UsageEvent,
)

MAX_RESCUED_BODY_BYTES = 1024 * 1024
"""Bytes; a body that is not strict JSON is taken apart slowly, so only small ones are."""

MAX_INTEGER_DIGITS = 300

MAX_VALUES_PER_BODY = 1_000_000
"""JSON values; 10,000 full events with 20 members of metadata each have a third of it. Without
this bound 16 MB of brackets would become half a gigabyte of lists."""

UNCOUNTED_BODY_BYTES = 2 * 1024 * 1024
"""So small a body cannot hold enough values to matter; counting took a tenth of decoding."""

Refusal = tuple[str, str]
"""Why an event cannot be read: a code and a sentence."""

# Decoded at once where nothing is wrong, which is nearly always; one by one otherwise.
_events: Final = msgspec.json.Decoder(list[UsageEvent])
_event: Final = msgspec.json.Decoder(UsageEvent)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Events(msgspec.Struct, forbid_unknown_fields=True):
    events: list[UsageEvent]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_wrapped_events: Final = msgspec.json.Decoder(_Events)
_wrapped_array: Final = msgspec.json.Decoder(_Envelope)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class Batch:
    """The events of a request that can be read, with their places, and why the others cannot."""

    events: list[tuple[int, UsageEvent]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many events there were."""
        return len(self.events) + len(self.rejected)


def decode_batch(body: bytes) -> Batch:
    """Read a JSON array of events, an object with the array in `events`, or a single event.

    Raises:
        EventsMalformed: The body as a whole is not that.
        TooManyEvents: It holds more than `MAX_EVENTS_PER_CALL`.
    """
    text = _stripped(body)
    check_values(text)
    events = strict_events(text)
    if events is None:
        return read_each(_raws(text), read_event)
    check_number(len(events))
    return Batch(list(enumerate(events)))


def strict_events(text: bytes) -> list[UsageEvent] | None:
    """Return the events of a body in which nothing is wrong; None for any other."""
    if text[:1] == b"{":
        # Whether it is one event or many shows at its first member.
        try:
            return [_event.decode(text)]
        except _UNREADABLE:
            pass
    try:
        return _wrapped_events.decode(text).events if text[:1] == b"{" else _events.decode(text)
    except _UNREADABLE:
        return None


def decode_lines(body: bytes) -> Batch:
    """Read NDJSON: an event on each line that is not blank, numbered from 0 without the blank ones.

    Raises:
        EventsMalformed: There is no event.
        TooManyEvents: There are more than `MAX_EVENTS_PER_CALL`, or twice as many lines.
    """
    text = _stripped(body)
    if text.count(b"\n") >= 2 * MAX_EVENTS_PER_CALL:
        check_number(text.count(b"\n") + 1)
    check_values(text)
    try:
        events = _event.decode_lines(text)
    except _UNREADABLE:
        lines = [line for line in text.split(b"\n") if line and not line.isspace()]
        return read_each(lines, read_event)
    check_number(len(events))
    return Batch(list(enumerate(events)))


def read_each(
    raws: Iterable[Any], read: Callable[[Any], UsageEvent | Refusal], *, most: int | None = None
) -> Batch:
    """Read events one by one; each that cannot be read costs only itself.

    Args:
        raws: The JSON of each, or why it has none.
        read: Makes an event of one.
        most: At most so many, by default `MAX_EVENTS_PER_CALL`.

    Raises:
        TooManyEvents: There are more.
    """
    each = list(raws)
    check_number(len(each), most=most or MAX_EVENTS_PER_CALL)
    batch = Batch()
    for index, raw in enumerate(each):
        event = raw if isinstance(raw, tuple) else read(raw)
        if isinstance(event, tuple):
            batch.rejected.append(Rejection(index, *event))
        else:
            batch.events.append((index, event))
    return batch


def read_event(raw: bytes | msgspec.Raw) -> UsageEvent | Refusal:
    """Return an event, or why this is none."""
    try:
        return _event.decode(raw)
    except msgspec.ValidationError as error:
        return explain(error)
    except _UNREADABLE:
        return "event_malformed", "The event is not strict JSON."


def explain(error: Exception) -> Refusal:
    """Return the code and the sentence of an event that could not be read."""
    if isinstance(error, msgspec.ValidationError):
        return "event_invalid", f"{error}."
    if isinstance(error, RecursionError):
        return "event_malformed", "The row is nested too deeply."
    if isinstance(error, UnicodeDecodeError):
        return "event_malformed", "The row is not UTF-8."
    return "event_malformed", f"{error}."


def array_of(body: bytes) -> list[Any]:
    """Return the JSON of each member of an array.

    Raises:
        EventsMalformed: The body is not an array.
    """
    text = _stripped(body)
    check_values(text)
    if text[:1] != b"[":
        raise EventsMalformed("The body is not a JSON array.")
    return _raws(text)


def check_number(events: int, *, most: int = MAX_EVENTS_PER_CALL) -> None:
    """Refuse more events than a call takes.

    Raises:
        TooManyEvents: There are more than `most`.
    """
    if events > most:
        raise TooManyEvents(f"The call has {events:,} events.", max_events=most)


def check_values(text: bytes) -> None:
    """Refuse a body whose JSON would become far larger than its bytes.

    Raises:
        TooLarge: It may hold more than `MAX_VALUES_PER_BODY` values.
    """
    if len(text) <= UNCOUNTED_BODY_BYTES:
        return
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES_PER_BODY:
        raise TooLarge(f"The body holds more than {MAX_VALUES_PER_BODY:,} values.")


def _stripped(body: bytes) -> bytes:
    # RFC 8259, section 8.1: a byte order mark may be passed over.
    text = body.removeprefix(BOM_UTF8).strip()
    if not text:
        raise EventsMalformed("The body is empty; send a JSON array of events.")
    return text


def _raws(text: bytes) -> list[Any]:
    """Return the JSON of each event, where decoding all of them at once failed."""
    try:
        if text[:1] != b"{":
            return list(_array.decode(text))
        members = _object.decode(text)
        if "events" in members or not members:
            return list(_wrapped_array.decode(text).events)
    except RecursionError:
        raise EventsMalformed("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _rescue(text, error)
    return [text]


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
        # As text: bytes it would read as UTF-16, too.
        document = json.loads(
            text.decode("utf-8", "surrogatepass"),
            parse_constant=lambda _name: bad,
            parse_int=parse_int,
        )
    except (ValueError, RecursionError):
        raise EventsMalformed(f"The body is not JSON: {reason}.") from None
    if isinstance(document, dict):
        if "events" not in document and document:
            document = [document]
        elif set(document) == {"events"}:
            document = document["events"]
    if not isinstance(document, list):
        raise EventsMalformed from None
    return [_reencode(event) for event in document]


def _reencode(event: Any) -> Any:
    try:
        return json.dumps(event, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        # TypeError is the sentinel, ValueError a float that overflowed or a lone surrogate.
        return (
            "event_malformed",
            "The event holds NaN, Infinity, half of a surrogate pair, or a number without end.",
        )
