"""What strangers may cost, keys that leaked, and uses that are written down in batches."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.builders import a_key, a_user, an_organization

from aurora.core import clock
from aurora.core.secrets import generate_api_key
from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.gate import abuse, decision, service, store
from aurora.features.gate.abuse import FailureCaps
from aurora.features.gate.cache import Cache
from aurora.features.gate.errands import Errands
from aurora.features.gate.model import FAILURES_PER_MINUTE, KeyRow, VerifyRequest
from aurora.features.gate.service import Gate
from aurora.features.keys.model import KeyRecord, NewApiKey
from aurora.features.organizations.model import Organization

PAGE = "https://www.hotel.example"


@pytest.fixture
async def made(pool: Pool) -> tuple[Organization, NewApiKey]:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization, role="admin")
        await a_user(conn, organization, role="viewer")
        key = await a_key(conn, organization, allowed_origins=("*",))
    return organization, key


async def told(database: str) -> list[tuple[str, str]]:
    """What people were told, as titles and messages."""
    async with await psycopg.AsyncConnection.connect(database) as owner:
        cursor = await owner.execute("select title, message from notifications")
        return await cursor.fetchall()


async def test_a_secret_key_out_of_a_browser_is_refused_and_its_admins_are_told_once(
    made: tuple[Organization, NewApiKey], pool: Pool, database: str
) -> None:
    gate, (_, key) = Gate(pool), made
    asked = VerifyRequest(key=key.key, origin=PAGE)
    for _ in range(3):
        verdict = await gate.verify(asked)
        assert (verdict.code, verdict.detail) == ("ORIGIN_DENIED", "secret_key_in_browser")
        await gate.errands.flush()
    ((title, message),) = await told(database)
    assert title == "A secret API key stands in a web page"
    assert PAGE in message
    assert key.record.key_prefix in message
    assert key.key not in message
    assert (await gate.verify(VerifyRequest(key=key.key))).code == "VALID"


async def test_a_gate_that_believes_the_origin_of_a_secret_key_lets_the_leak_pass(
    made: tuple[Organization, NewApiKey],
    pool: Pool,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (decision, service):
        monkeypatch.setattr(module, "is_exposed", lambda _record, _request: False)
    gate = Gate(pool)
    assert (await gate.verify(VerifyRequest(key=made[1].key, origin=PAGE))).code == "VALID"
    await gate.errands.flush()
    assert await told(database) == []


async def test_a_publishable_key_out_of_its_own_page_passes_and_nobody_is_told(
    pool: Pool, database: str
) -> None:
    async with transaction(pool, PLATFORM) as conn:
        organization = await an_organization(conn)
        await a_user(conn, organization, role="admin")
        key = await a_key(
            conn,
            organization,
            kind="publishable",
            scopes=("widgets:embed",),
            allowed_origins=(PAGE,),
        )
    gate = Gate(pool)
    assert (await gate.verify(VerifyRequest(key=key.key, origin=PAGE))).code == "VALID"
    other = VerifyRequest(key=key.key, origin="https://elsewhere.example")
    verdict = await gate.verify(other)
    assert (verdict.code, verdict.detail) == ("ORIGIN_DENIED", None)
    await gate.errands.flush()
    assert await told(database) == []


class Time:
    """The seconds that the caps read."""

    now = 1_000.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    shown = Time()
    monkeypatch.setattr(abuse, "seconds", lambda: shown.now)
    return shown


def _let_in(caps: FailureCaps, ip: str, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        if caps.refusal(ip) is None:
            passed += 1
            caps.note(ip)
    return passed


def test_an_address_is_looked_up_for_so_often_a_minute_and_again_later(time: Time) -> None:
    caps = FailureCaps()
    assert _let_in(caps, "192.0.2.1", 500) == FAILURES_PER_MINUTE
    refused = caps.refusal("192.0.2.1")
    assert refused is not None
    assert refused.limits is not None
    assert refused.limits.retry_after_s == 1
    assert _let_in(caps, "192.0.2.2", 1) == 1
    # It empties by one a second, so a minute is a whole budget, and no minute holds two.
    time.now += 30
    assert _let_in(caps, "192.0.2.1", 500) == FAILURES_PER_MINUTE // 2
    time.now += 60
    assert _let_in(caps, "192.0.2.1", 500) == FAILURES_PER_MINUTE


def test_a_network_of_ipv6_is_one_place_and_ipv4_within_ipv6_its_own(time: Time) -> None:
    assert time.now
    caps = FailureCaps(per_minute=2)
    assert _let_in(caps, "2001:db8::1", 2) == 2
    assert _let_in(caps, "2001:db8::ffff:2", 1) == 0
    assert _let_in(caps, "2001:db8:0:1::1", 1) == 1
    assert _let_in(caps, "192.0.2.9", 2) == 2
    assert _let_in(caps, "::ffff:192.0.2.9", 1) == 0


def test_the_addresses_that_are_counted_are_bounded(time: Time) -> None:
    assert time.now
    caps = FailureCaps(max_places=10)
    for number in range(1_000):
        caps.note(f"10.0.{number // 250}.{number % 250}")
    assert len(caps) == 10


async def test_unknown_keys_of_one_address_stop_costing_look_ups(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    find = store.find_key

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await find(*arguments)

    monkeypatch.setattr(store, "find_key", counted)

    async def look_ups(gate: Gate) -> int:
        nonlocal asked
        asked = 0
        for _ in range(FAILURES_PER_MINUTE + 40):
            await gate.verify(VerifyRequest(key=generate_api_key("test").key, ip="192.0.2.1"))
        return asked

    # What empties while the test runs is let in too.
    assert FAILURES_PER_MINUTE <= await look_ups(Gate(pool)) < FAILURES_PER_MINUTE + 40
    uncapped = Gate(pool)
    uncapped.callers = FailureCaps(per_minute=1_000_000)
    assert await look_ups(uncapped) == FAILURES_PER_MINUTE + 40


def test_what_is_remembered_of_keys_nobody_has_is_bounded() -> None:
    cache = Cache(max_unknown=100)
    digests = [sha256(b"%d" % number).digest() for number in range(1_000)]
    for digest in digests:
        cache.keep(digest, None, cache.generation)
    assert cache.unknown == 100
    assert not cache.is_unknown(digests[0])
    assert cache.is_unknown(digests[-1])
    unbounded = Cache(max_unknown=10**9)
    for digest in digests:
        unbounded.keep(digest, None, unbounded.generation)
    assert unbounded.unknown == 1_000


def a_row(number: int) -> KeyRow:
    """A key as the database has it."""
    return KeyRow(
        id=UUID(int=number),
        organization_id=UUID(int=number % 7),
        organization_status="active",
        plan_id=None,
        kind="secret",
        environment="test",
        scopes=[],
        status="active",
        not_before=None,
        expires_at=None,
        allowed_origins=[],
        ip_whitelist=None,
        rate_limit_tier="demo",
        rate_limit_per_hour=1,
        burst_per_second=None,
    )


@pytest.mark.parametrize("most", [1, 100, 1_000])
def test_what_is_remembered_of_keys_is_bounded_and_the_one_used_last_stays(most: int) -> None:
    cache = Cache(max_records=most)
    # A record lives as long as somebody holds its organization's account.
    kept = []
    for number in range(3_000):
        record = cache.compile(a_row(number))
        cache.keep(b"%032d" % number, record, cache.generation)
        kept.append(record)
        assert len(cache) <= most
        if number >= 1 and most >= 10:
            assert cache.find(b"%032d" % 0) is kept[0]
    assert cache.find(b"%032d" % 2_999) is kept[-1]
    assert cache.find(b"%032d" % 1) is None


def test_a_cache_that_forgets_in_the_order_of_arrival_loses_the_one_used_most() -> None:
    class Arrival(Cache):
        """The wrong version: being used changes nothing."""

        def find(self, digest: bytes) -> KeyRecord | None:
            return self._records.get(digest)

    cache = Arrival(max_records=10)
    for number in range(20):
        cache.keep(b"%032d" % number, cache.compile(a_row(number)), cache.generation)
        cache.find(b"%032d" % 0)
    assert cache.find(b"%032d" % 0) is None


async def asked_by_one(gate: Gate, peer: str) -> set[str]:
    """The verdicts on ten keys that nobody has, each of another address, in one batch of a peer."""
    asked = [
        VerifyRequest(key=generate_api_key("production").key, ip=f"192.0.2.{place}")
        for place in range(10)
    ]
    verdicts = await asyncio.gather(*(gate.verify(each, peer=peer) for each in asked))
    return {verdict.code for verdict in verdicts}


async def test_whoever_asks_in_batches_is_capped_whomever_the_keys_came_from(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(pool)
    monkeypatch.setattr(gate, "peers", FailureCaps(per_minute=10))
    assert await asked_by_one(gate, "198.51.100.1") == {"NOT_FOUND"}
    assert await asked_by_one(gate, "198.51.100.1") == {"RATE_LIMITED"}
    assert await asked_by_one(gate, "198.51.100.2") == {"NOT_FOUND"}


async def test_a_peer_that_is_not_counted_would_ask_for_ever(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(pool)
    monkeypatch.setattr(gate, "peers", FailureCaps(per_minute=10))
    monkeypatch.setattr(gate.peers, "note", lambda _peer: None)
    assert await asked_by_one(gate, "198.51.100.1") == {"NOT_FOUND"}
    assert await asked_by_one(gate, "198.51.100.1") == {"NOT_FOUND"}


async def row_of(database: str, key: NewApiKey) -> tuple[str, datetime | None]:
    """Which version of the key's row there is, and when it was last used."""
    async with await psycopg.AsyncConnection.connect(database) as owner:
        cursor = await owner.execute(
            "select ctid::text, last_used_at from api_keys where id = %s", (key.record.id,)
        )
        ((version, used),) = await cursor.fetchall()
    return version, used


async def test_a_thousand_uses_of_a_key_are_one_write_and_the_hot_row_waits_for_none(
    made: tuple[Organization, NewApiKey], pool: Pool, database: str
) -> None:
    gate, (_, key) = Gate(pool), made
    before = await row_of(database, key)
    assert before[1] is None
    began = clock.now()
    for _ in range(1_000):
        await gate.verify(VerifyRequest(key=key.key))
    assert await row_of(database, key) == before
    await gate.errands.flush()
    version, used = await row_of(database, key)
    assert version != before[0]
    assert used is not None
    assert began <= used <= clock.now()
    # Within the minute it stays as it is; after it it is written again.
    await gate.verify(VerifyRequest(key=key.key))
    await gate.errands.flush()
    assert await row_of(database, key) == (version, used)
    gate.errands.note_use(sha256(key.key.encode()).digest(), used + timedelta(minutes=2))
    await gate.errands.flush()
    assert (await row_of(database, key))[1] == used + timedelta(minutes=2)


async def test_uses_that_are_written_at_once_rewrite_the_hot_row(
    made: tuple[Organization, NewApiKey], pool: Pool, database: str
) -> None:
    """The wrong version: each use is a write, and each write another version of the row."""
    gate, (_, key) = Gate(pool), made
    versions = set()
    for number in range(3):
        verdict = await gate.verify(VerifyRequest(key=key.key))
        assert verdict.valid
        digest = sha256(key.key.encode()).digest()
        gate.errands.note_use(digest, clock.now() + timedelta(minutes=2 * number))
        await gate.errands.flush()
        versions.add((await row_of(database, key))[0])
    assert len(versions) == 3


async def test_the_uses_that_wait_are_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurora.features.gate.errands.MAX_ERRANDS", 10)
    errands = Errands(pool)
    for number in range(100):
        errands.note_use(b"%032d" % number, clock.now())
        errands.note_exposed(b"%032d" % number, PAGE)
    assert (len(errands.used), len(errands.exposed)) == (10, 10)
    # One that waits already is kept up to date.
    late = clock.now() + timedelta(hours=1)
    errands.note_use(b"%032d" % 0, late)
    assert errands.used[b"%032d" % 0] == late
