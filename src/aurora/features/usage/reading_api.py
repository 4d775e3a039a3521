"""HTTP doors to usage: series, performance, the events behind a figure, and exports."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict

from aurora.core import clock
from aurora.core.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import transaction
from aurora.features.organizations.service import get_organization
from aurora.features.usage import exporting, reading
from aurora.features.usage.model import (
    MAX_EXPORT_DAYS,
    MAX_PERFORMANCE_ENDPOINTS,
    MAX_SERIES_POINTS,
    NO_KEY,
    DateRangeInvalid,
    Dimension,
    Granularity,
    SeriesPoint,
    StoredEvent,
)
from aurora.integrations.http import Caller, caller_of, pool_of

router = APIRouter(tags=["usage"])

SCOPE = "analytics:read"
Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
Organization = Annotated[UUID | None, Query(description="Operators and people name it.")]
MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


class Point(BaseModel):
    """Usage of one value in one hour, day, or month; a null group names none."""

    starts_at: datetime
    group: str | None
    requests: int
    widget_impressions: int
    billable_impressions: int
    successful: int
    failed: int
    cached: int
    avg_response_time_ms: float | None


class Series(BaseModel):
    """A page of points by time; those without a request are left out."""

    organization_id: UUID
    granularity: Granularity
    group_by: Dimension
    time_zone: str
    first_day: date
    last_day: date
    items: list[Point]
    next_cursor: str | None


class EndpointFigures(BaseModel):
    """One endpoint; percentiles by nearest rank, at most 5 % off, in milliseconds."""

    endpoint: str
    requests: int
    errors: int
    error_rate_pct: float
    avg_response_time_ms: float | None
    p50_response_time_ms: float | None
    p95_response_time_ms: float | None
    p99_response_time_ms: float | None


class Performance(BaseModel):
    """Endpoints by requests, over whole hours of UTC."""

    organization_id: UUID
    starts_at: datetime
    ends_at: datetime
    items: list[EndpointFigures]
    is_truncated: bool


class Event(BaseModel):
    """A raw row as it was stored; of the address the network only."""

    model_config = ConfigDict(from_attributes=True)
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
    metadata: dict[str, object]
    event_id: str | None
    is_reversed: bool


class Explanation(BaseModel):
    """A day's figure, and a page of the events behind it, in the order they were stored."""

    organization_id: UUID
    day: date
    dimension: Dimension
    value: str | None
    figure: Point
    items: list[Event]
    next_cursor: str | None


@router.get("/series")
async def get_series(
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    granularity: Granularity = "day",
    group_by: Dimension = "total",
    from_: Annotated[date | None, Query(alias="from", description="First day.")] = None,
    to: Annotated[date | None, Query(description="Last day, included.")] = None,
    time_zone: Annotated[str, Query(max_length=64, description="IANA name.")] = "UTC",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SERIES_POINTS)] = 1_000,
) -> Series:
    """Return usage by hour, day, or month, and by one dimension; always fresh."""
    organization = who.organization(organization_id, scope=SCOPE)
    asked = reading.SeriesAsked(
        granularity=granularity,
        dimension=group_by,
        first_day=from_,
        last_day=to,
        time_zone=time_zone,
    )
    first, last = asked.days()
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
        page = await reading.list_series(conn, organization, asked, cursor=cursor, limit=limit)
    return Series(
        organization_id=organization,
        granularity=granularity,
        group_by=group_by,
        time_zone=time_zone,
        first_day=first,
        last_day=last,
        items=[_point(point) for point in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/performance")
async def get_performance(
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    from_: Annotated[
        AwareDatetime | None, Query(alias="from", description="24 hours before the end if absent.")
    ] = None,
    to: Annotated[AwareDatetime | None, Query(description="Now if absent.")] = None,
) -> Performance:
    """Return requests, errors, and p50, p95, and p99 by endpoint, over whole hours."""
    organization = who.organization(organization_id, scope=SCOPE)
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
        starts, ends, rows = await reading.measure_performance(
            conn, organization, starts_at=from_, ends_at=to
        )
    return Performance(
        organization_id=organization,
        starts_at=starts,
        ends_at=ends,
        items=[
            EndpointFigures(
                endpoint=row.endpoint,
                requests=row.requests,
                errors=row.errors,
                error_rate_pct=round(100 * row.errors / row.requests, 2),
                avg_response_time_ms=_mean(row.response_time_ms_sum, row.response_time_count),
                p50_response_time_ms=row.p50_response_time_ms,
                p95_response_time_ms=row.p95_response_time_ms,
                p99_response_time_ms=row.p99_response_time_ms,
            )
            for row in rows
        ],
        is_truncated=len(rows) >= MAX_PERFORMANCE_ENDPOINTS,
    )


@router.get("/days/{day}/events")
async def get_day_events(
    day: date,
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    dimension: Dimension = "total",
    value: Annotated[
        str | None, Query(max_length=2048, description="As the summary names it; absent: none.")
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE,
) -> Explanation:
    """Explain a figure: what the sums say of a UTC day and value, and the raw events behind it."""
    organization = who.organization(organization_id, scope=SCOPE)
    named = value if value is not None else NO_KEY if dimension == "api_key" else ""
    async with transaction(pool, who.actor(organization), read_only=True) as conn:
        await get_organization(conn, organization)
        figure, page = await reading.explain_figure(
            conn,
            organization,
            reading.FigureAsked(day=day, dimension=dimension, value=named),
            cursor=cursor,
            limit=limit,
        )
    return Explanation(
        organization_id=organization,
        day=day,
        dimension=dimension,
        value=value,
        figure=_point(figure),
        items=[Event.model_validate(event) for event in page.items],
        next_cursor=page.next_cursor,
    )


@router.get("/export", response_class=StreamingResponse)
async def export_usage(
    who: Who,
    pool: Database,
    organization_id: Organization = None,
    format: exporting.Format = "csv",  # noqa: A002 - it is what the parameter is called
    from_: Annotated[date | None, Query(alias="from", description="First UTC day.")] = None,
    to: Annotated[date | None, Query(description="Last UTC day, included.")] = None,
) -> StreamingResponse:
    """Send the raw events of up to 366 UTC days as CSV or Parquet; the last 30 if none is named."""
    organization = who.organization(organization_id, scope=SCOPE)
    last = to or clock.now().date()
    span = timedelta(days=29)
    first = from_ or (last - span if last - date.min >= span else date.min)
    if first > last or (last - first).days >= MAX_EXPORT_DAYS:
        raise DateRangeInvalid(f"An export spans 1 to {MAX_EXPORT_DAYS} days.")
    actor = who.actor(organization)
    async with transaction(pool, actor, read_only=True) as conn:
        await get_organization(conn, organization)

    async def page(day: date, after_id: int) -> list[StoredEvent]:
        async with transaction(pool, actor, read_only=True) as conn:
            return await reading.list_day(conn, organization, day, after_id, exporting.ROWS_A_PAGE)

    name = f"usage-{first}-{last}.{format}"
    return StreamingResponse(
        exporting.export_usage(page, first, last, format),
        media_type=MEDIA[format],
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _point(point: SeriesPoint) -> Point:
    return Point(
        starts_at=point.starts_at,
        group=None if point.value in ("", NO_KEY) else point.value,
        requests=point.requests,
        widget_impressions=point.widget_impressions,
        billable_impressions=point.billable_impressions,
        successful=point.successful,
        failed=point.failed,
        cached=point.cached,
        avg_response_time_ms=_mean(point.response_time_ms_sum, point.response_time_count),
    )


def _mean(total: int, count: int) -> float | None:
    return round(total / count, 3) if count else None
