"""Reading usage: series, performance, and the raw events behind a figure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from aurora.core import clock
from aurora.core.paging import CursorInvalid, Page, decode_cursor, page_of
from aurora.core.periods import day_start, zone_of
from aurora.db.transaction import Connection
from aurora.features.usage import store
from aurora.features.usage.covering import cover
from aurora.features.usage.model import (
    DAYS_BACKWARDS,
    MAX_PERFORMANCE_DAYS,
    MAX_PERFORMANCE_ENDPOINTS,
    MAX_SERIES_HOURS,
    MAX_SUMMARY_DAYS,
    DateRangeInvalid,
    Dimension,
    EndpointPerformance,
    Granularity,
    OriginFigures,
    OriginOrder,
    SeriesPoint,
    StoredEvent,
    TimeZoneUnsupported,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DEFAULT_DAYS: dict[Granularity, int] = {"hour": 1, "day": 30, "month": 366}
MAX_ZONED_DAYS = 92
"""Days in a zone of one's own are summed from hours, which are kept by dimension as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAsked:
    """What a series is of.

    Attributes:
        granularity: Length of a point.
        dimension: What its points are told apart by; `total` for one a time.
        first_day: In the zone, included.
        last_day: In the zone, included.
        time_zone: IANA name; whole hours from UTC.
    """

    granularity: Granularity = "day"
    dimension: Dimension = "total"
    first_day: date | None = None
    last_day: date | None = None
    time_zone: str = "UTC"

    def days(self) -> tuple[date, date]:
        """Return the first and the last day, where none are asked for the latest ones.

        Raises:
            DateRangeInvalid: They are no range, or too long a one.
        """
        last = self.last_day or clock.now().astimezone(zone_of(self.time_zone)).date()
        span = timedelta(days=DEFAULT_DAYS[self.granularity] - 1)
        first = self.first_day or (last - span if last - date.min >= span else date.min)
        if first > last or last == date.max:
            raise DateRangeInvalid(DAYS_BACKWARDS)
        longest = MAX_SUMMARY_DAYS
        if self.granularity == "hour":
            longest = MAX_SERIES_HOURS // 24
        elif self.time_zone != "UTC":
            longest = MAX_ZONED_DAYS
        if (last - first).days >= longest:
            raise DateRangeInvalid(f"Such a series spans at most {longest:,} days.")
        return first, last


async def list_series(
    conn: Connection, organization_id: UUID, asked: SeriesAsked, *, cursor: str | None, limit: int
) -> Page[SeriesPoint]:
    """Return a page of points by time; points without a request are left out.

    Raises:
        DateRangeInvalid, TimeZoneUnknown, TimeZoneUnsupported, CursorInvalid: What was asked for.
    """
    first, last = asked.days()
    after_at: datetime | None = None
    after_place: UUID | None = None
    if cursor is not None:
        after_at, after_place = decode_cursor(cursor, (datetime, UUID))
    starts, ends = day_start(first, asked.time_zone), day_start(last + DAY, asked.time_zone)
    from_hours = asked.granularity == "hour" or asked.time_zone != "UTC"
    for moment in (starts, ends):
        if _seconds_off(moment, asked.time_zone):
            raise TimeZoneUnsupported(f"{asked.time_zone} is not whole hours from UTC.")
    points = await store.list_series(
        conn,
        organization_id,
        from_hours=from_hours,
        granularity=asked.granularity,
        dimension=asked.dimension,
        starts_at=starts,
        ends_at=ends,
        after_at=after_at,
        after_place=after_place,
        limit=limit + 1,
        **({"time_zone": asked.time_zone} if from_hours else {}),
    )
    return page_of(points, limit, lambda point: (point.starts_at, point.place))


def _seconds_off(moment: datetime, time_zone: str) -> int:
    offset = moment.astimezone(zone_of(time_zone)).utcoffset() or timedelta()
    return int(offset.total_seconds()) % 3_600


async def measure_performance(
    conn: Connection,
    organization_id: UUID,
    *,
    starts_at: datetime | None,
    ends_at: datetime | None,
) -> tuple[datetime, datetime, list[EndpointPerformance]]:
    """Return endpoints by requests, and the whole hours of UTC that were measured.

    Args:
        conn: Of whoever asks.
        organization_id: Whose usage.
        starts_at: Rounded down to its hour; 24 hours before the end where None.
        ends_at: Rounded up to its hour; now where None.

    Raises:
        DateRangeInvalid: The end is not after the start, or too long after it.
    """
    try:
        end = ends_at or clock.now()
        # A day before the end itself, and not before the hour that it is rounded up to.
        starts, ends = _hour(starts_at or end - DAY, up=False), _hour(end, up=True)
    except OverflowError:
        raise DateRangeInvalid from None
    if starts >= ends:
        raise DateRangeInvalid("The end must be after the start.")
    if ends - starts > timedelta(days=MAX_PERFORMANCE_DAYS):
        raise DateRangeInvalid(f"Performance spans at most {MAX_PERFORMANCE_DAYS} days.")
    rows = await store.list_performance(
        conn,
        organization_id,
        starts_at=starts,
        ends_at=ends,
        limit=MAX_PERFORMANCE_ENDPOINTS,
        **cover(starts, ends, clock.now())._asdict(),
    )
    return starts, ends, rows


async def list_origins(
    conn: Connection,
    organization_id: UUID,
    *,
    first_day: date | None,
    last_day: date | None,
    order_by: OriginOrder,
    limit: int,
) -> tuple[date, date, list[OriginFigures]]:
    """Return the largest origins of UTC days, both included, the last 30 where none is named.

    Raises:
        DateRangeInvalid: The days are no range, or too long a one.
    """
    first, last = SeriesAsked(first_day=first_day, last_day=last_day).days()
    rows = await store.list_origins(
        conn, organization_id, first_day=first, last_day=last, order_by=order_by, limit=limit
    )
    return first, last, rows


def _hour(moment: datetime, *, up: bool) -> datetime:
    at = moment.astimezone(UTC)
    whole = at.replace(minute=0, second=0, microsecond=0)
    return whole + HOUR if up and whole < at else whole


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureAsked:
    """A figure that is to be explained: a UTC day or one of its hours, and a dimension's value."""

    day: date
    hour: int | None = None
    dimension: Dimension = "total"
    value: str | None = None

    def starts_at(self) -> datetime | None:
        """Return where the hour begins, if one was asked for."""
        return None if self.hour is None else datetime.combine(self.day, time(self.hour), UTC)


async def explain_figure(
    conn: Connection, organization_id: UUID, asked: FigureAsked, *, cursor: str | None, limit: int
) -> tuple[SeriesPoint, Page[StoredEvent]]:
    """Return what the sums say of a day, and a page of the raw events behind it.

    Raises:
        CursorInvalid: The cursor was not given out here.
    """
    after_id = 0 if cursor is None else decode_cursor(cursor, (int,))[0]
    if after_id < 0:
        raise CursorInvalid
    value = "" if asked.dimension == "total" else asked.value
    figure = await store.find_figure(
        conn, organization_id, day=asked.day, dimension=asked.dimension, value=value or ""
    )
    rows = await store.list_events(
        conn,
        organization_id,
        day=asked.day,
        hour=asked.starts_at(),
        dimension=asked.dimension,
        value=value if asked.dimension != "total" else None,
        after_id=after_id,
        limit=limit + 1,
    )
    return figure, page_of(rows, limit, lambda event: (event.id,))


async def list_day(
    conn: Connection, organization_id: UUID, day: date, after_id: int, limit: int
) -> list[StoredEvent]:
    """Return raw rows of a UTC day with ids above one, in order."""
    return await store.list_events(
        conn,
        organization_id,
        day=day,
        hour=None,
        dimension="total",
        value=None,
        after_id=after_id,
        limit=limit,
    )
