"""What the usage room speaks of: an event, and what became of a batch of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec

from aurora.core.errors import Invalid, Malformed, TooLarge, Unavailable

MAX_EVENTS_PER_CALL = 10_000
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32
MAX_LATE_DAYS = 35
MAX_AHEAD_SECONDS = 3_600
MAX_QUARANTINE_LATE_DAYS = 800
MAX_QUARANTINE_AHEAD_DAYS = 31
MAX_QUARANTINED = 100_000
"""Events an organization may have in quarantine; what comes beyond is rejected."""
MAX_REVERSALS_PER_CALL = 1_000
MAX_SUMMARY_DAYS = 3_700
MAX_SUMMARY_GROUPS = 5_000
MAX_SERIES_POINTS = 5_000
MAX_SERIES_HOURS = 31 * 24
MAX_PERFORMANCE_ENDPOINTS = 500
MAX_PERFORMANCE_DAYS = 366
MAX_EXPORT_DAYS = 366
MAX_DIFFERENCES = 1_000
MAX_ORIGINS = 200
MAX_REASON = 500
NO_KEY = "00000000-0000-0000-0000-000000000000"
"""How sums name a missing key."""

WidgetType = Literal["forecast", "map", "chat"]
GroupBy = Literal[
    "day", "month", "endpoint", "api_key", "widget_type", "status_class", "country", "origin"
]
Granularity = Literal["hour", "day", "month"]
DAYS_BACKWARDS: Final = "The first day must not be after the last."

OriginOrder = Literal["impressions", "requests"]
Dimension = Literal[
    "total", "api_key", "endpoint", "widget_type", "status_class", "country", "origin"
]

Text = Annotated[str, msgspec.Meta(max_length=2048)]
# Held where an event is packed, which remembers them: as patterns here they took a quarter of the
# time of decoding.
Method = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Z]{1,20}$"})]
Country = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Z]{2}$"})]


class UsageEvent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One request or impression, as its sender saw it.

    `id` counts once per organization; with `source` given the pair is the identity
    (CloudEvents 1.0, section 3.1.1). `response_time_ms` is in milliseconds. With `reverses` given
    the event takes back the earlier one of that id and the same source, and is not counted itself.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    endpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    status_code: Annotated[int, msgspec.Meta(ge=100, le=599)]
    api_key_id: UUID | None = None
    organization_id: UUID | None = None
    source: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    reverses: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    method: Method = "GET"
    response_time_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] | None = None
    cached: bool = False
    widget_type: WidgetType | None = None
    widget_impression: bool = False
    origin: Text | None = None
    user_agent: Text | None = None
    ip_address: Annotated[str, msgspec.Meta(max_length=45)] | None = None
    country_code: Country | None = None
    metadata: dict[str, Any] = {}


class Rejection(msgspec.Struct, frozen=True):
    """An event that was not taken: its place in the batch, a stable code, and why."""

    index: int
    code: str
    detail: str


class IdConflict(msgspec.Struct, frozen=True):
    """An event whose id was seen before with other content; the first one stands."""

    index: int
    id: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of a batch. It is made after the commit, so accepted means stored."""

    accepted: int
    duplicates: int
    conflicts: list[IdConflict] = []
    rejected: list[Rejection] = []
    quarantined: list[Rejection] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """Usage of one group; `response_time_ms_sum` is in milliseconds."""

    group: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    successful: int
    failed: int
    cached: int
    response_time_ms_sum: int
    response_time_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    """Usage of one value of a dimension in one hour, day, or month that begins at `starts_at`.

    `place` orders the values of one time: values may be longer than a cursor.
    """

    starts_at: datetime
    value: str
    place: UUID
    requests: int
    widget_impressions: int
    billable_impressions: int
    successful: int
    failed: int
    cached: int
    response_time_ms_sum: int
    response_time_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPerformance:
    """Requests of one endpoint; percentiles by nearest rank, at most 5 % off, in milliseconds."""

    endpoint: str
    requests: int
    errors: int
    response_time_ms_sum: int
    response_time_count: int
    p50_response_time_ms: float | None
    p95_response_time_ms: float | None
    p99_response_time_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A raw row as it may be looked at: of the address the network only (/24, /48)."""

    id: int
    timestamp: datetime
    api_key_id: UUID | None
    endpoint: str
    method: str
    status_code: int
    response_time_ms: int | None
    cached: bool
    widget_type: str | None
    widget_impression: bool
    billable: bool
    origin: str | None
    user_agent: str | None
    network: str | None
    country_code: str | None
    metadata: dict[str, Any]
    event_id: str | None
    is_reversed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginFigures:
    """One origin, and beside it what all origins of the same days come to."""

    origin: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    failed: int
    all_requests: int
    all_impressions: int
    origins: int


class LiveEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is shown while it comes: nothing of the visitor."""

    id: int
    timestamp: datetime
    api_key_id: UUID | None
    endpoint: str
    method: str
    status_code: int
    response_time_ms: int | None
    cached: bool
    widget_type: str | None
    widget_impression: bool
    billable: bool
    origin: str | None
    country_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A sum that is not what the raw rows say."""

    what: str
    dimension: str
    starts_at: datetime
    value: str
    measure: str
    stored: int
    recounted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An event that came out of time."""

    organization_id: UUID
    event_key: UUID
    reason: str
    timestamp: datetime
    event: dict[str, Any]
    received_at: datetime


class NotReplayed(msgspec.Struct, frozen=True):
    """An event that stays in quarantine: its id, a stable code, and why."""

    id: str
    code: str
    detail: str


class Replayed(msgspec.Struct, frozen=True):
    """What became of events in quarantine; what was counted, now or before, is out of it."""

    accepted: int
    duplicates: int
    kept: list[NotReplayed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long usage is kept: months of raw rows, days of whole addresses and of hourly sums."""

    keep_months: int
    address_days: int
    hourly_days: int
    addresses_truncated_to: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What a step of taking a table over did: rows that were looked at, and what became of them."""

    looked_at: int
    accepted: int
    known: int
    refused: int
    is_finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedEvent:
    """A staged event whose id had been counted before, and the digest of what was counted."""

    ordinal: int
    digest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AsideOutcome:
    """What became of a reversal, or of an event for the quarantine: a word of app's functions."""

    ordinal: int
    outcome: str


class EventsMalformed(Malformed):
    """The body is not a JSON array of events."""

    code, title = "events_malformed", "The body is not a JSON array of events"


class TooManyEvents(TooLarge):
    """More events in a call than a call takes."""

    code, title = "too_many_events", f"A call takes at most {MAX_EVENTS_PER_CALL:,} events"


class IngestBusy(Unavailable):
    """More events wait to be stored than may wait; none of these was taken."""

    code, title = "ingest_busy", "Too many events wait to be stored; send these again"


class IngestStopping(Unavailable):
    """The process that was asked is about to end; none of these was taken."""

    code, title = "ingest_stopping", "This server is stopping; send these events again"


class NotAcknowledged(Unavailable):
    """The database was lost before it said that it had committed."""

    code = "usage_not_acknowledged"
    title = "Whether the events were stored is not known; send the same again, each counts once"


class ApiKeyUnknown(Invalid):
    """An event names a key that its organization does not have."""

    code, title = "api_key_unknown", "The organization has no such API key"


class TimestampOutOfRange(Invalid):
    """An event is later or earlier than is taken."""

    code = "timestamp_out_of_range"
    title = f"An event may be {MAX_LATE_DAYS} days late and one hour early"


class RetentionInvalid(Invalid):
    """Ids would be forgotten while their events may still come again."""

    code = "retention_invalid"
    title = f"Event ids are kept longer than the {MAX_LATE_DAYS} days an event may be late"


class TimeZoneUnsupported(Invalid):
    """The zone's offset is not whole hours, and sums are kept by the hour."""

    code, title = "time_zone_unsupported", "The time zone is not whole hours from UTC"


class ReasonMissing(Invalid):
    """Nobody said why."""

    code, title = "reason_missing", "Say why, for the audit"


class UsageTableInvalid(Invalid):
    """The table that is to be taken over is not one."""

    code, title = "usage_table_invalid", "This is no table of usage in the founding shape"


class AdoptionExpired(Invalid):
    """The rows that were taken over are no longer known by their ids."""

    code, title = "usage_adoption_expired", "Taking this table over began too long ago to go on"


class DateRangeInvalid(Invalid):
    """The days asked for do not make a range."""

    code, title = "date_range_invalid", "The range is empty, too long, or none"
