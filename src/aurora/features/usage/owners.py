"""Whose the keys are that events name, asked once for many requests and remembered for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.keys.model import KeyOwner
from aurora.features.keys.service import find_key_owners
from aurora.features.organizations.service import find_known_organizations

REMEMBERED_S: Final = 10.0
MAX_REMEMBERED: Final = 100_000


class Owners:
    """Remembers what never changes of a key: its organization and its environment.

    A key's status is not asked: late events of a revoked key are still its use. What is not there
    is not remembered, so a key that was made a moment ago is known at once.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asking = asyncio.Lock()
        self._keys: dict[UUID, KeyOwner] = {}
        self._organizations: set[UUID] = set()
        self._until_s = 0.0

    async def find(
        self, key_ids: Collection[UUID], organization_ids: Collection[UUID]
    ) -> tuple[Mapping[UUID, KeyOwner], Collection[UUID]]:
        """Return the owners of keys and the organizations, of those that there are.

        Raises:
            DatabaseUnavailable: Some are not remembered and cannot be asked for.
        """
        if self.remembered(key_ids, organization_ids) is None:
            # One at a time: a hundred requests of the same key ask once.
            async with self._asking:
                if self._lacks(key_ids, organization_ids):
                    await self._ask(key_ids, organization_ids)
        return self._keys, self._organizations

    def remembered(
        self, key_ids: Collection[UUID], organization_ids: Collection[UUID]
    ) -> tuple[Mapping[UUID, KeyOwner], Collection[UUID]] | None:
        """Return the same without asking anybody; None where some are not remembered."""
        if time.monotonic() > self._until_s or len(self._keys) > MAX_REMEMBERED:
            # Whatever is in use keeps what it was given.
            self._keys, self._organizations = {}, set()
            self._until_s = time.monotonic() + REMEMBERED_S
        if self._lacks(key_ids, organization_ids):
            return None
        return self._keys, self._organizations

    def _lacks(self, key_ids: Iterable[UUID], organization_ids: Iterable[UUID]) -> bool:
        # Loops, because this is asked for every single event.
        for key_id in key_ids:
            if key_id not in self._keys:
                return True
        for organization_id in organization_ids:
            if organization_id not in self._organizations:
                return True
        return False

    async def _ask(self, key_ids: Iterable[UUID], organization_ids: Iterable[UUID]) -> None:
        async with transaction(self._pool, PLATFORM, read_only=True) as conn:
            self._keys |= await find_key_owners(
                conn, [each for each in key_ids if each not in self._keys]
            )
            self._organizations |= await find_known_organizations(
                conn, [each for each in organization_ids if each not in self._organizations]
            )
