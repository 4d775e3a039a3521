"""What a process remembers of keys: bounded, and dropped entry by entry as things change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from aurora.features.gate.decision import as_networks
from aurora.features.gate.model import MAX_RECORDS, MAX_UNKNOWN, KeyRow
from aurora.features.keys.model import Account, KeyRecord, KeyRules

EVICTED_SHARE: Final = 64
"""When there is no room, one of so many records goes."""
LOOKED_AT: Final = 2
"""Of each record that goes, so many of the oldest are looked at for one that was not used since."""
MAX_SHARED: Final = 100_000
"""Distinct rules, and lists in them, that records share; then sharing begins anew."""

T = TypeVar("T", bound=Hashable)


class Cache:
    """Records by the SHA-256 of their keys, and which keys do not exist.

    A record takes about 0.27 kB: what it may do is kept once for all that may do the same, and of
    an organization there is one account, so that forgetting all its keys is one step.

    Attributes:
        generation: Moves with everything that is forgotten. What was read before it moved may be
            from before the change, and is not kept.
    """

    def __init__(self, *, max_records: int = MAX_RECORDS, max_unknown: int = MAX_UNKNOWN) -> None:
        self.max_records, self.max_unknown = max_records, max_unknown
        self.generation = 0
        # A plain dict: an ordered one takes 80 bytes more a record, and a miss of the CPU's caches.
        self._records: dict[bytes, KeyRecord] = {}
        self._unknown: OrderedDict[bytes, None] = OrderedDict()
        self._accounts: WeakValueDictionary[UUID, Account] = WeakValueDictionary()
        self._shared: dict[Any, Any] = {}

    def __len__(self) -> int:
        """Return how many keys are known to exist."""
        return len(self._records)

    @property
    def unknown(self) -> int:
        """Return how many keys are known not to exist."""
        return len(self._unknown)

    def find(self, digest: bytes) -> KeyRecord | None:
        """Return the record, unless something it stands on has changed."""
        record = self._records.get(digest)
        if record is None:
            return None
        if record.account.is_stale:
            del self._records[digest]
            return None
        if not record.is_recent:
            record.is_recent = True
        return record

    def knows(self, digest: bytes) -> bool:
        """Return whether the key was known to exist when it was last read, however long ago."""
        return digest in self._records

    def is_unknown(self, digest: bytes) -> bool:
        """Return whether no such key exists."""
        return digest in self._unknown

    def keep(self, digest: bytes, record: KeyRecord | None, generation: int) -> None:
        """Remember what was read when `generation` was current; None is a key nobody has."""
        if generation != self.generation:
            return
        if record is None:
            self._unknown[digest] = None
            if len(self._unknown) > self.max_unknown:
                self._unknown.popitem(last=False)
            return
        self._records[digest] = record
        if len(self._records) > self.max_records:
            self._make_room()

    def _make_room(self) -> None:
        """Forget some of the oldest, those first that were not used since they were looked at last.

        What was used gets a second chance at the young end ("clock", Corbató 1968): a use is then a
        mark on a record that is at hand anyway, and moves nothing in a table of a million.
        """
        # Several at once: finding the first of a dict skips all that went before it.
        share = max(1, self.max_records // EVICTED_SHARE)
        oldest = list(islice(self._records, LOOKED_AT * share))
        used = [digest for digest in oldest if self._records[digest].is_recent]
        idle = [digest for digest in oldest if not self._records[digest].is_recent]
        for digest in (idle + used)[:share]:
            del self._records[digest]
        for digest in used[max(share - len(idle), 0) :]:
            record = self._records.pop(digest)
            record.is_recent = False
            self._records[digest] = record

    def compile(self, row: KeyRow) -> KeyRecord:
        """Return a record of what was read; it is not kept yet."""
        account = self._accounts.get(row.organization_id)
        if account is None or (account.status, account.plan_id) != (
            row.organization_status,
            row.plan_id,
        ):
            # Only the account that stands here is found when the organization changes, so records
            # of any other must not be used, whichever of the two is the newer.
            if account is not None:
                account.is_stale = True
            account = Account(
                organization_id=row.organization_id,
                status=row.organization_status,
                plan_id=row.plan_id,
            )
            self._accounts[row.organization_id] = account
        rules = KeyRules(
            kind=row.kind,
            environment=row.environment,
            scopes=self._share(tuple(sorted(row.scopes))),
            status=row.status,
            not_before=row.not_before,
            expires_at=row.expires_at,
            allowed_origins=self._share(tuple(row.allowed_origins)),
            networks=None
            if row.ip_whitelist is None
            else self._share(as_networks(row.ip_whitelist)),
            rate_limit_tier=row.rate_limit_tier,
            rate_limit_per_hour=row.rate_limit_per_hour,
            burst_per_second=row.burst_per_second,
        )
        return KeyRecord(id=row.id, account=account, rules=self._share(rules))

    def forget(self, changed: Iterable[tuple[str | None, str | None]]) -> None:
        """Drop what changed: one key, all of an organization, or everything."""
        for organization_id, key_hash in changed:
            self.generation += 1
            if key_hash is not None:
                digest = bytes.fromhex(key_hash)
                self._records.pop(digest, None)
                self._unknown.pop(digest, None)
            elif organization_id is not None:
                account = self._accounts.pop(UUID(organization_id), None)
                if account is not None:
                    account.is_stale = True
            else:
                self.clear()

    def clear(self) -> None:
        """Drop everything."""
        self.generation += 1
        self._records.clear()
        self._unknown.clear()
        self._accounts.clear()
        self._shared.clear()

    def _share(self, value: T) -> T:
        found: T | None = self._shared.get(value)
        if found is not None:
            return found
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
        self._shared[value] = value
        return value
