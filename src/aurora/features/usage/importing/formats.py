"""What every usage format shares: its name, what a line becomes, and the defaults it is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from aurora.core.errors import Invalid
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.importing.routes import DEFAULT_ROUTES, Routes
from aurora.features.usage.model import UsageEvent
from aurora.integrations.textfiles import MAX_LINE_BYTES, Line

MAX_EXCERPT_CHARS = 120
MAX_DETAIL_CHARS = 300

Format = Literal["access_log", "ndjson", "csv", "cloudevents"]
FORMATS: tuple[Format, ...] = ("access_log", "ndjson", "csv", "cloudevents")


class UnknownFormat(Invalid):
    """The file is in no format that can be imported."""

    code, title = "format_unknown", "The format of the file is not known"


class Rejected(msgspec.Struct, frozen=True):
    """A line that gave no event: where it is, a stable code, why, and how it begins."""

    line_number: int
    code: str
    detail: str
    excerpt: str


Parsed = UsageEvent | Rejected
# Line number, offset of the record's first byte in the decompressed stream, and what it became.
Record = tuple[int, int, Parsed]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a file does not say of its events.

    Attributes:
        api_key_id: Given to events that name no key.
        organization_id: Given to events that name no organization.
        routes: How paths of an access log tell widget types and impressions.
        bare_duration_unit: What a bare whole number at the end of an access-log line is. Apache
            writes microseconds with %D, seconds with %T, and the line does not say which, so by
            default such a number is not taken for a duration.
    """

    api_key_id: UUID | None = None
    organization_id: UUID | None = None
    routes: Routes = field(default=DEFAULT_ROUTES)
    bare_duration_unit: Literal["s", "ms", "us"] | None = None

    def attach(self, event: UsageEvent) -> UsageEvent:
        """Fill in what the event does not say itself, and return it."""
        if event.api_key_id is None:
            event.api_key_id = self.api_key_id
        if event.organization_id is None:
            event.organization_id = self.organization_id
        return event


class LineParser(Protocol):
    """Turns the lines of one format into records."""

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:
        """Take what the file does not say, the source of ids, and the beginning of the file."""

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield one record for each line that is not blank, in order."""


def reject(line_number: int, code: str, detail: str, raw: bytes | None = b"") -> Rejected:
    """Describe a line that cannot be taken, with an excerpt that is safe to print."""
    text = (raw or b"")[: 4 * MAX_EXCERPT_CHARS].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    detail = detail[:MAX_DETAIL_CHARS].rstrip(".") + "."
    return Rejected(line_number, code, detail, shown[:MAX_EXCERPT_CHARS])


def reject_long_line(line_number: int) -> Rejected:
    """Describe a line that was skipped because of its length."""
    return reject(line_number, "line_too_long", f"The line is longer than {MAX_LINE_BYTES} bytes")
