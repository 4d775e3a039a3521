"""Measures what the audit adds to a change: alone, in bulk, among eight writers, and in billing.

The peer is the same database without the triggers; the two take turns in every round, and medians
are compared. The check of the chains is measured beside its limit, hashing the same events without
reading them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from uuid import UUID

import psycopg
from bench.rig.homes import a_home

from aurora.db.embedded import EmbeddedServer
from aurora.db.migrator import migrate
from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.audit.chain import digest_of
from aurora.features.audit.service import verify_chains
from aurora.features.audit.store import stream_chain
from aurora.features.invoices.billing_run import run_billing
from aurora.features.organizations.service import create_organization
from aurora.features.subscriptions.service import start_subscription
from aurora.integrations.jobs import install

GOAL_MS: Final = 1.0
ROUNDS: Final = 15
CHANGES: Final = 40
BULK_ROWS: Final = 1_000
BULK_ROUNDS: Final = 5
WRITERS: Final = 8
BILLED: Final = 20

INSERT_KEY: Final = """\
insert into api_keys (organization_id, key_prefix, key_hash, name)
values (%s, 'tro_live_abcdef', encode(sha256(gen_random_uuid()::text::bytea), 'hex'), 'A key')"""
INSERT_USERS: Final = """\
insert into users (organization_id, email, name)
select %s, gen_random_uuid() || '@hotel.example', 'Kari' from generate_series(1, %s)"""


@dataclass
class Side:
    """One of the two databases, and what was measured on it, in ms."""

    pool: Pool
    organization: UUID
    times: dict[str, list[float]] = field(default_factory=dict)

    async def measure(self, name: str, per: int, work: Callable[[], Awaitable[object]]) -> None:
        """Note how long one of `per` changes took."""
        began = time.perf_counter()
        await work()
        self.times.setdefault(name, []).append((time.perf_counter() - began) * 1000 / per)

    async def insert_keys(self, count: int = CHANGES) -> None:
        """Insert keys, each in a transaction of its own."""
        for _ in range(count):
            async with transaction(self.pool, PLATFORM) as conn:
                await conn.execute(INSERT_KEY, (self.organization,))

    async def insert_users(self) -> None:
        """Insert many rows in one transaction."""
        async with transaction(self.pool, PLATFORM) as conn:
            await conn.execute(INSERT_USERS, (self.organization, BULK_ROWS))

    async def write_at_once(self) -> None:
        """Let all writers insert into one organization."""
        await asyncio.gather(*(self.insert_keys(CHANGES // 4) for _ in range(WRITERS)))

    async def bill(self) -> None:
        """Issue the invoices of one month."""
        month = 1 + len(self.times.get("invoice", ()))
        run = await run_billing(self.pool, as_of=date(2026, month, 20))
        if len(run.issued) != BILLED:
            raise RuntimeError(f"{len(run.issued)} invoices instead of {BILLED}")


async def a_side(server: EmbeddedServer, database: str) -> Side:
    """Return a database with an organization to write into and others to bill."""
    pool = await open_pool(server.dsn(database, "aurora_app"), max_size=WRITERS, name="bench")
    async with transaction(pool, PLATFORM) as conn:
        made = await create_organization(conn, name="A", slug="a", email="a@hotel.example")
        for number in range(BILLED):
            billed = await create_organization(
                conn, name="B", slug=f"b-{number}", email="b@hotel.example"
            )
            await start_subscription(
                conn, organization_id=billed.id, plan_id="basic", at=date(2026, 1, 15)
            )
    return Side(pool, made.id)


async def check_rates(side: Side) -> tuple[float, float]:
    """Return events checked a second, and events hashed a second with nothing else to do."""
    async with transaction(side.pool, PLATFORM, read_only=True) as conn:
        began = time.perf_counter()
        found = await verify_chains(conn)
        checked = found.events / (time.perf_counter() - began)
        if found.broken:
            raise RuntimeError(f"the chains are broken: {found.broken}")
        events = [event async for event in stream_chain(conn, side.organization)]
    began = time.perf_counter()
    for event in events:
        digest_of(event)
    return checked, len(events) / (time.perf_counter() - began)


async def compare(server: EmbeddedServer) -> tuple[Side, Side, tuple[float, float]]:
    """Let the two databases take turns."""
    async with await psycopg.AsyncConnection.connect(
        server.dsn("postgres"), autocommit=True
    ) as admin:
        await admin.execute("create database audited template template0")
        await migrate(server.dsn("audited"))
        await install(server.dsn("audited"))
        await admin.execute("create database bare template audited")
    async with await psycopg.AsyncConnection.connect(server.dsn("bare")) as owner:
        cursor = await owner.execute(
            "select tgrelid::regclass::text from pg_trigger where tgname = 'audit_change'"
        )
        for (table,) in await cursor.fetchall():
            await owner.execute(f"drop trigger audit_change on {table}".encode())
    sides = await a_side(server, "audited"), await a_side(server, "bare")
    for number in range(ROUNDS):
        for side in sides if number % 2 else reversed(sides):
            await side.measure("change", CHANGES, side.insert_keys)
            await side.measure("of eight writers", WRITERS * (CHANGES // 4), side.write_at_once)
            if number < BULK_ROUNDS:
                await side.measure("row in bulk", BULK_ROWS, side.insert_users)
                await side.measure("invoice", BILLED, side.bill)
    rates = await check_rates(sides[0])
    for side in sides:
        await side.pool.close()
    return *sides, rates


def main() -> None:
    """Run, print a table, and end with the JSON line."""
    with a_home() as home:
        audited, bare, (checked, hashed) = asyncio.run(compare(EmbeddedServer.start(home)))
    details: dict[str, float] = {}
    for name in audited.times:
        with_audit, without = (statistics.median(side.times[name]) for side in (audited, bare))
        print(f"{name:18} {without:.3f} ms bare, {with_audit:.3f} ms audited")
        details[f"{name}, bare, ms"] = round(without, 3)
        details[f"{name}, audited, ms"] = round(with_audit, 3)
    print(f"check              {checked:,.0f} events a second; hashing alone {hashed:,.0f}")
    details |= {"checked per second": round(checked), "hashed per second": round(hashed)}
    added = details["change, audited, ms"] - details["change, bare, ms"]
    result = {
        "name": "audit: added to a change",
        "value": round(added, 3),
        "unit": "ms",
        "goal": f"≤ {GOAL_MS} ms",
        "met": added <= GOAL_MS,
        "details": details,
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
