"""What a process remembers of keys is true within the lease, however the change reached the table.

Two gates stand for two processes: each has its own pool, memory, and watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.builders import a_key, a_subscription, an_organization
from tests.conftest import LOGIN_ROLE

from aurora.core import clock
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction, transactions_in_turn
from aurora.features.gate import store
from aurora.features.gate.cache import Cache
from aurora.features.gate.model import VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.gate.watch import Watch, seconds
from aurora.features.keys.model import KeyRecord, NewApiKey
from aurora.features.keys.service import revoke_api_key, rotate_api_key, update_api_key

LEASE_MS = 1_000
# What the promise allows beside the lease: a beat that was under way when the change committed.
WITHIN_S = LEASE_MS / 1000


@dataclass
class Stage:
    """A key, the gate of the process that changes it, and that of another process."""

    owner_dsn: str
    here: Gate
    there: Gate
    made: NewApiKey

    def asked(self, **fields: Any) -> VerifyRequest:
        return VerifyRequest(key=self.made.key, **fields)

    async def sql(self, statement: str, *values: object) -> None:
        """Run a statement of the schema's owner, past all of Python."""
        async with await psycopg.AsyncConnection.connect(self.owner_dsn) as owner:
            await owner.execute(statement.encode(), values)

    async def until(self, code: str, **fields: Any) -> float:
        """Ask the other process until it answers this; return how many seconds that took."""
        began = seconds()
        while (await self.there.verify(self.asked(**fields))).code != code:
            assert seconds() - began < 3 * WITHIN_S, f"never {code}"
            await asyncio.sleep(0.005)
        return seconds() - began

    async def revoke(self) -> None:
        async with transaction(self.here.pool, PLATFORM) as conn:
            record = self.made.record
            await revoke_api_key(conn, record.organization_id, record.id)
        await self.here.catch_up()


async def is_fresh(gate: Gate) -> None:
    """Wait for the first proof; from there on the gate uses what it remembers."""
    while seconds() >= gate.watch.fresh_until:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.005)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    dsn = make_conninfo(database, user=LOGIN_ROLE)
    pools: list[Pool] = [await open_pool(dsn, name=f"gate-{place}") for place in ("here", "there")]
    here, there = (Gate(pool, lease_ms=LEASE_MS) for pool in pools)
    async with transaction(pools[0], PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_subscription(conn, organization)
        made = await a_key(conn, organization, kind="publishable", **PUBLISHABLE)
    for gate in (here, there):
        gate.start(dsn)
        await is_fresh(gate)
        assert (await gate.verify(VerifyRequest(key=made.key))).code == "VALID"
    yield Stage(database, here, there, made)
    for gate in (here, there):
        await gate.stop()
        await gate.pool.close()


ORIGIN = "https://www.hotel.example"
PUBLISHABLE: dict[str, Any] = {"scopes": ("widgets:embed",), "allowed_origins": (ORIGIN,)}


async def test_what_is_remembered_is_used_without_postgresql(stage: Stage) -> None:
    assert stage.there.verify_at_once(stage.asked()) is not None
    assert stage.there.verify_at_once(stage.asked(scope="billing:read")) is not None


async def test_a_revoked_key_is_dead_here_before_the_call_returns(stage: Stage) -> None:
    await stage.revoke()
    verdict = stage.here.verify_at_once(stage.asked())
    assert verdict is None or verdict.code == "REVOKED"
    assert (await stage.here.verify(stage.asked())).code == "REVOKED"


async def test_a_revoked_key_is_dead_in_another_process_within_the_lease(stage: Stage) -> None:
    await stage.revoke()
    assert await stage.until("REVOKED") < WITHIN_S


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "scopes": ("update api_keys set scopes = '[]' where true", "SCOPE_MISSING", {}),
    "origins": (
        "update api_keys set allowed_origins = '[\"https://other.example\"]' where true",
        "ORIGIN_DENIED",
        {"origin": ORIGIN},
    ),
    "addresses": ("update api_keys set ip_whitelist = '[]' where true", "IP_DENIED", {}),
    "expiry": (
        "update api_keys set expires_at = now() - interval '1 second' where true",
        "EXPIRED",
        {},
    ),
    "beginning": (
        "update api_keys set not_before = now() + interval '1 hour' where true",
        "NOT_YET",
        {},
    ),
    "suspended organization": (
        "update organizations set status = 'suspended' where true",
        "ORGANIZATION_SUSPENDED",
        {},
    ),
    "deleted key": ("delete from api_keys where true", "NOT_FOUND", {}),
    "another hash": (
        (
            "update api_keys set key = 'tro_live_' || 'x' where false; "
            "update api_keys set key_hash = repeat('0', 64) where true"
        ),
        "NOT_FOUND",
        {},
    ),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_whatever_changes_is_heard_of_within_the_lease(what: str, stage: Stage) -> None:
    statement, code, fields = CHANGES[what]
    if code == "SCOPE_MISSING":
        fields = {"scope": "widgets:embed"}
    assert (await stage.there.verify(stage.asked(**fields))).code == "VALID"
    for each in statement.split("; "):
        await stage.sql(each)
    assert await stage.until(code, **fields) < WITHIN_S


async def test_a_changed_limit_and_a_changed_plan_are_heard_of(stage: Stage) -> None:
    before = await stage.there.verify(stage.asked())
    assert (before.rate_limit_per_hour, before.plan_id) == (10_000, "basic")
    await stage.sql("update api_keys set rate_limit_per_hour = 7")
    await stage.sql("update subscriptions set plan_id = 'premium'")
    await asyncio.sleep(WITHIN_S)
    after = stage.there.verify_at_once(stage.asked()) or await stage.there.verify(stage.asked())
    assert (after.rate_limit_per_hour, after.plan_id) == (7, "premium")


async def test_a_key_that_was_unknown_is_known_once_it_is_made(stage: Stage) -> None:
    made = "tro_test_DemoKeyForTryingAuroraOut12uJbbW"
    asked = VerifyRequest(key=made)
    assert (await stage.there.verify(asked)).code == "NOT_FOUND"
    assert stage.there.verify_at_once(asked) is not None
    async with transaction(stage.here.pool, PLATFORM) as conn:
        await a_key(conn, await an_organization(conn), key=made, environment="test")
    await stage.here.catch_up()
    assert (await stage.here.verify(asked)).code == "VALID"
    await asyncio.sleep(WITHIN_S)
    assert (await stage.there.verify(asked)).code == "VALID"


async def test_using_a_key_or_renaming_it_makes_nobody_forget_it(stage: Stage) -> None:
    await stage.sql("update api_keys set last_used_at = now(), name = 'x', metadata = '{\"a\": 1}'")
    await stage.sql("update organizations set name = 'Another'")
    await stage.here.catch_up()
    assert stage.here.verify_at_once(stage.asked()) is not None


async def without_notifications(stage: Stage) -> None:
    """Drop every notification: the trigger goes on noting, and nobody is woken."""
    async with await psycopg.AsyncConnection.connect(stage.owner_dsn) as owner:
        cursor = await owner.execute("select pg_get_functiondef('app.note_gate_change'::regproc)")
        ((source,),) = await cursor.fetchall()
        assert "notify aurora_gate;" in source
        await owner.execute(source.replace("notify aurora_gate;", "").encode())


async def test_lost_notifications_delay_nothing_beyond_the_lease(stage: Stage) -> None:
    await without_notifications(stage)
    await stage.revoke()
    assert await stage.until("REVOKED") < WITHIN_S


async def test_changes_are_heard_of_in_whatever_order_they_commit(stage: Stage) -> None:
    """The earlier row becomes visible after the later one was read: a counter would skip it."""
    await without_notifications(stage)
    async with await psycopg.AsyncConnection.connect(stage.owner_dsn) as slow:
        await slow.execute("update api_keys set status = 'revoked'")
        await stage.sql("insert into gate_changes (key_hash) values (repeat('1', 64))")
        await asyncio.sleep(2 * WITHIN_S)
        assert stage.there.verify_at_once(stage.asked()) is not None
        await slow.commit()
    assert await stage.until("REVOKED") < WITHIN_S


async def test_what_was_read_before_a_change_is_not_remembered_after_it(stage: Stage) -> None:
    """A look-up that began before the change comes back after everybody has heard of it."""
    gate = stage.here
    stale = await _row_before(stage, stage.revoke)
    generation, record = stale
    gate.cache.keep(gate_digest(stage.made.key), record, generation)
    assert gate.verify_at_once(stage.asked()) is None
    assert (await gate.verify(stage.asked())).code == "REVOKED"


async def _row_before(stage: Stage, change: Callable[[], Awaitable[None]]) -> tuple[int, Any]:
    gate = stage.here
    generation = gate.cache.generation
    async with transactions_in_turn(gate.pool, PLATFORM, read_only=True) as turns:
        row = await store.find_key(turns, gate_digest(stage.made.key).hex())
    assert row is not None
    await change()
    return generation, gate.cache.compile(row)


def gate_digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


async def test_a_rotated_key_goes_on_for_the_overlap_and_no_longer(stage: Stage) -> None:
    record = stage.made.record
    async with transaction(stage.here.pool, PLATFORM) as conn:
        fresh = await rotate_api_key(
            conn, record.organization_id, record.id, overlap=timedelta(hours=1)
        )
    await stage.here.catch_up()
    new = VerifyRequest(key=fresh.key)
    assert (await stage.here.verify(stage.asked())).code == "VALID"
    assert (await stage.here.verify(new)).code == "VALID"
    with clock.freeze(clock.now() + timedelta(hours=1)):
        assert (await stage.here.verify(stage.asked())).code == "EXPIRED"
        assert (await stage.here.verify(new)).code == "VALID"


async def test_a_process_that_cannot_read_the_log_asks_postgresql_each_time(stage: Stage) -> None:
    await stage.sql("revoke select on gate_changes from service_role")
    began = seconds()
    while stage.there.verify_at_once(stage.asked()) is not None:
        assert seconds() - began < WITHIN_S + 0.2
        await asyncio.sleep(0.005)
    assert (await stage.there.verify(stage.asked())).code == "VALID"
    await stage.sql("update api_keys set status = 'revoked'")
    assert (await stage.there.verify(stage.asked())).code == "REVOKED"


async def test_without_postgresql_nothing_is_valid(stage: Stage) -> None:
    await stage.there.pool.close()
    stage.there.watch.forget_all()
    assert (await stage.there.verify(stage.asked())).code == "UNAVAILABLE"


class NeverExpires(Watch):
    """The mutant that trusts notifications alone: what was remembered stays, come what may."""

    @property
    def fresh_until(self) -> float:
        return float("inf")

    @fresh_until.setter
    def fresh_until(self, _: float) -> None:
        return


async def test_a_gate_without_a_lease_would_let_a_revoked_key_pass(stage: Stage) -> None:
    """What the lease is for: the same fault with the wrong version, and the key lives on."""
    wrong = Gate(stage.there.pool)
    wrong.watch = NeverExpires(wrong.cache)
    assert (await wrong.verify(stage.asked())).code == "VALID"
    await stage.revoke()
    await asyncio.sleep(WITHIN_S)
    assert (await wrong.verify(stage.asked())).code == "VALID"
    assert (await stage.there.verify(stage.asked())).code == "REVOKED"


class PlainTtl(Cache):
    """The mutant that most write: an entry is good for a while, whatever changes meanwhile."""

    TTL_S = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._until_s: dict[bytes, float] = {}

    def keep(self, digest: bytes, record: KeyRecord | None, generation: int) -> None:
        self._until_s[digest] = seconds() + self.TTL_S
        super().keep(digest, record, generation)

    def find(self, digest: bytes) -> KeyRecord | None:
        return super().find(digest) if seconds() < self._until_s.get(digest, 0.0) else None

    def forget(self, changed: Iterable[tuple[str | None, str | None]]) -> None:
        """Hear of nothing."""


async def test_a_cache_with_a_plain_time_to_live_would_let_a_revoked_key_pass(
    stage: Stage,
) -> None:
    wrong = Gate(stage.there.pool)
    wrong.cache = PlainTtl()
    wrong.watch = NeverExpires(wrong.cache)
    asked = stage.asked(scope="widgets:embed")
    assert (await wrong.verify(asked)).code == "VALID"
    await stage.sql("update api_keys set status = 'revoked'")
    wrong.cache.forget([(None, None)])
    await asyncio.sleep(WITHIN_S)
    assert (await wrong.verify(asked)).code == "VALID"
    assert (await stage.there.verify(asked)).code == "REVOKED"


async def test_a_changed_key_is_told_by_the_service_too(stage: Stage) -> None:
    record = stage.made.record
    async with transaction(stage.here.pool, PLATFORM) as conn:
        await update_api_key(
            conn, record.organization_id, record.id, {"ip_whitelist": ["10.0.0.0/8"]}
        )
    await stage.here.catch_up()
    assert (await stage.here.verify(stage.asked(ip="192.0.2.1"))).code == "IP_DENIED"
    assert (await stage.here.verify(stage.asked(ip="10.9.9.9"))).code == "VALID"
