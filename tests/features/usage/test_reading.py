"""What is read is what was recorded: series, percentiles, explanations, and exports."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.builders import an_event, moment
from tests.features.usage.test_recording import Hotel, a_hotel, record, value

from aurora.core import clock
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, tenant, transaction
from aurora.features.usage import exporting, reading
from aurora.features.usage.jobs import fold
from aurora.features.usage.model import (
    DateRangeInvalid,
    Dimension,
    EndpointPerformance,
    OriginFigures,
    SeriesPoint,
    StoredEvent,
    TimeZoneUnsupported,
)

NOON = datetime.combine(clock.now().date() - timedelta(days=2), datetime.min.time(), UTC).replace(
    hour=12
)


@pytest.fixture
async def hotel(pool: Pool) -> Hotel:
    return await a_hotel(pool)


async def series(pool: Pool, hotel: Hotel, limit: int = 1000, **asked: Any) -> list[SeriesPoint]:
    """Return all points, page by page, as the organization itself reads them."""
    points: list[SeriesPoint] = []
    cursor = None
    while True:
        async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
            page = await reading.list_series(
                conn, hotel.id, reading.SeriesAsked(**asked), cursor=cursor, limit=limit
            )
        points += page.items
        cursor = page.next_cursor
        if cursor is None:
            return points


async def performance(pool: Pool, hotel: Hotel, **asked: Any) -> list[EndpointPerformance]:
    async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
        _, _, rows = await reading.measure_performance(
            conn, hotel.id, starts_at=asked.get("starts_at"), ends_at=asked.get("ends_at")
        )
    return rows


async def test_performance_of_a_day_is_of_a_whole_one(pool: Pool, hotel: Hotel) -> None:
    almost = clock.now() - timedelta(hours=23, minutes=59)
    await record(pool, hotel.sender, an_event(timestamp=moment(almost), response_time_ms=7))
    assert [row.requests for row in await performance(pool, hotel)] == [1]


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("total", {"": 4}),
        ("endpoint", {"/a": 3, "/b": 1}),
        ("status_class", {"2xx": 3, "5xx": 1}),
        ("country", {"NO": 2, "": 2}),
        ("origin", {"https://a.example": 1, "": 3}),
        ("widget_type", {"map": 1, "": 3}),
        ("api_key", {"live": 3, "test": 1}),
    ],
)
@pytest.mark.parametrize("is_folded", [False, True])
async def test_a_series_sums_by_any_dimension(
    dimension: Dimension, values: dict[str, int], is_folded: bool, pool: Pool, hotel: Hotel
) -> None:
    common = {"timestamp": moment(NOON), "widget_type": None, "widget_impression": False}
    await record(
        pool, hotel.sender,
        an_event(endpoint="/a", country_code="NO", **common),
        an_event(endpoint="/a", country_code="NO", **(common | {"widget_type": "map"})),
        an_event(endpoint="/a", country_code=None, origin="https://a.example", **common),
        an_event(endpoint="/b", country_code=None, status_code=500,
                 api_key_id=str(hotel.test_key), **common),
    )  # fmt: skip
    named = {"live": str(hotel.key), "test": str(hotel.test_key)}
    values = {named.get(value, value): count for value, count in values.items()}
    if is_folded:
        await fold(pool)
    for granularity in ("hour", "day", "month"):
        points = await series(
            pool, hotel, limit=1, granularity=granularity, dimension=dimension,
            first_day=NOON.date() - timedelta(days=1), last_day=NOON.date(),
        )  # fmt: skip
        assert {point.value: point.requests for point in points} == values
        assert sum(point.requests for point in points) == 4


async def test_a_day_of_a_zone_begins_at_its_own_midnight(pool: Pool, hotel: Hotel) -> None:
    day = clock.now().date() - timedelta(days=3)
    for hour, minute in ((22, 30), (23, 30)):
        at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
        await record(pool, hotel.sender, an_event(timestamp=moment(at)))
    asked: dict[str, Any] = {"first_day": day, "last_day": day + timedelta(days=1)}
    utc = await series(pool, hotel, **asked)
    assert [(point.starts_at.date(), point.requests) for point in utc] == [(day, 2)]
    tokyo = await series(pool, hotel, time_zone="Asia/Tokyo", **asked)
    assert [point.requests for point in tokyo] == [2]
    assert tokyo[0].starts_at == datetime(day.year, day.month, day.day, 15, tzinfo=UTC)


async def test_a_zone_between_hours_and_a_range_too_long_are_refused(
    pool: Pool, hotel: Hotel
) -> None:
    with pytest.raises(TimeZoneUnsupported):
        await series(pool, hotel, time_zone="Asia/Kolkata")
    today = clock.now().date()
    with pytest.raises(DateRangeInvalid):
        await series(pool, hotel, granularity="hour", first_day=today - timedelta(days=31))
    with pytest.raises(DateRangeInvalid):
        await series(pool, hotel, first_day=today, last_day=today - timedelta(days=1))


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize(("began_h", "ended_h"), [(60, 3), (20, 1), (36, -1), (11, 4), (47, 23)])
async def test_percentiles_are_within_five_percent_over_hours_and_days(
    began_h: int, ended_h: int, is_folded: bool, pool: Pool, hotel: Hotel
) -> None:
    batch = [
        an_event(
            endpoint="/a", status_code=500 if n % 10 == 0 else 200,
            response_time_ms=n * n % 3000, timestamp=moment(NOON - timedelta(minutes=7 * n)),
        )
        for n in range(600)
    ]  # fmt: skip
    await record(pool, hotel.sender, *batch)
    if is_folded:
        await fold(pool)
    starts, ends = NOON - timedelta(hours=began_h), NOON - timedelta(hours=ended_h)
    (row,) = await performance(pool, hotel, starts_at=starts, ends_at=ends)
    true = await value(
        pool,
        "select array[count(*), count(*) filter (where status_code >= 400),"
        " percentile_disc(0.5) within group (order by response_time_ms),"
        " percentile_disc(0.95) within group (order by response_time_ms),"
        " percentile_disc(0.99) within group (order by response_time_ms)]::float8[]"
        " from usage_analytics where timestamp >= %s and timestamp < %s",
        starts, ends,
    )  # fmt: skip
    assert (row.requests, row.errors) == (true[0], true[1])
    for found, expected in zip(
        (row.p50_response_time_ms, row.p95_response_time_ms, row.p99_response_time_ms),
        true[2:], strict=True,
    ):  # fmt: skip
        assert found == pytest.approx(expected, rel=0.05)


async def test_a_figure_is_explained_by_exactly_its_events(pool: Pool, hotel: Hotel) -> None:
    batch = [
        an_event(
            id=f"e{n}", endpoint=f"/{n % 2}", timestamp=moment(NOON), ip_address="192.0.2.77",
            origin="https://a.example" if n % 3 else None,
        )
        for n in range(7)
    ]  # fmt: skip
    await record(pool, hotel.sender, *batch)
    await record(pool, hotel.sender, an_event(id="x", reverses="e0", timestamp=moment(NOON)))
    await fold(pool)
    wanted: list[tuple[Dimension, str]] = [
        ("endpoint", "/0"), ("origin", ""), ("total", ""), ("status_class", "2xx"),
        ("api_key", str(hotel.key)),
    ]  # fmt: skip
    for dimension, named in wanted:
        asked = reading.FigureAsked(day=NOON.date(), dimension=dimension, value=named)
        seen: list[StoredEvent] = []
        cursor = None
        while True:
            async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
                figure, page = await reading.explain_figure(
                    conn, hotel.id, asked, cursor=cursor, limit=2
                )
            seen += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert figure.requests == sum(not event.is_reversed for event in seen) > 0
        assert len({event.id for event in seen}) == len(seen)
        assert {event.network for event in seen} == {"192.0.2.0/24"}
    async with transaction(pool, tenant(UUID(int=7)), read_only=True) as conn:
        figure, page = await reading.explain_figure(conn, hotel.id, asked, cursor=None, limit=2)
    assert (figure.requests, page.items) == (0, [])


@pytest.mark.parametrize("format_", ["csv", "parquet"])
async def test_an_export_holds_every_row_and_runs_no_formula(
    format_: exporting.Format, pool: Pool, hotel: Hotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_A_PAGE", 3)
    batch = [
        an_event(endpoint=f"=cmd|{n}", timestamp=moment(NOON - timedelta(days=n % 2)))
        for n in range(10)
    ]
    await record(pool, hotel.sender, *batch)

    held = 0

    async def page(day: date, after_id: int) -> list[StoredEvent]:
        nonlocal held
        async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
            rows = await reading.list_day(conn, hotel.id, day, after_id, 3)
        held = max(held, len(rows))
        return rows

    day = NOON.date()
    pieces = [
        piece async for piece in exporting.export_usage(page, day - timedelta(days=1), day, format_)
    ]
    assert held == 3
    assert sum(1 for piece in pieces if piece) >= 4, "it was not sent page by page"
    content = b"".join(pieces)
    if format_ == "csv":
        found = [row["endpoint"] for row in csv.DictReader(io.StringIO(content.decode()))]
        assert sorted(found) == sorted(f"'=cmd|{n}" for n in range(10))
    else:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(io.BytesIO(content))
        assert file.num_row_groups == 4
        table = file.read().to_pydict()
        assert sorted(table["endpoint"]) == sorted(f"=cmd|{n}" for n in range(10))
        assert set(table["timestamp"]) == {NOON, NOON - timedelta(days=1)}


async def test_endpoints_longer_than_an_index_holds_are_folded(pool: Pool, hotel: Hotel) -> None:
    # Not compressible, and four bytes a character: over 2,704 bytes an index entry is refused.
    long = "".join(chr(0x1F300 + n * 7919 % 700) for n in range(2_000))
    # More bytes than characters are kept, and no more characters.
    whole = "ø" * 250
    some = [an_event(endpoint=each, origin=each) for each in (long, whole)]
    await record(pool, hotel.sender, *some, an_event())
    assert await fold(pool) > 0
    async with transaction(pool, PLATFORM) as conn:
        _, _, rows = await reading.measure_performance(conn, hotel.id, starts_at=None, ends_at=None)
        found = await conn.execute(
            "select value from usage_daily where organization_id = %s and dimension = 'origin'",
            (hotel.id,),
        )
        origins = {origin for (origin,) in await found.fetchall()}
    assert {row.endpoint for row in rows} == {long[:250], whole, "/api/aurora/now"}
    assert origins >= {long[:250], whole}


@pytest.mark.parametrize("is_folded", [False, True])
async def test_top_origins_with_what_all_of_them_come_to(
    is_folded: bool, pool: Pool, hotel: Hotel
) -> None:
    shown = {"https://a.example": (1, 3), "https://b.example": (2, 0), None: (1, 0)}
    for origin, (impressions, others) in shown.items():
        await record(
            pool, hotel.sender,
            *[an_event(origin=origin, timestamp=moment(NOON)) for _ in range(impressions)],
            *[
                an_event(origin=origin, widget_impression=False, status_code=404,
                         timestamp=moment(NOON))
                for _ in range(others)
            ],
        )  # fmt: skip
    if is_folded:
        await fold(pool)

    async def origins(**asked: Any) -> list[OriginFigures]:
        async with transaction(pool, tenant(hotel.id), read_only=True) as conn:
            _, _, rows = await reading.list_origins(
                conn, hotel.id, **({"first_day": None, "last_day": None, "limit": 9} | asked)
            )
            return rows

    by_impressions = await origins(order_by="impressions")
    assert [row.origin for row in by_impressions] == [
        "https://b.example",
        None,
        "https://a.example",
    ]
    first = by_impressions[0]
    assert (first.all_requests, first.all_impressions, first.origins) == (7, 4, 3)
    (largest,) = await origins(order_by="requests", limit=1)
    assert (largest.origin, largest.requests, largest.failed) == ("https://a.example", 4, 3)
    assert (largest.all_requests, largest.origins) == (7, 3), "what is not shown is counted too"
    assert await origins(order_by="requests", last_day=NOON.date() - timedelta(days=1)) == []
