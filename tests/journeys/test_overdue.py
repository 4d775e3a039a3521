"""What becomes of a customer who does not pay, from the invoice to the gate and back."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import psycopg
from tests.builders import a_slug
from tests.journeys.conftest import Aurora, Customer, sign_up

PATIENCE_S = 10.0
"""On a busy machine; the lease is a second."""


async def verdict(server: Aurora, customer: Customer, expected: str) -> str:
    """Return what the gate says of the key: what is expected, or what it said at the end."""
    until = time.monotonic() + PATIENCE_S
    while True:
        async with server.client("") as anybody:
            answer = await anybody.post("/v1/keys/verify", json={"key": customer.key})
        code: str = answer.json()["code"]
        if code == expected or time.monotonic() > until:
            return code
        await asyncio.sleep(0.1)


def let_days_pass(server: Aurora, days: int) -> None:
    """Move the database's clock, by which everything is due."""
    with psycopg.connect(server.owner_dsn) as owner:
        owner.execute("delete from app.clock")
        owner.execute("insert into app.clock (shift) values (make_interval(days => %s))", (days,))


async def test_the_keys_of_who_does_not_pay_are_refused_until_the_payment(server: Aurora) -> None:
    customer = await sign_up(server)
    async with server.client() as operator:
        path = f"/v1/organizations/{customer.id}"
        started = await operator.post(f"{path}/subscription", json={"plan": "basic"})
        assert started.status_code == 201, started.text
        person = {"email": f"{a_slug()}@hotel.example", "name": "Kari", "role": "owner"}
        assert (await operator.post(f"{path}/users", json=person)).status_code == 201
    today = datetime.now(UTC).astimezone(ZoneInfo("Europe/Oslo")).date()
    [issued] = server.json("billing", "run", "--as-of", f"{today}")["issued"]
    assert await verdict(server, customer, "VALID") == "VALID"
    try:
        # Due after 14 days; reminders 7 and 21 days later, and 45 days later the end.
        for days, expected in ((22, (1, 0)), (36, (1, 0)), (60, (0, 1))):
            let_days_pass(server, days)
            chased = server.json("billing", "chase")
            assert (chased["reminded"], chased["suspended"]) == expected, days
        assert await verdict(server, customer, "ORGANIZATION_SUSPENDED") == "ORGANIZATION_SUSPENDED"
        paid = server.cli("invoice", "pay", issued["invoice_number"], "--reference", "bank 1")
        assert paid.code == 0, paid.err
        assert await verdict(server, customer, "VALID") == "VALID"
    finally:
        let_days_pass(server, 0)
