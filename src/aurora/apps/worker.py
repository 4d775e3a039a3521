"""The worker: runs every room's jobs and crons until it is told to stop."""

from __future__ import annotations

import asyncio

from aurora.apps import house
from aurora.db.pool import open_pool
from aurora.integrations.jobs import run_worker
from aurora.integrations.mail import Post, mail_job

WORKER_CONNECTIONS = 4


async def work(dsn: str, post: Post, stop: asyncio.Event) -> None:
    """Run until `stop` is set; what has begun is finished first.

    Args:
        dsn: The application's login.
        post: How mail leaves.
        stop: Set by a signal.
    """
    pool = await open_pool(dsn, max_size=WORKER_CONNECTIONS, name="aurora-worker")
    try:
        await run_worker(dsn, pool, house.crons(), (*house.jobs(), mail_job(post)), stop)
    finally:
        await pool.close()
