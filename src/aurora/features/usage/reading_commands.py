"""Commands that read usage: aurora usage series, performance, events, export."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from aurora.core import clock
from aurora.core.paging import MAX_PAGE_SIZE
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.organizations.service import get_organization
from aurora.features.usage import exporting, live, reading
from aurora.features.usage.model import (
    DAYS_BACKWARDS,
    MAX_ORIGINS,
    MAX_SERIES_POINTS,
    NO_KEY,
    DateRangeInvalid,
    Dimension,
    EndpointPerformance,
    Granularity,
    LiveEvent,
    OriginFigures,
    OriginOrder,
    SeriesPoint,
    StoredEvent,
)
from aurora.integrations.terminal import (
    FileNotWritten,
    JsonOption,
    out,
    printable,
    run,
    show,
)

usage = typer.Typer()

OrgOption = Annotated[str, typer.Option("--org", help="The organization's slug.")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")
]
ToOption = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, included.")
]


@usage.command("series")
def show_series(
    ctx: typer.Context,
    org: OrgOption,
    granularity: Annotated[Granularity, typer.Option(help="Length of a point.")] = "day",
    group_by: Annotated[Dimension, typer.Option(help="What points are told apart by.")] = "total",
    from_: FromOption = None,
    to: ToOption = None,
    time_zone: Annotated[str, typer.Option(help="IANA name.")] = "UTC",
    json: JsonOption = False,
) -> None:
    """Show usage by hour, day, or month."""
    asked = reading.SeriesAsked(
        granularity=granularity,
        dimension=group_by,
        first_day=day_of(from_),
        last_day=day_of(to),
        time_zone=time_zone,
    )

    async def work(pool: Pool) -> list[SeriesPoint]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            page = await reading.list_series(
                conn, organization.id, asked, cursor=None, limit=MAX_SERIES_POINTS
            )
            return page.items

    columns = ("starts_at", "value", "requests", "widget_impressions", "failed")
    show(run(ctx, work), json=json, columns=columns)


@usage.command("performance")
def show_performance(
    ctx: typer.Context,
    org: OrgOption,
    hours: Annotated[int, typer.Option(min=1, max=8_784, help="Up to now.")] = 24,
    json: JsonOption = False,
) -> None:
    """Show requests, errors, and percentiles by endpoint."""

    async def work(pool: Pool) -> list[EndpointPerformance]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            _, _, rows = await reading.measure_performance(
                conn,
                organization.id,
                starts_at=clock.now() - timedelta(hours=hours),
                ends_at=None,
            )
            return rows

    columns = (
        "endpoint", "requests", "errors", "p50_response_time_ms", "p95_response_time_ms",
        "p99_response_time_ms",
    )  # fmt: skip
    show(run(ctx, work), json=json, columns=columns)


@usage.command("origins")
def show_origins(
    ctx: typer.Context,
    org: OrgOption,
    from_: FromOption = None,
    to: ToOption = None,
    order_by: Annotated[OriginOrder, typer.Option(help="What makes one large.")] = "impressions",
    limit: Annotated[int, typer.Option(min=1, max=MAX_ORIGINS, help="How many.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show the largest origins of UTC days, the last 30 if none is named."""

    async def work(pool: Pool) -> list[OriginFigures]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            _, _, rows = await reading.list_origins(
                conn, organization.id, first_day=day_of(from_), last_day=day_of(to),
                order_by=order_by, limit=limit,
            )  # fmt: skip
            return rows

    columns = ("origin", "requests", "widget_impressions", "billable_impressions", "failed")
    show(run(ctx, work), json=json, columns=columns)


@usage.command("tail")
def tail_usage(
    ctx: typer.Context,
    org: OrgOption,
    seconds: Annotated[
        int | None, typer.Option(min=1, help="How long; until it is interrupted if absent.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print events as they come, one a line."""

    async def work(pool: Pool) -> None:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
        follows = live.Live(pool)
        ends_s = None if seconds is None else time.monotonic() + seconds
        with follows.listening(organization.id) as listener:
            while ends_s is None or time.monotonic() < ends_s:
                left_s = live.HEARTBEAT_S if ends_s is None else ends_s - time.monotonic()
                piece = await listener.next(min(live.HEARTBEAT_S, left_s))
                for event in live.read(piece or b""):
                    line = msgspec.json.encode(event).decode() if json else _line(event)
                    # As it is: an endpoint may look like markup.
                    out.print(printable(line), markup=False, soft_wrap=True)
        await follows.close()

    run(ctx, work)


def _line(event: LiveEvent) -> str:
    shown = "shown" if event.widget_impression else ""
    took = "" if event.response_time_ms is None else f"{event.response_time_ms} ms"
    return (
        f"{event.timestamp:%H:%M:%S}  {event.status_code}  {event.method} {event.endpoint}"
        f"  {took}  {shown}  {event.origin or ''}"
    )


@usage.command("events")
def show_events(
    ctx: typer.Context,
    org: OrgOption,
    day: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="UTC day.")],
    dimension: Annotated[Dimension, typer.Option(help="Of the figure to explain.")] = "total",
    value: Annotated[str | None, typer.Option(help="As the summary names it.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the first 200 raw events behind a day's figure."""
    named = value if value is not None else NO_KEY if dimension == "api_key" else ""

    async def work(pool: Pool) -> list[StoredEvent]:
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)
            _, page = await reading.explain_figure(
                conn,
                organization.id,
                reading.FigureAsked(day=day.date(), dimension=dimension, value=named),
                cursor=None,
                limit=MAX_PAGE_SIZE,
            )
            return page.items

    columns = ("timestamp", "event_id", "endpoint", "status_code", "billable", "is_reversed")
    show(run(ctx, work), json=json, columns=columns)


@usage.command("export")
def export_usage(
    ctx: typer.Context,
    org: OrgOption,
    output: Annotated[Path, typer.Argument(help="A file to make.")],
    format: Annotated[  # noqa: A002 - it is what the option is called
        exporting.Format, typer.Option(help="csv or parquet.")
    ] = "csv",
    from_: FromOption = None,
    to: ToOption = None,
    json: JsonOption = False,
) -> None:
    """Write raw events of UTC days to a file, the last 30 if none is named."""

    async def work(pool: Pool) -> dict[str, int | str]:
        last = day_of(to) or clock.now().date()
        first = day_of(from_) or last - timedelta(days=29)
        if first > last:
            raise DateRangeInvalid(DAYS_BACKWARDS)
        async with transaction(pool, PLATFORM, read_only=True) as conn:
            organization = await get_organization(conn, org)

        async def page(day: date, after_id: int) -> list[StoredEvent]:
            async with transaction(pool, PLATFORM, read_only=True) as conn:
                return await reading.list_day(
                    conn, organization.id, day, after_id, exporting.ROWS_A_PAGE
                )

        written = 0
        try:
            with output.open("xb") as file:
                async for piece in exporting.export_usage(page, first, last, format):
                    written += file.write(piece)
        except OSError as error:
            raise FileNotWritten(f"{output} cannot be written: {error.strerror}.") from error
        return {"file": str(output), "bytes": written}

    show(run(ctx, work), json=json)


def day_of(moment: datetime | None) -> date | None:
    """Return the day that was written as an option."""
    return None if moment is None else moment.date()
