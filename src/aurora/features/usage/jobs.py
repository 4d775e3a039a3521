"""Background work of the usage room: folding, visitors, partitions, and forgetting ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.usage import keeping, service
from aurora.integrations.jobs import Cron

JOB_TIMEOUT_MS = 120_000


async def repeat(pool: Pool, step: Callable[[Connection], Awaitable[int]]) -> int:
    """Run a bounded step, each in its own transaction, until it finds nothing; return the sum."""
    done = 0
    for _ in range(service.MAX_MAINTENANCE_ROUNDS):
        async with transaction(pool, PLATFORM, statement_timeout_ms=JOB_TIMEOUT_MS) as conn:
            count = await step(conn)
        if not count:
            break
        done += count
    return done


async def fold(pool: Pool) -> int:
    """Fold all deltas that are there."""
    return await repeat(pool, service.fold_usage)


async def count_visitors(pool: Pool) -> int:
    """Count the visitors of all closed days that are not counted."""
    return await repeat(pool, service.count_visitors)


async def forget_event_ids(pool: Pool) -> int:
    """Forget all ids that no late event can bring again."""
    return await repeat(pool, service.forget_event_ids)


async def forget_visitor_salts(pool: Pool) -> int:
    """Remove the salts of all days that no late event can reach."""
    return await repeat(pool, service.forget_visitor_salts)


async def ensure_partitions(pool: Pool) -> int:
    """Make the months ahead."""
    async with transaction(pool, PLATFORM) as conn:
        return await service.ensure_partitions(conn)


async def truncate_addresses(pool: Pool) -> int:
    """Truncate addresses of all days that are older than whole ones are kept."""
    return await repeat(pool, keeping.truncate_addresses)


async def drop_months(pool: Pool) -> int:
    """Drop all months of raw rows that are kept no longer, each in its own transaction."""
    await fold(pool)
    return await repeat(pool, keeping.drop_month)


async def drop_hours(pool: Pool) -> int:
    """Remove all hourly sums that are kept no longer."""
    return await repeat(pool, keeping.drop_hours)


CRONS = (
    Cron("usage_fold", "* * * * *", fold),
    Cron("usage_count_visitors", "7 * * * *", count_visitors),
    Cron("usage_ensure_partitions", "17 2 * * *", ensure_partitions),
    Cron("usage_forget_event_ids", "37 3 * * *", forget_event_ids),
    Cron("usage_forget_visitor_salts", "47 3 * * *", forget_visitor_salts),
    Cron("usage_truncate_addresses", "7 4 * * *", truncate_addresses),
    Cron("usage_drop_months", "27 4 * * *", drop_months),
    Cron("usage_drop_hours", "47 4 * * *", drop_hours),
)
