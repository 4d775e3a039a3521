"""Which form a body of events has, told by its headers, and reading it so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from aurora.core.errors import AuroraError
from aurora.features.usage.cloudevents import PREFIX, read_binary_cloudevent, read_cloudevent
from aurora.features.usage.decoding import (
    Batch,
    array_of,
    decode_batch,
    decode_lines,
    read_each,
)

CLOUDEVENT: Final = "application/cloudevents+json"
CLOUDEVENTS: Final = "application/cloudevents-batch+json"
LINES: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md,
# section 3: whatever begins so is a CloudEvent, in a form that may not be known here.
_OTHER_CLOUDEVENTS: Final = re.compile(r"application/cloudevents[+-]")
SPEC_VERSION: Final = PREFIX + b"specversion"
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]+)", re.IGNORECASE)
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


class MediaTypeUnsupported(AuroraError):
    """The body is in a form that is not read here."""

    status, code = 415, "media_type_unsupported"
    title = "The body's Content-Type is not read here"


def decode_body(body: bytes, headers: Mapping[bytes, bytes]) -> Batch:
    """Read the events of a request; a type that is not known is read as JSON.

    Args:
        body: Decompressed.
        headers: By their names in lower case.

    Raises:
        EventsMalformed: The body as a whole is not what its headers say.
        TooManyEvents: It holds more than a call takes.
        MediaTypeUnsupported: It is a CloudEvent in another form than JSON, or not in UTF-8.
    """
    sent = headers.get(b"content-type", b"").decode("latin-1")
    charset = _CHARSET.search(sent)
    if charset is not None and charset[1].lower() not in _UTF8:
        raise MediaTypeUnsupported(f"Send UTF-8, not {charset[1][:40]!r}.")
    media_type = sent.partition(";")[0].strip().lower()
    if media_type in LINES:
        return decode_lines(body)
    if media_type == CLOUDEVENT:
        return read_each([body], read_cloudevent)
    if media_type == CLOUDEVENTS:
        return read_each(array_of(body), read_cloudevent)
    if _OTHER_CLOUDEVENTS.match(media_type):
        raise MediaTypeUnsupported(f"Send CloudEvents as {CLOUDEVENT} or {CLOUDEVENTS}.")
    if SPEC_VERSION in headers:
        return read_each([body], partial(read_binary_cloudevent, headers))
    return decode_batch(body)
