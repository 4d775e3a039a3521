"""Keys as the limiter sees them, and windows that are away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg

from aurora.db.pool import Pool
from aurora.features.limits.budget import Asked, Unused
from aurora.features.limits.model import Lease
from aurora.features.limits.windows import PooledWindows


@dataclass(frozen=True, slots=True, kw_only=True)
class AKey:
    """A key with its limits; each is another one."""

    id: UUID = field(default_factory=uuid4)
    organization_id: UUID = field(default_factory=uuid4)
    rate_limit_per_hour: int = 100
    burst_per_second: int | None = None
    kind: str = "secret"
    environment: str = "test"


class Watched(PooledWindows):
    """PostgreSQL's windows: counts what is asked, and goes away or waits when told to."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.asked: list[Asked] = []
        self.returned: list[Unused] = []
        self.is_away = False
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def lease(self, organization_id: UUID, key_id: UUID, asked: Asked) -> Lease:
        self.asked.append(asked)
        await self.may_go.wait()
        if self.is_away:
            raise psycopg.OperationalError
        return await super().lease(organization_id, key_id, asked)

    async def give_back(self, unused: Sequence[Unused]) -> None:
        if self.is_away:
            raise psycopg.OperationalError
        self.returned += unused
        await super().give_back(unused)
