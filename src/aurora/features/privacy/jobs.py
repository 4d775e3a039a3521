"""Background work of the privacy room: stripping the raw usage of an erased organization."""

from __future__ import annotations

from uuid import UUID

from aurora.db.pool import Pool
from aurora.features.privacy.service import STRIP_JOB, strip_usage
from aurora.integrations.jobs import Job


async def strip(pool: Pool, payload: bytes) -> None:
    """Strip what an erased organization's raw rows still hold."""
    await strip_usage(pool, UUID(payload.decode()))


JOBS = (Job(STRIP_JOB, strip),)
