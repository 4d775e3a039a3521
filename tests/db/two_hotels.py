"""Two organizations with people, keys, subscriptions, and usage, to try each other's rows with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from tests.builders import a_key, a_subscription, a_user, an_organization
from tests.conftest import LOGIN_ROLE, Postgres

from aurora.db.pool import Pool, open_pool
from aurora.db.transaction import PLATFORM, Actor, Connection, person, tenant, transaction

OPERATOR = UUID("0f000000-0000-4000-8000-000000000009")
ROLES = ("owner", "admin", "member", "viewer", "inactive")
INVOICE = """
insert into invoices (organization_id, subscription_id, due_date, period_start, period_end, subtotal,
  tax_amount, total, line_items)
values (%(organization)s, %(subscription)s, '2099-02-14', '2026-01-01', '2026-01-31', 100, 25, 125,
  '[{"description": "Premium Plan", "quantity": 1, "unit_price": 100, "amount": 100}]')
returning id
"""


@dataclass(frozen=True)
class Hotel:
    """An organization: its people by role, its keys, and what it bought."""

    id: UUID
    people: dict[str, UUID]
    users: dict[str, UUID]
    live_key: UUID
    test_key: UUID
    subscription: UUID

    def acts_as(self, role: str) -> Actor:
        """One of its people, as the token says."""
        return person(self.people[role])

    @property
    def itself(self) -> Actor:
        """The organization, through one of its keys."""
        return tenant(self.id)


async def a_hotel(conn: Connection, letter: str) -> Hotel:
    """Everything that an organization has, made as the platform makes it."""
    organization = await an_organization(conn, name=f"Hotel {letter}")
    people, users = {}, {}
    for role in ROLES:
        user = await a_user(
            conn, organization, email=f"{role}@{letter}.example",
            role="viewer" if role == "inactive" else role,
        )  # fmt: skip
        people[role], users[role] = uuid4(), user.id
        await conn.execute(
            "update users set auth_id = %s, status = %s where id = %s",
            (people[role], "inactive" if role == "inactive" else "active", user.id),
        )
    live = await a_key(conn, organization)
    test = await a_key(conn, organization, environment="test")
    subscription = await a_subscription(conn, organization)
    return Hotel(
        organization.id, people, users, live.record.id, test.record.id, subscription.id
    )  # fmt: skip


async def two_hotels(pool: Pool) -> tuple[Hotel, Hotel]:
    """Hotels A and B, each with one counted impression and one issued invoice; and an operator."""
    async with transaction(pool, PLATFORM) as conn:
        hotels = await a_hotel(conn, "a"), await a_hotel(conn, "b")
        await conn.execute(
            "insert into users (email, name, role, auth_id)"
            " values ('operator@aurora.example', 'Operator', 'owner', %s)",
            (OPERATOR,),
        )
        for hotel in hotels:
            assert await track(conn, hotel.id, hotel.live_key)
            invoice = await value(
                conn, INVOICE, organization=hotel.id, subscription=hotel.subscription
            )
            await value(conn, "select app.issue_invoice(%(id)s)", id=invoice)
    return hotels


@asynccontextmanager
async def shared_hotels(
    postgres: Postgres, template: str
) -> AsyncIterator[tuple[Pool, tuple[Hotel, Hotel]]]:
    """One database with both hotels, for all tests whose writes are refused or do not matter."""
    name = f"hotels_{uuid4().hex[:12]}"
    await postgres.clone(template, name)
    pool = await open_pool(make_conninfo(postgres.dsn(name), user=LOGIN_ROLE), name="hotels")
    try:
        yield pool, await two_hotels(pool)
    finally:
        await pool.close()
        await postgres.drop(name)


async def track(
    conn: Connection, organization: UUID, key: UUID | None, status: int = 200, **named: object
) -> bool:
    """Record one impression; say whether it counted."""
    more = "".join(f", {name} => %({name})s" for name in named)
    counted: bool = await value(
        conn,
        "select track_usage(%(organization)s, %(key)s, '/api/aurora/now', %(status)s,"
        f" p_widget_type => 'forecast', p_widget_impression => true{more})",
        organization=organization, key=key, status=status, **named,
    )  # fmt: skip
    return counted


async def rows(conn: psycopg.AsyncConnection[Any], query: str, **named: object) -> list[Any]:
    """Return what a query gives."""
    return await (await conn.execute(query.encode(), named)).fetchall()


async def value(conn: psycopg.AsyncConnection[Any], query: str, **named: object) -> Any:
    """Return the first value of the first row."""
    return (await rows(conn, query, **named))[0][0]


async def ask(pool: Pool, actor: Actor, query: str, **named: object) -> list[Any]:
    """Return what a query gives somebody, in a transaction that is committed."""
    async with transaction(pool, actor) as conn:
        return await rows(conn, query, **named)


async def change(pool: Pool, actor: Actor, statement: str, **named: object) -> int:
    """Return how many rows a statement touched for somebody, and commit."""
    async with transaction(pool, actor) as conn:
        return (await conn.execute(statement.encode(), named)).rowcount
