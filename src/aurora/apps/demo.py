"""The demo organization: the seed's fixed rows, and a year of usage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Final
from uuid import UUID

from aurora.apps.demo_traffic import DemoKey, generate_year
from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.service import find_known_organizations
from aurora.features.usage import jobs as usage_jobs
from aurora.features.usage.model import UsageEvent
from aurora.features.usage.service import (
    Sender,
    ensure_partitions_between,
    find_import_position,
    record_usage,
    save_import_position,
)

SEED: Final = Path(__file__).parent / "demo.sql"
DEMO_KEY: Final = "tro_test_DemoKeyForTryingAuroraOut12uJbbW"
DEMO_EVENTS: Final = 300_000
ORGANIZATION_ID: Final = UUID("00000000-0000-0000-0000-000000000001")
KEYS: Final = (
    DemoKey(UUID("00000000-0000-0000-0000-000000000003"), "test", 1),
    DemoKey(UUID("00000000-0000-0000-0000-000000000004"), "production", 12),
)
DAYS_IN_YEAR: Final = 367
BATCH_SIZE: Final = 5_000
BATCHES_IN_FLIGHT: Final = 3
FOLD_EVERY_BATCHES: Final = 10
INGEST_TIMEOUT_MS: Final = 60_000
_CHECKPOINT: Final = "demo:year"


async def make_demo(
    pool: Pool,
    *,
    events: int = DEMO_EVENTS,
    seed: int = 1,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> int:
    """Make the demo organization and its year; return how many events this call added.

    Doing it again adds nothing; doing it again after it was interrupted adds what is missing,
    because the events and their ids follow from the seed and the day it was begun. A demo that was
    deleted or erased stays so.

    Args:
        pool: The application's.
        events: How many the year has.
        seed: Other seeds give other years.
        on_progress: Called with the number of events each batch held.

    Raises:
        SlugTaken: Some other organization is called demo.
    """
    async with transaction(pool, PLATFORM) as conn:
        await conn.execute(SEED.read_bytes())
        if not await find_known_organizations(conn, [ORGANIZATION_ID]):
            return 0
        position = await find_import_position(conn, ORGANIZATION_ID, _CHECKPOINT)
        if position is not None and position["is_done"]:
            return 0
        end = clock.now().date() if position is None else date.fromisoformat(position["end"])
        # The whole year at once: batches that each met a missing month would wait for each other.
        await ensure_partitions_between(conn, end - timedelta(days=DAYS_IN_YEAR), end)
        await _save(conn, end, is_done=False)
    year = generate_year(end=end, seed=seed, keys=KEYS, events=events)
    try:
        added = await _record_year(pool, year, on_progress)
    except* AuroraError as failed:
        # One batch failing stops the others, which so end with less to say.
        raise failed.exceptions[0] from None
    await usage_jobs.fold(pool)
    await usage_jobs.count_visitors(pool)
    async with transaction(pool, PLATFORM) as conn:
        await _save(conn, end, is_done=True)
    return added


async def _record_year(
    pool: Pool, year: Iterator[UsageEvent], on_progress: Callable[[int], None]
) -> int:
    """Store the events, some batches at once, and fold meanwhile what is stored."""
    room, added, folding = asyncio.Semaphore(BATCHES_IN_FLIGHT), 0, None

    async def record(batch: list[UsageEvent]) -> None:
        nonlocal added
        try:
            added += await _record(pool, batch)
        finally:
            room.release()
        on_progress(len(batch))

    async with asyncio.TaskGroup() as tasks:
        for number in count(1):
            batch = list(islice(year, BATCH_SIZE))
            if not batch:
                break
            await room.acquire()
            tasks.create_task(record(batch))
            if number % FOLD_EVERY_BATCHES == 0 and (folding is None or folding.done()):
                folding = tasks.create_task(usage_jobs.fold(pool))
    return added


async def _record(pool: Pool, batch: list[UsageEvent]) -> int:
    sender = Sender(organization_id=ORGANIZATION_ID, backfill=True)
    async with transaction(pool, PLATFORM, statement_timeout_ms=INGEST_TIMEOUT_MS) as conn:
        receipt = await record_usage(conn, list(enumerate(batch)), sender)
    return receipt.accepted


async def _save(conn: Connection, end: date, *, is_done: bool) -> None:
    await save_import_position(
        conn,
        ORGANIZATION_ID,
        _CHECKPOINT,
        file_name="aurora demo",
        position={"end": end.isoformat(), "is_done": is_done},
    )
