"""The gate of one process: remembers keys, and decides about requests that carry them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog

from aurora.core import clock
from aurora.core.errors import AuroraError
from aurora.core.secrets import is_well_formed
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transactions_in_turn
from aurora.features.gate import store
from aurora.features.gate.abuse import FailureCaps
from aurora.features.gate.cache import Cache
from aurora.features.gate.decision import decide, is_exposed
from aurora.features.gate.errands import Errands
from aurora.features.gate.model import (
    LEASE_MS,
    LOOK_UP_TIMEOUT_S,
    MAX_LOOK_UPS,
    MAX_RECORDS,
    PEER_FAILURES_PER_MINUTE,
    Code,
    Limiter,
    Verdict,
    VerifyRequest,
)
from aurora.features.gate.watch import Watch, seconds
from aurora.features.keys.model import KeyRecord
from aurora.features.limits.model import Taken

MALFORMED: Final = Verdict(valid=False, code="MALFORMED")
NOT_FOUND: Final = Verdict(valid=False, code="NOT_FOUND")
UNAVAILABLE: Final = Verdict(valid=False, code="UNAVAILABLE")

_NO_MATTER: Final = datetime.max.replace(tzinfo=UTC)

log = structlog.get_logger(__name__)


class Gate:
    """Decides about requests; one a process.

    Args:
        pool: Where keys are looked up that are not remembered.
        limiter: Asked once everything else is right; None lets any number pass.
        lease_ms: How old the proof may be that nothing has changed (AURORA_KEY_LEASE_MS).
        max_records: How many keys are remembered.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        limiter: Limiter | None = None,
        lease_ms: int = LEASE_MS,
        max_records: int = MAX_RECORDS,
    ) -> None:
        self.pool, self.limiter = pool, limiter
        self.cache = Cache(max_records=max_records)
        self.watch = Watch(self.cache, lease_ms=lease_ms)
        self.errands = Errands(pool)
        self.callers, self.peers = FailureCaps(), FailureCaps(per_minute=PEER_FAILURES_PER_MINUTE)
        self._look_up_timeout_s = min(LOOK_UP_TIMEOUT_S, self.watch.lease_s)
        self._looking: dict[tuple[bytes, int], asyncio.Task[KeyRecord | None]] = {}
        self._running: list[asyncio.Task[None]] = []

    def start(self, dsn: str) -> None:
        """Begin to watch for changes; before that every request reads PostgreSQL."""
        self._running = [
            asyncio.create_task(self.watch.run(dsn), name="gate-watch"),
            asyncio.create_task(self.errands.run(), name="gate-errands"),
        ]

    async def stop(self) -> None:
        """Watch no longer, and use nothing that is remembered."""
        for task in self._running:
            task.cancel()
        for task in self._running:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.watch.forget_all()
        await self.errands.flush()

    async def catch_up(self) -> None:
        """Let every change that is committed by now take effect here before this returns."""
        await self.watch.catch_up(self.pool)

    def verify_at_once(self, request: VerifyRequest, *, takes: bool = True) -> Verdict | None:
        """Return the verdict, or None where it takes PostgreSQL to know it; see `verify`."""
        digest = _digest(request.key)
        if seconds() < self.watch.fresh_until:
            record = self.cache.find(digest)
            if record is not None:
                code = self._decide(digest, record, request)
                if code != "VALID" or self.limiter is None or not takes:
                    return _verdict(code, record, request, None)
                taken = self.limiter.take(record, request.scope)
                return None if taken is None else _verdict(taken.code, record, request, taken)
            if self.cache.is_unknown(digest):
                return NOT_FOUND
        # A typo costs no look-up.
        return None if is_well_formed(request.key) else MALFORMED

    async def verify(
        self, request: VerifyRequest, *, peer: str | None = None, takes: bool = True
    ) -> Verdict:
        """Return whether a request with this key may pass, and why.

        Args:
            request: With the key.
            peer: Who asks, where that is not whom it is asked about.
            takes: Whether it takes of the key's limit and the organization's quota.
        """
        verdict = self.verify_at_once(request, takes=takes)
        if verdict is not None:
            return verdict
        digest = _digest(request.key)
        if not self.cache.knows(digest):
            verdict = self.callers.refusal(request.ip) or self.peers.refusal(peer)
            if verdict is not None:
                return verdict
        try:
            record = await self._find(digest)
            if record is None:
                self.callers.note(request.ip)
                self.peers.note(peer)
                return NOT_FOUND
            code = self._decide(digest, record, request)
            if code != "VALID" or self.limiter is None or not takes:
                return _verdict(code, record, request, None)
            taken = self.limiter.take(record, request.scope)
            if taken is None:
                taken = await self.limiter.lease(record, request.scope)
        except (psycopg.Error, AuroraError, OSError, TimeoutError) as error:
            log.warning("gate_unavailable", error=type(error).__name__)
            return UNAVAILABLE
        return _verdict(taken.code, record, request, taken)

    def _decide(self, digest: bytes, record: KeyRecord, request: VerifyRequest) -> Code:
        rules = record.rules
        is_noted = record.noted_in == self.errands.round
        # A moment costs a tenth of the decision, and most keys have no dates to hold it against.
        is_timeless = is_noted and rules.expires_at is None and rules.not_before is None
        now = _NO_MATTER if is_timeless else clock.now()
        code = decide(record, request, now)
        if code == "VALID":
            if not is_noted:
                record.noted_in = self.errands.round
                self.errands.note_use(digest, now)
        elif code == "ORIGIN_DENIED" and is_exposed(record, request) and request.origin:
            self.errands.note_exposed(digest, request.origin)
        return code

    async def _find(self, digest: bytes) -> KeyRecord | None:
        if seconds() < self.watch.fresh_until:
            record = self.cache.find(digest)
            if record is not None:
                return record
        # Whoever asks for the same key meanwhile waits for the same answer, but never for one that
        # was begun before something was forgotten.
        generation = self.cache.generation
        task = self._looking.get((digest, generation))
        if task is None:
            if len(self._looking) >= MAX_LOOK_UPS:
                raise TimeoutError
            task = asyncio.create_task(self._look_up(digest, generation))
            self._looking[digest, generation] = task
            task.add_done_callback(lambda done: self._looked_up(digest, generation, done))
        # Not asyncio.timeout: see watch._bounded. What is late may still be remembered.
        done, _ = await asyncio.wait({task}, timeout=self._look_up_timeout_s)
        if not done:
            raise TimeoutError
        return task.result()

    def _looked_up(
        self, digest: bytes, generation: int, done: asyncio.Task[KeyRecord | None]
    ) -> None:
        self._looking.pop((digest, generation), None)
        if not done.cancelled():
            # Everybody who waited may have left: a failure then is nobody's to hear.
            done.exception()

    async def _look_up(self, digest: bytes, generation: int) -> KeyRecord | None:
        # Somebody waits for it, so it is one message and not three.
        async with transactions_in_turn(self.pool, PLATFORM, read_only=True) as turns:
            row = await store.find_key(turns, digest.hex())
        record = None if row is None else self.cache.compile(row)
        self.cache.keep(digest, record, generation)
        return record


def _digest(key: str) -> bytes:
    # A lone surrogate from a hostile body must not raise.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _verdict(code: Code, record: KeyRecord, request: VerifyRequest, taken: Taken | None) -> Verdict:
    is_leak = code == "ORIGIN_DENIED" and is_exposed(record, request)
    rules, account = record.rules, record.account
    return Verdict(
        valid=code == "VALID",
        code=code,
        detail="secret_key_in_browser" if is_leak else None,
        organization_id=account.organization_id,
        key_id=record.id,
        environment=rules.environment,
        kind=rules.kind,
        scopes=rules.scopes,
        plan_id=account.plan_id,
        rate_limit_tier=rules.rate_limit_tier,
        rate_limit_per_hour=rules.rate_limit_per_hour,
        limits=taken,
    )
